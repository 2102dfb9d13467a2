"""The metrics of a study's points: what was measured stays with their trials, and is known when the study goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrf_optuna.plans.front import budget_cost, budget_points
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED
from lrf_optuna.selection.plan_refits import PlanRefits, StageResult
from lrf_optuna.storage.study import AS_BUILT, METRIC, StudyStore

if TYPE_CHECKING:
    from lrf_optuna.pipeline.run import Run

STAGES = {SCORED: "scored", SKETCHED: "sketched", BUILT: "built"}
"""Stage of a choice -> its name in the database."""
KEPT = {SCORED: METRIC, BUILT: AS_BUILT}
"""Stage of a choice -> the name of the metric that a trial keeps of it."""


@dataclass
class PointMetrics:
    """The metrics of points as `refits` measures them, and as `store` keeps them.

    `digest_of_images`: of all that decides a metric: what was kept under another digest is not known.
    """

    store: StudyStore
    refits: PlanRefits
    digest_of_images: str
    progress: Progress = SILENT
    known: set[tuple[Plan, int]] = field(default_factory=set)
    """Plans and stages that the store has."""

    def recall(self, candidates: Sequence[Candidate]) -> None:
        """Let what the store has of some candidates be known to the refits, so that it is not measured again."""
        kept = self.store.measurements(self.digest_of_images)
        for candidate in candidates:
            for stage, name in STAGES.items():
                if name in kept.get(candidate.trial, {}):
                    self.refits.results[candidate.plan, stage] = StageResult.of_list(kept[candidate.trial][name])
                    self.known.add((candidate.plan, stage))

    def measure(self, points: Sequence[Candidate]) -> None:
        """Measure points as they were scored, where that is not known: a pass over some validation images each."""
        unknown = [point for point in points if point.plan.changed and (point.plan, SCORED) not in self.refits.results]
        if unknown:
            with self.progress.task(f"{self.refits.name} along the front", len(unknown)) as step:
                for point in unknown:
                    found = self.refits.measurement(point.plan, SCORED).metric
                    step(1, note=f"{found:.2%}")
        self.keep(points)

    def keep(self, candidates: Sequence[Candidate]) -> None:
        """Keep all that was measured of some candidates with their trials, in a few transactions."""
        new = [
            c for c in candidates if any((c.plan, stage) in self.refits.results.keys() - self.known for stage in STAGES)
        ]
        whole = [c for c in candidates if not c.plan.changed]
        if not new and not (whole and METRIC not in self.store.metrics().get(whole[0].trial, {})):
            return
        original = self.original()
        metrics = {
            c.trial: {KEPT[s]: one.measurement.metric for s, one in self.of(c).items() if s in KEPT} for c in new
        }
        metrics |= {c.trial: original for c in whole}
        images = self.refits.validation.own_images
        of: dict[str, Any] = {"name": self.refits.name, "compared": self.refits.compared_name}
        of |= {"digest": self.digest_of_images, "images": images, "original": original}
        measured = {c.trial: {STAGES[stage]: one.to_list() for stage, one in self.of(c).items()} for c in new}
        self.store.keep_measurements(of, metrics, measured)
        self.known |= {(c.plan, stage) for c in new for stage in self.of(c)}

    def of(self, candidate: Candidate) -> Mapping[int, StageResult]:
        """Stage -> what was measured of a candidate."""
        found = ((stage, self.refits.results.get((candidate.plan, stage))) for stage in STAGES)
        return {stage: one for stage, one in found if one is not None}

    def original(self) -> dict[str, float]:
        """Name -> the original's metric on the images of the stages that were measured."""
        stages = {stage for _, stage in self.refits.results} | {SCORED}
        return {name: self.refits.measurement(Plan(()), s).metric for s, name in KEPT.items() if s in stages}


def keep_metrics(run: Run, points: Sequence[Candidate]) -> bool:
    """Measure the points of a front at round budgets where that is not done, and keep all that was measured.

    Gives whether anything is new. Where the loss alone decides, no metric is measured.
    """
    search = run.spec.search
    wanted = list(budget_points(points, budget_cost(points, search.wanted)).values())
    known = run.record.metrics()
    measured = "point_metrics" in vars(run)  # a cached property: for a choice
    if not (measured or (search.measures and any(METRIC not in known.get(p.trial, {}) for p in wanted))):
        return False
    if search.measures:
        run.point_metrics.measure(wanted)
    run.point_metrics.keep(points)
    return True
