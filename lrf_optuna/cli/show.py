"""The commands that show what there is: a model's layers, a study's front, its dashboard, what is kept of fits."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from lrf_optuna.cli import options as o
from lrf_optuna.cli.terminal import guarded
from lrf_optuna.errors import LrfError
from lrf_optuna.processes import quiet


@guarded
def layers(
    model: Annotated[str, typer.Argument(help="FILE.keras, FILE.h5, keras:NAME, zoo:NAME or package.module:function.")],
    size: Annotated[str | None, o.option("H,W,C where the model leaves its input open: 224,224,3.")] = None,
    as_json: o.AsJson = False,
    all_methods: o.AllMethods = False,
    keeps: o.Keeps = None,
    data: o.Fitted = None,
    divide: o.Divide = None,
    mean: o.Mean = None,
    std: o.Std = None,
    calibration: o.Images = None,
) -> None:
    """List every layer: its share of parameters and MACs, and whether it can be factorized or why not.

    With --all-methods: what every method makes of every layer, one layer at a time.
    """
    on_images: dict[str, object] = {
        "data.divide": divide,
        "data.mean": o.numbers("--mean", mean),
        "data.std": o.numbers("--std", std),
        "search.calibration": calibration,
    }
    o.check_survey(all_methods, keeps, data, on_images)
    with quiet():
        from lrf_optuna.models.inventory import find_sites
        from lrf_optuna.models.load import load_model
        from lrf_optuna.models.separable import split_separable
        from lrf_optuna.models.zoo import ZOO
        from lrf_optuna.pipeline.survey import KEEPS, calibration_images, survey
        from lrf_optuna.report.printing import print_layers, print_survey
    untrained = model.startswith("zoo:") and model[4:] in ZOO
    network = split_separable(ZOO[model[4:]]() if untrained else load_model(model))  # type: ignore[call-arg]
    asked_size = tuple(int(n) for n in o.numbers("--size", size) or ()) or None
    if not all_methods:
        print_layers(find_sites(network, asked_size), as_json)
        return
    from rich.console import Console

    from lrf_optuna.cli.progress_bars import Bars

    options = on_images | {
        "model.path": model,
        "data.path": data or "digits",
        "search.keep": o.numbers("--keeps", keeps),
    }
    spec = o.asked(None, options)
    images = calibration_images(spec, network) if data else None
    found = find_sites(network, images.shape[1:] if images is not None else asked_size)
    grid, bars = spec.search.keep if keeps else KEEPS, Bars(Console(stderr=True))
    rows = survey(network, found, keeps=grid, images=images, progress=bars)
    print_survey(rows, len(images) if images is not None else 0, untrained, as_json)


@guarded
def front(
    name: o.Name,
    storage: o.Storage = None,
    out: o.Out = None,
    as_json: o.AsJson = False,
    as_csv: o.AsCsv = False,
) -> None:
    """Print the Pareto points of a study."""
    from rich.console import Console

    from lrf_optuna.pipeline.run_folder import locate
    from lrf_optuna.plans.front import pareto_front as pareto
    from lrf_optuna.report.tables import front_table, methods

    found = locate(name, storage, out)
    points = pareto(found.record.candidates())
    if as_json:
        print(json.dumps([{"trial": p.trial, **p.costs, "plan": p.plan.to_dict()} for p in points], indent=2))
    elif as_csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", *found.record.objectives, "methods", "plan"])
        writer.writerows([p.trial, *p.costs.values(), methods(p.plan), p.plan.to_json()] for p in points)
        print(text.getvalue(), end="")
    else:
        there = found.folder.read_choice()
        Console().print(front_table(points, there[0].trial if there else None))


@guarded
def dashboard(
    name: o.Name,
    storage: o.Storage = None,
    out: o.Out = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Start Optuna Dashboard on a study."""
    from lrf_optuna.pipeline.run_folder import locate

    url = locate(name, storage, out).record.url
    from optuna_dashboard import run_server

    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as reason:
        raise LrfError(f"cannot listen on {host}:{port} ({reason.strerror}): give another --port") from None
    run_server(url, host=host, port=port)


@guarded
def cache(
    place: Annotated[
        Path | None, o.option("Another cache than the user's.", "$LRF_OPTUNA_CACHE, or the user's", None, "--cache")
    ] = None,
    clear: Annotated[bool, o.option("Remove all that is kept there.", None, None, "--clear")] = False,
) -> None:
    """Say where fits are kept for the next run, and how many bytes they take; or remove them."""
    from lrf_optuna.scoring.kernel_cache import BUDGET, KernelCache
    from lrf_optuna.scoring.kernel_cache import cache_folder as place_of

    kept = KernelCache(place_of(str(place) if place else True) or Path())
    files, size = kept.files(), kept.size
    print(f"{kept.folder}: {size / 2**20:,.1f} of {BUDGET / 2**20:,.0f} MiB in {len(files)} files")
    if clear:
        print(f"{kept.clear()} files removed")
