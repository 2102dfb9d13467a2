"""The command line: parse, call, print. What a command does, the library does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrf_optuna.cli import options as o
from lrf_optuna.cli.show import cache, dashboard, front, layers
from lrf_optuna.cli.terminal import console, guarded
from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from lrf_optuna.cli.progress_bars import Bars
    from lrf_optuna.pipeline.run_folder import ExistingStudy, RunFolder
    from lrf_optuna.plans.result import Result

app = typer.Typer(
    name="lrf-optuna",
    help="The Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `python -m lrf_optuna run`: it needs no file and no network.",
)


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
    no_initial_plans: o.NoInitialPlans = False,
    stop_when_flat: o.StopWhenFlat = False,
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
    force: o.Force = False,
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
        "search.initial_plans": False if no_initial_plans else None,
        "search.stop_when_flat": stop_when_flat or None,
        "search.workers": workers,
        "search.keep": o.numbers("--keep", keep),
        "search.cache": o.cached(cache, no_cache),
        "tune.epochs": 0 if no_tune else epochs,
        "tune.rate": o.rate_of(rate),
        "tune.batch": batch,
        "tune.distil": distil,
        "tune.optimizer": optimizer,
    }
    started = time.perf_counter()
    spec = o.choosing(o.asked(study, options), target, max_drop, knee, by)
    folder = out or Path("runs") / spec.name
    with console(folder) as shown:
        from lrf_optuna.pipeline.run import Run

        work = Run.open(spec, folder, progress=shown, started=started)
        work.force = force
        print_result(work.finish(work.search()), work.folder, shown)


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
    from lrf_optuna.pipeline.run_folder import locate
    from lrf_optuna.plans.front import pareto_front as pareto
    from lrf_optuna.selection.choose import choose_point

    found = locate(name, storage, out)
    spec = o.choosing(found.spec, target, max_drop, knee, by)
    measured = spec.search.by == "accuracy" or spec.search.max_drop is not None
    with console(found.folder.path, loads=measured) as shown:
        from lrf_optuna.report.tables import front_table

        points = pareto(found.record.candidates())
        if not measured:
            chosen, why = choose_point(points, targets=spec.search.wanted)
        else:
            from lrf_optuna.pipeline.run import Run

            chosen, why = Run.resume(found, spec, shown).choose(points)
        found.folder.write_choice(found.record.name, (chosen, why))
        shown.say(f"trial {chosen.trial}: {why}")
        shown.console.print(front_table([chosen], chosen.trial))


@guarded
def build(name: o.Name, storage: o.Storage = None, out: o.Out = None, force: o.Force = False) -> None:
    """Build the selected point (or the one that the study asks for) as model.keras, without tuning."""
    from lrf_optuna.pipeline.run_folder import locate

    build_selected(locate(name, storage, out), {"tune.epochs": 0}, force)


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
    from lrf_optuna.pipeline.run_folder import locate

    found = locate(name, storage, out)
    if epochs is not None and epochs < 1:
        raise LrfError(f"--epochs should be 1 or more, but got {epochs}: to leave a model untuned, build it")
    build_selected(found, {"tune.epochs": epochs or found.spec.tune.epochs or 5, "tune.rate": o.rate_of(rate)})


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
    from lrf_optuna.config import BUDGETS
    from lrf_optuna.pipeline.run_folder import locate
    from lrf_optuna.plans.comparison import checked_budgets

    shares = checked_budgets(o.numbers("--budgets", budgets) or BUDGETS, cost or "params")
    found = locate(name, storage, out)
    with console(found.folder.path, aside=as_json) as shown:
        from lrf_optuna.pipeline.compare import compare_run
        from lrf_optuna.pipeline.run import Run
        from lrf_optuna.report.printing import print_comparison

        work = Run.resume(found, found.spec, shown)
        comparison = compare_run(work, shares, cost or "params", test)
        work.folder.write_comparison(work.record, comparison)
        print_comparison(comparison, as_json)


def build_selected(found: ExistingStudy, options: dict[str, object], force: bool = False) -> None:
    """Build, and tune if the options say so, the point that plan.json has or else the study asks for."""
    spec, choice = found.spec.override(options), found.folder.read_choice()
    if not spec.tune.epochs and not force:
        found.folder.check_untuned()
    with console(found.folder.path) as shown:
        from lrf_optuna.pipeline.run import Run

        work = Run.resume(found, spec, shown)
        work.force, candidates = force, work.record.candidates()
        if choice and choice[0] not in candidates:
            raise LrfError(f"the choice in {found.folder.path} is no trial of this study: choose again with select")
        print_result(work.finish(candidates, choice), found.folder, shown)


def print_result(result: Result, folder: RunFolder, shown: Bars) -> None:
    """What a run found, and where its files are."""
    from lrf_optuna.report.tables import layers_table, standing_table

    shown.console.print("", layers_table(result.layers), "", standing_table(result), sep="\n")
    shown.console.print(f"\n{folder.model}, report: {folder.report}", style="bold", highlight=False)


for command in (run, layers, front, select, build, tune, compare, dashboard, cache):
    app.command()(command)


def main() -> None:
    """The console script."""
    app()
