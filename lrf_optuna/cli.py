"""The command line: parse, call, print. What a command does, the library does."""

from __future__ import annotations

import csv
import io
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrf_optuna import options as o
from lrf_optuna.errors import LrfError
from lrf_optuna.terminal import console, guarded, quiet

if TYPE_CHECKING:
    from lrf_optuna.study import Found

app = typer.Typer(
    name="lrf-optuna",
    help="The Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `python -m lrf_optuna run`: it needs no file and no network.",
)


@app.command()
@guarded
def run(
    study: o.Study = None,
    model: o.Network = None,
    data: o.Source = None,
    name: o.StudyName = None,
    out: o.Out = None,
    storage: o.Storage = None,
    target: o.Target = None,
    max_drop: o.MaxDrop = None,
    knee: o.Knee = False,
    by: o.By = None,
    trials: o.Trials = None,
    seed: o.Seed = None,
    calibration: o.Calibration = None,
    population: o.Population = None,
    methods: o.Methods = None,
    objectives: o.Objectives = None,
    similarity: o.Similarity = None,
    maps: o.Maps = None,
    sampler: o.Sampler = None,
    no_seeds: o.NoSeeds = False,
    stop_when_flat: o.StopWhenFlat = False,
    no_racing: o.NoRacing = False,
    workers: o.Workers = None,
    keep: o.Keep = None,
    cache: o.CacheAt = None,
    no_cache: o.NoCache = False,
    divide: o.Divide = None,
    mean: o.Mean = None,
    std: o.Std = None,
    augment: o.Augment = None,
    validation: o.Validation = None,
    epochs: o.Epochs = None,
    no_tune: o.NoTune = False,
    rate: o.Rate = None,
    batch: o.Batch = None,
    distil: o.Distil = None,
    optimizer: o.Optimizer = None,
) -> None:
    """Search, choose one point, build it, fine-tune it once.

    Without arguments: a small CNN on scikit-learn's digits, offline, in a few minutes. Options win over the study file.
    The same command again repeats nothing, and goes on after an interruption.
    """
    options: dict[str, object] = {
        "name": name,
        "model.path": model,
        "data.path": data,
        "data.divide": divide,
        "data.mean": o.numbers("--mean", mean),
        "data.std": o.numbers("--std", std),
        "data.augment": augment,
        "data.validation": validation,
        "search.storage": storage,
        "search.trials": trials,
        "search.seed": seed,
        "search.calibration": calibration,
        "search.population": population,
        "search.methods": o.words(methods),
        "search.objectives": o.words(objectives),
        "search.similarity": similarity,
        "search.maps": maps,
        "search.sampler": sampler,
        "search.seeded": False if no_seeds else None,
        "search.stop_when_flat": stop_when_flat or None,
        "search.racing": False if no_racing else None,
        "search.workers": workers,
        "search.keep": o.numbers("--keep", keep),
        "search.cache": o.cached(cache, no_cache),
        "tune.epochs": 0 if no_tune else epochs,
        "tune.rate": o.rate_of(rate),
        "tune.batch": batch,
        "tune.distil": distil,
        "tune.optimizer": optimizer,
    }
    spec = o.choosing(o.asked(study, options), target, max_drop, knee, by)
    folder = out or Path("runs") / spec.name
    with console(folder) as shown:
        from lrf_optuna.console import layers_table, standing_table
        from lrf_optuna.run import Run

        work = Run.open(spec, folder, progress=shown)
        result = work.finish(work.search())
        shown.console.print("", layers_table(result.layers), "", standing_table(result), sep="\n")
        shown.console.print(
            f"\n{folder / 'model.keras'}, report: {folder / 'report.html'}", style="bold", highlight=False
        )


@app.command()
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
        from lrf_optuna.layers import find_sites
        from lrf_optuna.printing import print_layers, print_survey
        from lrf_optuna.separable import unseparated
        from lrf_optuna.survey import KEEPS, calibration_images, survey
        from lrf_optuna.zoo import ZOO, load_model
    untrained = model.startswith("zoo:") and model[4:] in ZOO
    network = unseparated(ZOO[model[4:]]() if untrained else load_model(model))  # type: ignore[call-arg]
    asked_size = tuple(int(n) for n in o.numbers("--size", size) or ()) or None
    if not all_methods:
        print_layers(find_sites(network, asked_size), as_json)
        return
    from rich.console import Console

    from lrf_optuna.console import Bars

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


@app.command()
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

    from lrf_optuna.console import front_table, methods
    from lrf_optuna.pareto import front as pareto
    from lrf_optuna.study import chosen_in, locate

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
        there = chosen_in(found.folder)
        Console().print(front_table(points, there[0].trial if there else None))


