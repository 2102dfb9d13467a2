"""The commands that show what there is: a model's layers, a study's front, its dashboard, the cache of kernels."""

from __future__ import annotations

import csv
import json
import socket
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from lrf_optuna.cli import options as o
from lrf_optuna.cli.studies import check_file, study_of
from lrf_optuna.errors import LrfError
from lrf_optuna.processes import quiet
from lrf_optuna.progress_bars import Bars
from lrf_optuna.report.tables import front_table, inventory_table, method_counts, uncounted_remark
from lrf_optuna.sections import MODEL_FORMS


@o.with_settings("search.exclude", "search.only", "search.rank_multiple")
def layers(settings: dict[str, Any], model: o.Model, size: o.Size = None, as_json: o.AsJson = False) -> None:
    """List every layer: its share of parameters and MACs, and whether it can be factorized or why not."""
    search = study_of(None, {"model.path": model, "data.path": "digits", **settings}).search
    shape = tuple(map(int, o.numbers("--size", size, "224,224,3")))
    check_file("model file", model, MODEL_FORMS)
    with quiet():
        from lrf_optuna.models.inventory import find_sites, inventory_rows
        from lrf_optuna.models.load import load_to_list
        from lrf_optuna.models.separable import split_separable
        from lrf_optuna.scoring.space_limits import SpaceLimits
    network = load_to_list(model, Bars(Console(stderr=True)))
    multiple = 1 if search.rank_multiple == "auto" else search.rank_multiple
    limits = SpaceLimits(search.exclude, search.only, rank_multiple=multiple)
    found = limits.apply(find_sites(split_separable(network), shape or None))
    rows = inventory_rows(found)
    if as_json:
        totals = {"params": found.params, "macs": found.macs, "uncounted_macs": list(found.uncounted)}
        print(json.dumps({**totals, "layers": rows}, indent=2))
        return
    share = sum(row.params for row in found.rows if row.site) / max(found.params, 1)
    of_all = f"They have {share:.1%} of {found.params:,} parameters"
    text = f"{len(found.sites)} of {len(found.rows)} layers can be factorized. {of_all}. {found.macs:,} MACs an image."
    print_rich(
        inventory_table(rows), "\n" + "\n".join(filter(None, (text, found.remark, uncounted_remark(found.uncounted))))
    )


@o.with_settings()
def front(found: o.Found, as_json: o.AsJson = False, as_csv: o.AsCsv = False) -> None:
    """Print the Pareto points of a study."""
    from lrf_optuna.plans.front import pareto_front

    points = pareto_front(found.record.candidates())
    if as_json:
        print(json.dumps([{"trial": p.trial, **p.costs, "plan": p.plan.to_dict()} for p in points], indent=2))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["trial", *found.record.objectives, "methods", "plan"])
        writer.writerows([p.trial, *p.costs.values(), method_counts(p.plan), p.plan.to_json()] for p in points)
    else:
        choice = found.folder.read_choice()
        print_rich(front_table(points, choice[0].trial if choice else None))


@o.with_settings()
def dashboard(found: o.Found, host: o.Host = "127.0.0.1", port: o.Port = 8080) -> None:
    """Start Optuna Dashboard on a study."""
    from optuna_dashboard import run_server

    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as reason:
        raise LrfError(f"cannot listen on {host}:{port} ({reason.strerror}): give another --port") from None
    run_server(found.record.url, host=host, port=port)


def cache(folder: o.CacheFolder = None, clear: o.Clear = False) -> None:
    """Say where fitted kernels and milliseconds are kept for the next run, and their size; or remove them."""
    from lrf_optuna.scoring.disk_cache import BUDGET, DiskCache, cache_folder

    kept = DiskCache(cache_folder(folder or True) or Path())
    print(f"{kept.folder}: {kept.size / 2**20:,.1f} of {BUDGET / 2**20:,.0f} MiB in {len(kept.files())} files")
    if clear:
        print(f"{kept.clear()} files removed")


def print_rich(*parts: Any, style: str = "") -> None:
    """Print tables (`report.tables.Table`) and texts to the terminal, one below the other."""
    Console().print(*parts, sep="\n", style=style, highlight=False, markup=False)
