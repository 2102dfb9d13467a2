"""`compare_baselines`: a study that was run against other rules for ranks, from its name or its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrf_optuna.baselines.compare import SearchedStudy, compare_at, front_to_compare
from lrf_optuna.config import BUDGETS
from lrf_optuna.pipeline.inputs import GivenData
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import locate
from lrf_optuna.plans.comparison import Comparison, checked_budgets
from lrf_optuna.progress import SILENT, Progress


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
    comparison = compare_run(run, shares, cost, test)
    run.folder.write_comparison(run.record, comparison)
    return comparison


def compare_run(run: Run, budgets: Sequence[float], cost: str = "params", test: bool = False) -> Comparison:
    """The comparison of a run's study at checked budgets; nothing is written."""
    return compare_at(searched_study(run, cost), budgets, cost, test)


def searched_study(run: Run, cost: str = "params") -> SearchedStudy:
    """The part of a run that a comparison reads. Raises LrfError where nothing in it has such a cost."""
    candidates = run.record.candidates()
    points = front_to_compare(candidates, cost)
    return SearchedStudy(
        name=run.spec.name,
        points=points,
        trials=len(candidates),
        calibration=len(run.calibration),
        proxy=run.proxy,
        table=run.table,
        data=run.data,
        accuracy=run.accuracy,
        refits=run.refits,
        choose=run.choose_by_accuracy,
        progress=run.progress,
    )
