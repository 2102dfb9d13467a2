"""The command line: parse, call, print. What a command does, the library does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from lrf_optuna.cli import options as o
from lrf_optuna.cli.examples import epilog
from lrf_optuna.cli.next_steps import as_called, next_steps, result_line
from lrf_optuna.cli.output import Output
from lrf_optuna.cli.runtimes import RunFormats, export, latency, names_of
from lrf_optuna.cli.show import cache, dashboard, front, layers
from lrf_optuna.cli.studies import check_before_loading, check_files, study_of, with_choice
from lrf_optuna.cli.terminal import call, guarded, plain_streams, session
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.comparison import checked_budgets
from lrf_optuna.progress_bars import Shown
from lrf_optuna.report.front_tables import alternative_commands, alternatives_table, front_table
from lrf_optuna.report.runtime_tables import export_table
from lrf_optuna.report.tables import budget_table, evaluation_table, layer_table
from lrf_optuna.runtimes.formats import ExportSettings, check_formats
from lrf_optuna.version import VERSION

if TYPE_CHECKING:
    from lrf_optuna.config import StudySpec
    from lrf_optuna.pipeline.run import Run
    from lrf_optuna.pipeline.run_folder import ExistingStudy
    from lrf_optuna.plans.result import Result

app = typer.Typer(
    name="lrf-optuna",
    help="The Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `python -m lrf_optuna run`: it needs no file and no network.",
)


@o.with_settings()
def run(
    output: Output,
    settings: dict[str, Any],
    study: o.Study = None,
    out: o.Out = None,
    force: o.Force = False,
    formats: RunFormats = None,
    dry: o.DryRun = False,
) -> None:
    """Search, choose one point, build it, fine-tune it once.

    Without arguments: a small CNN on scikit-learn's digits, offline, in about a minute.
    Options win over the study file. The same command again repeats nothing, and goes on after an interruption.
    """
    started, wanted = time.perf_counter(), names_of(formats or "")
    if wanted:
        check_formats(wanted, ExportSettings())
    spec = study_of(study, settings)
    spec.check_after_tuning()
    spec.check_fine_tune(settings)
    check_files(spec)
    folder = out or Path("runs") / spec.name
    check_before_loading(spec, folder)
    if dry:
        return print_dry_run(spec, folder, output)
    with session(folder, output) as progress:
        from lrf_optuna.pipeline.run import Run

        work = Run.open(spec, folder, progress=progress)
        work.stopwatch.seconds["load"] = time.perf_counter() - started  # with the libraries
        work.force = force
        if isinstance(progress, Shown):
            progress.rest = work.seconds_after
        result, exports = work.finish(work.search()), []
        if wanted:
            from lrf_optuna.pipeline.export import export_run

            exports = ["", export_table(export_run(work, wanted, ExportSettings()))]
        print_result(work.folder.read_result() or result, work, output, exports)


def print_dry_run(spec: StudySpec, folder: Path, output: Output) -> None:
    """Print what a run would do."""
    with session(None, output) as progress:
        from lrf_optuna.pipeline.dry_run import dry_run

        found = dry_run(spec, folder, progress)
    output.result(found.to_dict(), *found.lines())


@o.with_settings(
    "search.targets", "search.max_drop", "search.after_tuning", "search.knee", "search.by", default="the study's"
)
def select(output: Output, settings: dict[str, Any], found: o.Found, trial: o.Trial = None) -> None:
    """Choose one point off the front, say why, and keep it in plan.json.

    Where its model was built before, that becomes model.keras again.
    """
    from lrf_optuna.pipeline.front_facts import FrontFacts
    from lrf_optuna.pipeline.point_choice import make_chosen, point_of
    from lrf_optuna.plans.front import pareto_front
    from lrf_optuna.selection.choose import choose_point

    spec, candidates = with_choice(found.spec, settings), found.record.candidates()
    if trial is not None and settings:
        raise LrfError("--trial names a point already: leave out the other options to choose")
    by_metric = trial is None and spec.search.measures
    if by_metric:
        check_files(spec)
    with session(found.folder.path, output, loads=by_metric) as progress:
        if trial is not None:
            choice = point_of(candidates, trial)
        elif by_metric:
            from lrf_optuna.pipeline.run import Run

            choice = Run.resume(found, spec, progress).choose(candidates)
        else:
            choice = choose_point(pareto_front(candidates), targets=spec.search.wanted)
        chosen, why = choice
        progress.say(f"trial {chosen.trial}: {why}")
        built = make_chosen(found, choice, candidates, progress)
    facts = FrontFacts.of_study(found)
    row, known = facts.row(chosen, chosen=True), (found.record.compared_metric, facts.original_metrics, facts.time)
    output.result({**row.to_dict(), "why": why}, front_table([row], *known, methods=True))
    made = f"its model is {found.folder.model}" if built else f"its model: {facts.command(chosen)}"
    output.remark(as_called(made), unbroken=True)


@o.with_settings()
def build_untuned(output: Output, found: o.Found, force: o.Force = False, trial: o.Trial = None) -> None:
    """Build the selected point (or the one that the study asks for), without fine-tuning.

    Its model stands in models/ beside those of other points, and becomes model.keras. A fine-tuned one stays.
    """
    build_selected(found, {"tune.epochs": 0}, output, force, trial)


@o.with_settings(
    *("tune.epochs", "tune.rate", "tune.batch", "tune.optimizer", "tune.distil", "tune.distil_by", "tune.cutmix"),
    default="the study's",
)
def tune(output: Output, settings: dict[str, Any], found: o.Found, trial: o.Trial = None) -> None:
    """Fine-tune the selected point's model once, as model.keras."""
    epochs = settings.get("tune.epochs", found.spec.tune.epochs or 5)
    if not found.spec.override({"tune.epochs": epochs}).tune.epochs:
        raise LrfError("--epochs should be 1 or more, but got 0: to leave a model untuned, build it")
    settings = {**settings, "tune.epochs": epochs}
    found.spec.override(settings).check_fine_tune(settings)
    build_selected(found, settings, output, trial=trial)


