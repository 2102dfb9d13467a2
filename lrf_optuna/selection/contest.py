"""Points against each other and against the original, by a metric that is measured in stages.

Points are compared by successive halving (Karnin et al. 2013): in every stage fewer points are measured more exactly.
All are measured on the same images, and a point goes where it is clearly behind the best one: by three standard errors
of the paired difference. Of the others those go on whose logits are closest to the original's: among networks alike in
size, the cosine on 128 images ranks accuracies better than the accuracy on 1,000 images does (Kendall's tau .80 and
.67, benchmarks/results/proxy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lrf_optuna.plans.front import size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.selection.forecast import Forecast
from lrf_optuna.selection.measurement import Measurement

SCORED, SKETCHED, BUILT = range(3)
"""The stages: a network as it was scored, refitted to few images, and as it would be built; each on more images."""
STAGE_LABELS = "as scored", "refitted", "as built"
DROP_DECIMALS = 9
"""Decimals of a drop in points: below them is the rounding of floats, which must not decide about a limit."""


class StagedMetric(Protocol):
    """What measures plans for a choice."""

    @property
    def name(self) -> str:
        """The name of the metric, such as accuracy; 1 is perfect, and a hundredth is a point."""

    @property
    def compared_name(self) -> str:
        """The name with the images that plans are compared on, such as validation accuracy."""

    def measurement(self, plan: Plan, stage: int) -> Measurement:
        """The metric of a plan's network at a stage, on the same validation images for all plans."""

    def knows(self, plan: Plan, stage: int) -> bool:
        """Whether the metric of a plan at a stage was measured before."""

    def closeness(self, plan: Plan, stage: int) -> float:
        """How close the logits of a plan's network are to the original's at a stage: 1 where they are equal."""


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """How many points are measured, and what counts."""

    scored: int = 12
    """Points that are measured as they were scored: those with the least loss, or along the front."""
    scored_if_broken: int = 40
    """The same where all of the first lose much: on vgg6 at a tenth of its parameters a point with 1.7 times the least
    loss was the most accurate."""
    broken: float = 10
    """Points of the metric that count as much; a point is a hundredth."""
    sketched: int = 3
    """Points that are refitted to few images."""
    sketched_if_broken: int = 8
    """The same where all lose much: a refit changes most there."""
    standard_errors: float = 3
    """A point goes where it is behind the best one by as many standard errors of their paired difference. A dozen
    points are compared with the best of them: with 3 one choice of a hundred loses its best point by chance."""
    default_drop: float = 1
    """Points of the metric that the smallest network may lose where nothing is asked for. Papers on compression report
    networks that lose less than 1 or 1.5 points."""
    weight_of_drop: float = 2
    """At the knee, what a share of the metric lost counts, where a share of size counts 1."""


Ranking = Callable[[Sequence[Candidate], Sequence[float], int], list[Candidate]]
"""Points, their drops in points of the metric, and the stage that measured these -> the points that go on, in order."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Points against each other and against the original, by a metric measured in stages.

    `forecast`: predicts the drop after what is done to a network once it is built; None where nothing is.
    """

    metric: StagedMetric
    settings: ChoiceSettings = ChoiceSettings()
    progress: Progress = SILENT
    forecast: Forecast | None = None

    def most_built(self, most: float) -> float:
        """The largest drop as built that goes with a drop of `most` points of the finished network."""
        return self.forecast.most_before(most) if self.forecast else most

    def drop(self, point: Candidate, stage: int) -> float:
        """Points of the metric that a point loses at a stage; below none where it is better than the original."""
        original, found = (self.metric.measurement(plan, stage).metric for plan in (Plan(()), point.plan))
        return round(100 * (original - found), DROP_DECIMALS)

    def best(
        self, points: Sequence[Candidate], ranking: Ranking, others: Sequence[Candidate] = ()
    ) -> tuple[Candidate, float, int]:
        """The point that a ranking has first at the last stage, its drop as built, and how many were measured.

        `others` are refitted in any case.
        """
        few, more = list(points[: self.settings.scored]), points[self.settings.scored : self.settings.scored_if_broken]
        drops, most = self.drops(few, SCORED), self.settings.sketched
        if min(drops) > self.settings.broken:
            few, drops = [*few, *more], [*drops, *self.drops(more, SCORED)]
            most = self.settings.sketched_if_broken
        sketched = distinct([*ranking(few, drops, SCORED)[:most], *others])
        found = ranking(sketched, self.drops(sketched, SKETCHED), SKETCHED)[0]
        return found, self.drops([found], BUILT)[0], len(distinct([*few, *others]))

    def drops(self, points: Sequence[Candidate], stage: int) -> list[float]:
        """The drops of points at a stage, shown as they come."""
        found = []
        with self.progress.task(f"{self.metric.compared_name}, {STAGE_LABELS[stage]}", len(points)) as step:
            for point in points:
                found.append(self.drop(point, stage))
                step(1, note=f"last {0 - found[-1]:+.2f}, best {0 - min(found):+.2f} against the original")
        return found

    def closest(self, points: Sequence[Candidate], drops: Sequence[float], stage: int) -> list[Candidate]:
        """The points that are not clearly behind the best one at a stage, the closest logits first.

        Where all lose much, metrics differ by more than chance: the best point by the metric is first then.
        """
        least = min(drops)
        if least > self.settings.broken:
            return [points[i] for i in sorted(range(len(points)), key=drops.__getitem__)]
        leader = self.metric.measurement(points[drops.index(least)].plan, stage)

        def may_be_best(i: int) -> bool:
            behind, error = leader.difference(self.metric.measurement(points[i].plan, stage))
            return behind <= self.settings.standard_errors * error

        left = [point for i, point in enumerate(points) if may_be_best(i)]
        return sorted(left, key=lambda point: -self.metric.closeness(point.plan, stage))


def loss(point: Candidate) -> float:
    """The loss; where it is no objective, the larger network counts as the better one."""
    return point.costs.get("loss", -size(point))


def distinct(points: Sequence[Candidate]) -> list[Candidate]:
    """Points without those of a plan that was there before."""
    return list({point.plan: point for point in reversed(points)}.values())[::-1]
