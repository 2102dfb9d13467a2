"""What is known of the points of a front: their metrics and milliseconds, their names, the commands that make them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrf_optuna.config import StudySpec
from lrf_optuna.pipeline.run_folder import ExistingStudy, RunFolder
from lrf_optuna.plans.front import budget_cost, budget_points
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Alternative
from lrf_optuna.report.front_tables import PointRow
from lrf_optuna.scoring.latency import LATENCY
from lrf_optuna.selection.forecast import forecast_of
from lrf_optuna.selection.named_points import NamedPoint, named_points
from lrf_optuna.storage.database import url_without_password
from lrf_optuna.storage.study import AS_BUILT, CALIBRATED, METRIC, TUNED, StudyStore

STATE_NAMES = {TUNED: "tuned", CALIBRATED: "calibrated", AS_BUILT: "as built", METRIC: "as scored"}
"""Name of a kept metric -> the state that it is of, the last one first."""
ESTIMATED = "estimated"
"""The state of a metric that was not measured, but lies between those of points with the next losses."""


@dataclass(frozen=True, slots=True)
class FrontFacts:
    """What is known of the points of a study: the metrics that its trials keep, and milliseconds.

    `spec`: as the study was last searched with; `original_time`: runtime -> milliseconds of the original's call.
    """

    store: StudyStore
    folder: RunFolder
    spec: StudySpec
    metrics: Mapping[int, Mapping[str, float]]
    original_metrics: Mapping[str, float]
    original_time: Mapping[str, float]

    @classmethod
    def of(cls, store: StudyStore, folder: RunFolder, original_time: Mapping[str, float]) -> FrontFacts:
        """What is known of the points of a study and of its run folder by now."""
        spec = StudySpec.from_json(store.spec)
        return cls(store, folder, spec, store.metrics(), store.original_metrics, original_time)

    @classmethod
    def of_study(cls, found: ExistingStudy) -> FrontFacts:
        """What is known of the points of a study, with the milliseconds of its last result."""
        result = found.folder.read_result()
        return cls.of(found.record, found.folder, result.original.milliseconds if result else {})

    def cost(self, points: Sequence[Candidate]) -> str:
        """The cost that round budgets limit."""
        return budget_cost(points, self.spec.search.targets)

    @property
    def time(self) -> float | None:
        """Milliseconds of the original's call in the study's runtime; None where they are not known."""
        return self.original_time.get(self.spec.latency.runtime)

    def drops(self) -> dict[int, float]:
        """Trial -> points of the metric that its network loses before a fine-tune, as built or else as scored."""
        found = {}
        for trial, own in self.metrics.items():
            name = AS_BUILT if AS_BUILT in own else METRIC
            if name in own and name in self.original_metrics:
                found[trial] = 100 * (self.original_metrics[name] - own[name])
        return found

    def metric(self, trial: int) -> tuple[float, str] | None:
        """The metric of a point in the last state that was measured, and the name of the state."""
        own = self.metrics.get(trial, {})
        return next(((own[name], state) for name, state in STATE_NAMES.items() if name in own), None)

    def milliseconds(self, point: Candidate) -> tuple[float | None, bool]:
        """Milliseconds of a point's call, and whether they were measured: those of an objective are predicted."""
        runtime, made = self.spec.latency.runtime, self.folder.models.latest(point)
        if made and runtime in made[0].final.milliseconds:
            return made[0].final.milliseconds[runtime], True
        if LATENCY in point.costs and self.time is not None:
            return point.costs[LATENCY] * self.time, False
        return None, False

    def named(self, points: Sequence[Candidate]) -> dict[str, NamedPoint]:
        """Name -> the point of a front with this name."""
        forecast = forecast_of(self.spec.without_choice().judged_state, self.store.metric_images)
        return named_points(points, self.drops(), forecast=forecast)

    def alternatives(self, points: Sequence[Candidate]) -> list[Alternative]:
        """The named points of a front, with the commands that make their models."""
        return [self.alternative(name, one) for name, one in self.named(points).items()]

    def alternative(self, name: str, named: NamedPoint) -> Alternative:
        """A named point with what is known of it."""
        whole = self.original_metrics.get(AS_BUILT, self.original_metrics.get(METRIC, 1.0))
        metric, state = self.metric(named.point.trial) or (whole - named.drop / 100, ESTIMATED)
        predicted, after = None, named.predicted
        if after and state not in (STATE_NAMES[TUNED], STATE_NAMES[CALIBRATED]):
            predicted = whole - after.drop / 100, whole - after.high / 100, whole - after.low / 100
        time, timed = self.milliseconds(named.point)
        trial, costs, command = named.point.trial, dict(named.point.costs), self.command(named.point)
        return Alternative(name, trial, costs, metric, state, predicted, time, timed, command)

    def rows(self, points: Sequence[Candidate], chosen: int | None = None, every: bool = False) -> list[PointRow]:
        """Points of a front as rows: the best within round budgets, the named and the chosen one, or every point."""
        budgets = {point.trial: budget for budget, point in budget_points(points, self.cost(points)).items()}
        names = {one.point.trial: name for name, one in self.named(points).items()}
        shown = [p for p in points if every or p.trial in budgets or p.trial in names or p.trial == chosen]
        marks = [(names.get(p.trial, ""), budgets.get(p.trial), p.trial == chosen) for p in shown]
        return [self.row(point, *mark) for point, mark in zip(shown, marks, strict=True)]

    def row(self, point: Candidate, name: str = "", budget: float | None = None, chosen: bool = False) -> PointRow:
        """A point as a row of a table."""
        return PointRow(point, self.metrics.get(point.trial, {}), *self.milliseconds(point), name, budget, chosen)

    def command(self, point: Candidate) -> str:
        """The command that makes the model of a point as the study's own runs do: tuned, or built alone.

        Where that model is there already, the command makes it model.keras again.
        """
        tunes, models = self.spec.tune.epochs > 0, self.folder.models
        made = models.tuned(point) if tunes else models.latest(point)
        words = ["select" if made else "tune" if tunes else "build", self.spec.name, "--trial", str(point.trial)]
        if self.folder.path != Path("runs") / self.spec.name:
            words += ["--out", str(self.folder.path)]
        if self.store.url != self.folder.url:
            words += ["--storage", url_without_password(self.store.url)]
        return f"python -m lrf_optuna {shlex.join(words)}"