@o.with_settings()
def compare(
    output: Output, found: o.Found, budgets: o.Budgets = o.SHARES, cost: o.Cost = "params", test: o.Test = False
) -> None:
    """Compare the front with other rules for ranks and with filter pruning, by accuracy without fine-tuning.

    The comparison stays in the run folder as compare.json, and as a section of the report.
    """
    shares = checked_budgets(o.numbers("--budgets", budgets, "0.5,0.3"), cost)
    check_files(found.spec)
    with session(found.folder.path, output) as progress:
        from lrf_optuna.pipeline.compare import compare_run
        from lrf_optuna.pipeline.run import Run

        comparison = compare_run(Run.resume(found, found.spec, progress), shares, cost, test)
    tables = [part for block in comparison.blocks for part in ("", budget_table(comparison, block))]
    output.result(comparison.to_dict(), *tables)
    output.remark(f"\n{comparison.verdict}", style="bold")
    output.remark(*comparison.notes, style="dim")


def build_selected(
    found: ExistingStudy, settings: dict[str, Any], output: Output, force: bool = False, trial: int | None = None
) -> None:
    """Build, and tune if the settings say so, the point of a trial, else that of plan.json or of the study's wish."""
    from lrf_optuna.pipeline.point_choice import point_of

    spec, candidates = found.spec.override(settings), found.record.candidates()
    choice = found.folder.read_choice() if trial is None else point_of(candidates, trial)
    if choice and choice[0] not in candidates:
        raise LrfError(f"the choice in {found.folder.path} is not a trial of this study: choose again with select")
    check_files(spec)
    with session(found.folder.path, output) as progress:
        from lrf_optuna.pipeline.run import Run

        work = Run.resume(found, spec, progress)
        work.force = force
        print_result(work.finish(candidates, choice), work, output)


def print_result(result: Result, run: Run, output: Output, more: Sequence[Any] = ()) -> None:
    """Print the result of a run: its tables and `more` of them, or one line; then what a user does next."""
    files = {"model": str(run.folder.model), "report": str(run.folder.report)}
    tables = ["", layer_table(result.layers), "", evaluation_table(result), *more]
    if result.alternatives:
        tables += ["", alternatives_table(result)]
    shown = [result_line(result, run)] if output.quiet else tables
    output.result({**result.to_dict(), "files": files}, *shown, unbroken=output.quiet)
    output.remark(*map(as_called, alternative_commands(result)), "", *next_steps(run), unbroken=True)
    if result.warnings:
        output.remark("", *(f"Warning: {warning}." for warning in result.warnings), style="yellow")


def show_version(wanted: bool) -> None:
    """Print the version, and end."""
    if wanted:
        print(f"lrf-optuna {VERSION}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """The Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it."""


class Command(TyperCommand):
    """A command whose help has --help in the panel of the options that every command has."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help."""
        option = super().get_help_option(ctx)
        if option:
            option.rich_help_panel = o.ALWAYS
        return option


for command in (run, layers, front, select, build_untuned, tune, compare, export, latency, dashboard, cache):
    name = command.__name__.partition("_")[0]
    app.command(name, cls=Command, epilog=epilog(name))(guarded(o.with_output(command)))


def main() -> None:
    """The console script."""
    plain_streams()
    call(app)
