"""What a report is made of: the trials, the front, the result, and what is known of them beside."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lrf_optuna.plans.comparison import Comparison
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Result
from lrf_optuna.report.facts import Facts
from lrf_optuna.storage.study import AS_BUILT, METRIC


@dataclass(frozen=True)
class EpochRow:
    """One row of tuning.csv: the network after an epoch; epoch 0 is the network before the fine-tune."""

    epoch: int
    loss: float | None
    metric: float


def read_epochs(path: Path) -> list[EpochRow]:
    """The rows of tuning.csv; none where there is no such file, or it is of another form."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            EpochRow(int(row["epoch"]), float(row["loss"]) if row["loss"] else None, float(row["validation_metric"]))
            for row in rows
        ]
    except (OSError, KeyError, ValueError, TypeError):
        return []


@dataclass(frozen=True)
class ReportContent:
    """All that a report shows. `candidates`: all trials; `points`: the front.

    `metrics`: trial -> name -> its metric, where it was measured; `compared_metric`: its name with the images that
    points were measured on; empty where none was. `importances`: objective ->
    layer -> share of the objective's variance (PED-ANOVA). `epochs`: of the fine-tune.
    """

    candidates: Sequence[Candidate]
    points: Sequence[Candidate]
    result: Result
    comparison: Comparison | None = None
    facts: Facts | None = None
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    compared_metric: str = ""
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    epochs: Sequence[EpochRow] = ()

    def metric_of(self, trial: int) -> tuple[float, str] | None:
        """The best known metric of a trial without tuning, and its name; None where none was measured."""
        known = self.metrics.get(trial, {})
        return next(((known[name], name) for name in (AS_BUILT, METRIC) if name in known), None)
