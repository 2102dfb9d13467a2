"""The command line: parse, call, print. What a command does, the library does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrf_optuna.cli import options as o
from lrf_optuna.cli.runtimes import RunFormats, export, latency, names_of
from lrf_optuna.cli.show import cache, dashboard, front, layers, print_rich
from lrf_optuna.cli.studies import check_files, study_of, with_choice
from lrf_optuna.cli.terminal import guarded, plain_streams, session
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.comparison import checked_budgets
from lrf_optuna.report.runtime_tables import export_table
from lrf_optuna.report.tables import budget_table, evaluation_table, front_table, layer_table
from lrf_optuna.runtimes.formats import ExportSettings, check_formats
from lrf_optuna.sections import BUDGETS

if TYPE_CHECKING:
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
SHARES = ",".join(map(str, BUDGETS))


@o.with_settings()
def run(
    settings: dict[str, Any],
    study: o.Study = None,
    out: o.Out = None,
    force: o.Force = False,
    knee: o.Knee = False,
    formats: RunFormats = None,
) -> None:
    """Search, choose one point, build it, fine-tune it once.

    Without arguments: a small CNN on scikit-learn's digits, offline, in a few minutes. Options win over the study file.
    The same command again repeats nothing, and goes on after an interruption.
    """
    started, wanted = time.perf_counter(), names_of(formats or "")
    if wanted:
        check_formats(wanted, ExportSettings())
    spec = with_choice(study_of(study, settings), settings, knee)
    check_files(spec)
    folder = out or Path("runs") / spec.name
    with session(folder) as bars:
        from lrf_optuna.pipeline.run import Run

        work = Run.open(spec, folder, progress=bars)
        work.stopwatch.seconds["load"] = time.perf_counter() - started  # with the libraries
        work.force = force
        print_result(work.finish(work.search()), work.folder, bars.console)
        if wanted:
            from lrf_optuna.pipeline.export import export_run

            bars.console.print("", export_table(export_run(work, wanted, ExportSettings())), sep="\n")


@o.with_settings("search.targets", "search.max_drop", "search.by", default="the study's")
def select(settings: dict[str, Any], found: o.Found, knee: o.Knee = False) -> None:
    """Choose one point off the front, say why, and keep it in plan.json."""
    from lrf_optuna.plans.front import pareto_front
    from lrf_optuna.selection.choose import choose_point

    spec = with_choice(found.spec, settings, knee)
    by_metric = spec.search.by == "metric" or spec.search.max_drop is not None
    if by_metric:
        check_files(spec)
    with session(found.folder.path, loads=by_metric) as bars:
        points = pareto_front(found.record.candidates())
        if by_metric:
            from lrf_optuna.pipeline.run import Run

            chosen, why = Run.resume(found, spec, bars).choose(points)
        else:
            chosen, why = choose_point(points, targets=spec.search.wanted)
        found.folder.write_choice(found.record.name, (chosen, why))
        bars.say(f"trial {chosen.trial}: {why}")
        bars.console.print(front_table([chosen], chosen.trial))


@o.with_settings()
def build_untuned(found: o.Found, force: o.Force = False) -> None:
    """Build the selected point (or the one that the study asks for) as model.keras, without fine-tuning."""
    build_selected(found, {"tune.epochs": 0}, force)


@o.with_settings("tune.epochs", "tune.rate", default="the study's")
def tune(settings: dict[str, Any], found: o.Found) -> None:
    """Fine-tune the selected point's model once, as model.keras."""
    epochs = settings.get("tune.epochs", found.spec.tune.epochs or 5)
    if not found.spec.override({"tune.epochs": epochs}).tune.epochs:
        raise LrfError("--epochs should be 1 or more, but got 0: to leave a model untuned, build it")
    build_selected(found, {**settings, "tune.epochs": epochs})


@o.with_settings()
def compare(
    found: o.Found,
    budgets: o.Budgets = SHARES,
    cost: o.Cost = "params",
    test: o.Test = False,
    as_json: o.AsJson = False,
) -> None:
    """Compare the front with other rules for ranks and with filter pruning, by accuracy without fine-tuning.

    The comparison stays in the run folder as compare.json, and as a section of the report.
    """
    shares = checked_budgets(o.numbers("--budgets", budgets, "0.5,0.3"), cost)
    check_files(found.spec)
    with session(found.folder.path, on_stderr=as_json) as bars:
        from lrf_optuna.pipeline.compare import compare_run
        from lrf_optuna.pipeline.run import Run

        comparison = compare_run(Run.resume(found, found.spec, bars), shares, cost, test)
    if as_json:
        print(comparison.to_json(), end="")
    else:
        print_rich(*(part for block in comparison.blocks for part in ("", budget_table(comparison, block))))
        print_rich(f"\n{comparison.verdict}", style="bold")
        print_rich(*comparison.notes, style="dim")


def build_selected(found: ExistingStudy, settings: dict[str, Any], force: bool = False) -> None:
    """Build, and tune if the settings say so, the point that plan.json has or else the study asks for."""
    spec, choice = found.spec.override(settings), found.folder.read_choice()
    if not spec.tune.epochs and not force:
        found.folder.check_untuned()
    check_files(spec)
    with session(found.folder.path) as bars:
        from lrf_optuna.pipeline.run import Run

        work = Run.resume(found, spec, bars)
        work.force, candidates = force, work.record.candidates()
        if choice and choice[0] not in candidates:
            raise LrfError(f"the choice in {found.folder.path} is not a trial of this study: choose again with select")
        print_result(work.finish(candidates, choice), found.folder, bars.console)


def print_result(result: Result, folder: RunFolder, console: Any) -> None:
    """Print the tables of a run, and where its files are."""
    console.print("", layer_table(result.layers), "", evaluation_table(result), sep="\n")
    console.print(f"\n{folder.model}, report: {folder.report}", style="bold", highlight=False)


for command in (run, layers, front, select, build_untuned, tune, compare, export, latency, dashboard, cache):
    app.command(command.__name__.partition("_")[0])(guarded(command))


def main() -> None:
    """The console script."""
    plain_streams()
    app()
