"""The commands that show what there is: a model's layers, a study's front, its dashboard, the cache of kernels."""

from __future__ import annotations

import csv
import socket
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrf_optuna.cli import options as o
from lrf_optuna.cli.output import Output
from lrf_optuna.cli.studies import check_file, study_of
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import MODEL_FORMS
from lrf_optuna.processes import quiet
from lrf_optuna.report.front_tables import front_table
from lrf_optuna.report.tables import inventory_table, uncounted_remark


@o.with_settings("search.exclude", "search.only", "search.rank_multiple")
def layers(output: Output, settings: dict[str, Any], model: o.Model, size: o.Size = None) -> None:
    """List every layer: its share of parameters and MACs, and whether it can be factorized or why not."""
    search = study_of(None, {"model.path": model, "data.path": "digits", **settings}).search
    shape = tuple(map(int, o.numbers("--size", size, "224,224,3")))
    check_file("model file", model, MODEL_FORMS)
    with quiet():
        from lrf_optuna.models.inventory import find_sites, inventory_rows
        from lrf_optuna.models.load import load_to_list
        from lrf_optuna.models.separable import split_separable
        from lrf_optuna.scoring.space_limits import SpaceLimits
    network = load_to_list(model, replace(output, as_json=True).progress())  # messages go beside the table
    multiple = 1 if search.rank_multiple == "auto" else search.rank_multiple
    limits = SpaceLimits(search.exclude, search.only, rank_multiple=multiple)
    found = limits.apply(find_sites(split_separable(network), shape or None))
    rows = inventory_rows(found)
    totals = {"params": found.params, "macs": found.macs, "uncounted_macs": list(found.uncounted)}
    share = sum(row.params for row in found.rows if row.site) / max(found.params, 1)
    of_all = f"They have {share:.1%} of {found.params:,} parameters"
    text = f"{len(found.sites)} of {len(found.rows)} layers can be factorized. {of_all}. {found.macs:,} MACs an image."
    remarks = filter(None, (text, found.remark, uncounted_remark(found.uncounted)))
    output.result({**totals, "layers": rows}, inventory_table(rows), "", *remarks)


@o.with_settings()
def front(output: Output, found: o.Found, every: o.Every = False, as_csv: o.AsCsv = False) -> None:
    """Print the Pareto points of a study: the best within round budgets, with metric, size and milliseconds.

    JSON and CSV have every point. What was not measured is a dash, null or empty.
    """
    from lrf_optuna.pipeline.front_facts import FrontFacts
    from lrf_optuna.plans.front import pareto_front

    points, facts = pareto_front(found.record.candidates()), FrontFacts.of_study(found)
    choice = found.folder.read_choice()
    rows = facts.rows(points, choice[0].trial if choice else None, every or as_csv or output.as_json)
    table = [row.to_dict() for row in rows]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        names = [name for name in table[0] if name != "plan"] if table else ["trial", *found.record.objectives]
        writer.writerow([*names, "methods", "plan"])
        for row, cells in zip(rows, table, strict=True):
            plan = row.point.plan
            writer.writerow([*(cells[name] for name in names), plan.methods, plan.to_json()])
        return
    original = facts.original_metrics, facts.time
    output.result(table, front_table(rows, found.record.compared_metric, *original, methods=every))
    if len(rows) < len(points):
        output.remark(f"the best within round budgets of {facts.cost(points)}: --all shows all {len(points)} points")


@o.with_settings()
def dashboard(output: Output, found: o.Found, host: o.Host = "127.0.0.1", port: o.Port = 8080) -> None:
    """Start Optuna Dashboard on a study."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as reason:
        raise LrfError(f"cannot listen on {host}:{port} ({reason.strerror}): give another --port") from None
    from optuna_dashboard import run_server

    from lrf_optuna.report.dashboard import artifact_store

    artifacts = artifact_store(found.folder.path)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    output.result({"study": found.record.name, "address": address}, f"{found.record.name}: {address}")
    sys.stdout.flush()
    if output.as_json or output.quiet:
        with redirect_stdout(sys.stderr):
            run_server(found.record.url, host=host, port=port, artifact_store=artifacts)
    else:
        run_server(found.record.url, host=host, port=port, artifact_store=artifacts)


def cache(output: Output, folder: o.CacheFolder = None, clear: o.Clear = False) -> None:
    """Say where fitted kernels and milliseconds are kept for the next run, and their size; or remove them."""
    from lrf_optuna.scoring.disk_cache import BUDGET, DiskCache, cache_folder

    kept = DiskCache(cache_folder(folder or True) or Path())
    if kept.folder.exists() and not kept.folder.is_dir():
        raise LrfError(f"{kept.folder} is no folder: give --cache FOLDER")
    found: dict[str, Any] = {
        "folder": str(kept.folder),
        "bytes": kept.size,
        "files": len(kept.files()),
        "budget": BUDGET,
    }
    sizes = f"{kept.size / 2**20:,.1f} of {BUDGET / 2**20:,.0f} MiB in {found['files']} files"
    lines = [f"{kept.folder}: {sizes}"]
    if clear:
        found["removed"] = kept.clear()
        lines.append(f"{found['removed']} files removed")
    output.result(found, *lines)