@app.command()
@guarded
def select(
    name: o.Name,
    target: o.Target = None,
    max_drop: o.MaxDrop = None,
    knee: o.Knee = False,
    by: o.By = None,
    storage: o.Storage = None,
    out: o.Out = None,
) -> None:
    """Choose one point off the front, say why, and keep it in plan.json."""
    from lrf_optuna.choosing import choose
    from lrf_optuna.pareto import front as pareto
    from lrf_optuna.study import locate

    found = locate(name, storage, out)
    spec = o.choosing(found.spec, target, max_drop, knee, by)
    measured = spec.search.by == "accuracy" or spec.search.max_drop is not None
    with console(found.folder, loads=measured) as shown:
        from lrf_optuna.console import front_table
        from lrf_optuna.study import keep_choice

        points = pareto(found.record.candidates())
        if not measured:
            chosen, why = choose(points, targets=spec.search.wanted)
        else:
            from lrf_optuna.run import Run

            chosen, why = Run.resume(found, spec, shown).choose(points)
        keep_choice(found.folder, found.record.name, chosen, why)
        shown.say(f"trial {chosen.trial}: {why}")
        shown.console.print(front_table([chosen], chosen.trial))


@app.command()
@guarded
def build(name: o.Name, storage: o.Storage = None, out: o.Out = None) -> None:
    """Build the selected point (or the one that the study asks for) as model.keras, without tuning."""
    from lrf_optuna.study import locate

    made(locate(name, storage, out), {"tune.epochs": 0})


@app.command()
@guarded
def tune(
    name: o.Name,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images.", show_default="the study's")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Learning rate, or auto to find it from the data.")] = None,
    storage: o.Storage = None,
    out: o.Out = None,
) -> None:
    """Fine-tune the selected point's model once, as model.keras."""
    from lrf_optuna.study import locate

    found = locate(name, storage, out)
    if epochs is not None and epochs < 1:
        raise LrfError(f"--epochs should be 1 or more, but got {epochs}: to leave a model untuned, build it")
    made(found, {"tune.epochs": epochs or found.spec.tune.epochs or 5, "tune.rate": o.rate_of(rate)})


@app.command()
@guarded
def compare(
    name: o.Name,
    budgets: o.Budgets = None,
    cost: o.Cost = None,
    test: o.Test = False,
    as_json: o.AsJson = False,
    storage: o.Storage = None,
    out: o.Out = None,
) -> None:
    """Compare the front with other rules for ranks and with filter pruning, by accuracy without tuning.

    Leaves compare.json in the run folder, and a section in the report.
    """
    from lrf_optuna.comparison import checked
    from lrf_optuna.config import BUDGETS
    from lrf_optuna.study import locate

    shares = checked(o.numbers("--budgets", budgets) or BUDGETS, cost or "params")
    found = locate(name, storage, out)
    with console(found.folder, aside=as_json) as shown:
        from lrf_optuna.compare import compare as compared
        from lrf_optuna.compare import leave
        from lrf_optuna.printing import print_comparison
        from lrf_optuna.run import Run

        work = Run.resume(found, found.spec, shown)
        comparison = compared(work, shares, cost=cost or "params", test=test)
        leave(work, comparison)
        print_comparison(comparison, as_json)


@app.command()
@guarded
def dashboard(
    name: o.Name,
    storage: o.Storage = None,
    out: o.Out = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Start Optuna Dashboard on a study."""
    from lrf_optuna.study import locate

    url = locate(name, storage, out).record.url
    from optuna_dashboard import run_server

    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as reason:
        raise LrfError(f"cannot listen on {host}:{port} ({reason.strerror}): give another --port") from None
    run_server(url, host=host, port=port)


@app.command()
@guarded
def cache(
    place: Annotated[
        Path | None, o.option("Another cache than the user's.", "$LRF_OPTUNA_CACHE, or the user's", None, "--cache")
    ] = None,
    clear: Annotated[bool, o.option("Remove all that is kept there.", None, None, "--clear")] = False,
) -> None:
    """Say where fits are kept for the next run, and how many bytes they take; or remove them."""
    from lrf_optuna.cache import BUDGET, Cache
    from lrf_optuna.cache import place as place_of

    kept = Cache(place_of(str(place) if place else True) or Path())
    files, size = kept.files(), kept.size
    print(f"{kept.folder}: {size / 2**20:,.1f} of {BUDGET / 2**20:,.0f} MiB in {len(files)} files")
    if clear:
        print(f"{kept.clear()} files removed")


def made(found: Found, options: dict[str, object]) -> None:
    """Build, and tune if the options say so, the point that plan.json has or else the study asks for."""
    with console(found.folder) as shown:
        from lrf_optuna.console import layers_table, standing_table
        from lrf_optuna.run import Run
        from lrf_optuna.study import chosen_in

        work = Run.resume(found, found.spec.override(options), shown)
        candidates, choice = work.record.candidates(), chosen_in(found.folder)
        if choice and choice[0] not in candidates:
            raise LrfError(f"the choice in {found.folder} is no trial of this study: choose again with select")
        result = work.finish(candidates, choice)
        shown.console.print("", layers_table(result.layers), "", standing_table(result), sep="\n")


def main() -> None:
    """The console script."""
    app()
