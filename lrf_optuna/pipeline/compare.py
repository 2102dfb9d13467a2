"""`compare_baselines`: a study that was run against other rules for ranks, from its name or its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrf_optuna.baselines.compare import BaselineComparison
from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.load_inputs import GivenData
from lrf_optuna.pipeline.python_words import python_words
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import locate
from lrf_optuna.plans.comparison import Comparison, checked_budgets
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.sections import BUDGETS


@python_words()
def compare_baselines(
    study: str | Path,
    budgets: Sequence[float] = BUDGETS,
    *,
    cost: str = "params",
    test: bool = False,
    model: Any = None,
    data: GivenData = None,
    storage: str | None = None,
    out: Path | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """The front of a study against every baseline, at each budget: the most of `cost` that may be left.

    `study`: its name under runs/, or its run folder, as `compress` and `run` write it. `model`, `data`: as they were
    given to `compress`, where these were objects and no files. With `test` the test images are measured as well, for
    the rows that a reader looks at. Writes compare.json, a figure in the study, and a section in the report.
    Raises LrfError for budgets that are no shares, for a cost that the study lacks, and for a study without trials.
    """
    shares = checked_budgets(budgets, cost)
    found = locate(str(study), storage, out)
    run = Run.resume(found, found.spec, progress, model=model, data=data)
    return compare_run(run, shares, cost, test)


def compare_run(run: Run, budgets: Sequence[float], cost: str = "params", test: bool = False) -> Comparison:
    """The comparison of a run's study at checked budgets, which is written into its folder and its study."""
    rows = comparison_of(run, cost, test)
    with run.proxy.single_blas_thread():
        blocks = tuple(rows.block(cost, budget) for budget in budgets)
    comparison = Comparison(
        study=run.spec.name,
        trials=len(run.record.candidates()),
        cost=cost,
        objectives=tuple(rows.points[0].costs),
        front=len(rows.points),
        dominated=len(rows.dominated_points),
        original=rows.original(),
        blocks=blocks,
        notes=rows.notes(len(run.calibration)),
    )
    run.folder.write_comparison(run.record, comparison)
    return comparison


def comparison_of(run: Run, cost: str = "params", test: bool = False) -> BaselineComparison:
    """What computes the rows for a run's study. Raises LrfError where the study has no trial or no such cost."""
    points = pareto_front(run.record.candidates())
    if not points:
        raise LrfError("the study has no finished trial to compare: run it first")
    if cost not in points[0].costs:
        raise LrfError(f"the study's costs are {', '.join(points[0].costs)}: compare at budgets of one of them")
    return BaselineComparison(points, run.table, run.data, run.refits, test, run.progress)
