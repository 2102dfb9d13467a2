"""One point off the front, for a reason: within targets, within a drop of the metric, or the knee.

Where the metric can be measured, points are compared by successive halving (Karnin et al. 2013): in every stage fewer
points are measured more exactly. All are measured on the same images, and a point goes where it is clearly behind the
best one: by three standard errors of the paired difference. Of the others those go on whose logits
are closest to the original's: among networks alike in size, the cosine on 128 images ranks accuracies better than the
accuracy on 1,000 images does (Kendall's tau .80 and .67, benchmarks/results/proxy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import numpy as np

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.plans.front import size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.selection.measurement import Measurement

SCORED, SKETCHED, BUILT = range(3)
"""The stages: a network as it was scored, refitted to few images, and as it would be built; each on more images."""
STAGE_LABELS = "as scored", "refitted", "as built"
SMALLEST_METRIC = 1e-9
"""A metric of the original that shares of it are still taken of: metrics such as R2 may be 0 or less."""


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
    weight_of_drop: float = 2
    """At the knee, what a share of the metric lost counts, where a share of size counts 1."""


Ranking = Callable[[Sequence[Candidate], Sequence[float], int], list[Candidate]]
"""Points, their drops in points of the metric, and the stage that measured these -> the points that go on, in order."""


def choose_point(
    points: Sequence[Candidate],
    *,
    targets: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    metric: StagedMetric | None = None,
    settings: ChoiceSettings = ChoiceSettings(),
    progress: Progress = SILENT,
) -> tuple[Candidate, str]:
    """One point off the front, and why.

    With `targets` (cost -> most) the best of the points within them by the metric; with `max_drop` the smallest that
    loses at most as many points of it before tuning, within the targets; else the knee: the point nearest to nothing
    lost and size 0. Without `metric` the loss stands for it, but for no drop. Raises LrfError where no point qualifies,
    with what there is, and for a drop without `metric`.
    """
    wanted = targets or {}
    if not points:
        raise LrfError("the study has no finished trial to choose from: run it first")
    for cost in wanted:
        lookup(points[0].costs, cost, "target")
    inside = [p for p in points if all(p.costs[cost] <= most for cost, most in wanted.items())]
    if not inside:
        raise LrfError(f"no point of the front meets {targets_text(wanted)}; {smallest_text(points, wanted)}")
    if metric is None and max_drop is not None:
        raise LrfError(f"{max_drop=:g} is of points of the metric: give `metric`, which measures plans")
    if metric is None:
        return by_loss(inside, wanted)
    contest = Contest(metric, settings, progress)
    if max_drop is not None:
        return smallest_within_drop(inside, wanted, max_drop, contest)
    return best_within(inside, wanted, contest) if targets else knee(inside, contest)


@dataclass(frozen=True, slots=True)
class Contest:
    """Points against each other and against the original, by a metric measured in stages."""

    metric: StagedMetric
    settings: ChoiceSettings = ChoiceSettings()
    progress: Progress = SILENT

    def drop(self, point: Candidate, stage: int) -> float:
        """Points of the metric that a point loses at a stage; below none where it is better than the original."""
        original, found = (self.metric.measurement(plan, stage).metric for plan in (Plan(()), point.plan))
        return round(100 * (original - found), DROP_DECIMALS)

    def best(self, points: Sequence[Candidate], ranking: Ranking) -> tuple[Candidate, float, int]:
        """The point that a ranking has first at the last stage, its drop as built, and how many were measured."""
        few, more = list(points[: self.settings.scored]), points[self.settings.scored : self.settings.scored_if_broken]
        drops, most = self.drops(few, SCORED), self.settings.sketched
        if min(drops) > self.settings.broken:
            few, drops = [*few, *more], [*drops, *self.drops(more, SCORED)]
            most = self.settings.sketched_if_broken
        sketched = ranking(few, drops, SCORED)[:most]
        found = ranking(sketched, self.drops(sketched, SKETCHED), SKETCHED)[0]
        return found, self.drops([found], BUILT)[0], len(few)

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


def by_loss(points: Sequence[Candidate], targets: Mapping[str, float]) -> tuple[Candidate, str]:
    """The least loss within targets, else the knee."""
    if targets:
        best = min(points, key=loss)
        return best, f"the least loss of the {len(points)} points within {targets_text(targets)}"
    return min(points, key=knee_distance), f"the knee of {len(points)} points: nearest to loss 0 and size 0"


def best_within(points: Sequence[Candidate], targets: Mapping[str, float], contest: Contest) -> tuple[Candidate, str]:
    """The best by the metric of the points with the least loss, as far as validation images tell; then by closeness."""
    best, drop, count = contest.best(sorted(points, key=loss), contest.closest)
    return best, f"the best of {count} points within {targets_text(targets)}: {drop_text(drop, contest)}"


def knee(points: Sequence[Candidate], contest: Contest) -> tuple[Candidate, str]:
    """The point along the front that is nearest to nothing of the metric lost and size 0."""
    whole = max(contest.metric.measurement(Plan(()), BUILT).metric, SMALLEST_METRIC)
    weight = contest.settings.weight_of_drop / 100 / whole

    def nearest(few: Sequence[Candidate], drops: Sequence[float], _: int) -> list[Candidate]:
        distances = [sqrt((weight * max(drop, 0)) ** 2 + size(p) ** 2) for p, drop in zip(few, drops, strict=True)]
        return [few[i] for i in sorted(range(len(few)), key=distances.__getitem__)]

    best, drop, count = contest.best(spread_by_size(points, contest.settings.scored), nearest)
    nearest_to = f"nearest to no {contest.metric.name} lost and size 0"
    return best, f"the knee of {count} points along the front: {nearest_to}; {drop_text(drop, contest)}"


def spread_by_size(points: Sequence[Candidate], count: int) -> list[Candidate]:
    """In each of `count` equal intervals of size the point nearest to loss 0 and size 0, where any is."""
    sizes = [size(point) for point in points]
    edges = np.linspace(min(sizes), max(sizes), count + 1)[1:-1]
    found: dict[int, Candidate] = {}
    for point in sorted(points, key=knee_distance):
        found.setdefault(int(np.searchsorted(edges, size(point))), point)
    return [found[interval] for interval in sorted(found)]


def smallest_within_drop(
    points: Sequence[Candidate], targets: Mapping[str, float], most: float, contest: Contest
) -> tuple[Candidate, str]:
    """The smallest point whose drop as built is at most `most`, among those up to the border that a sketch finds.

    Where a sketch finds none within the drop, the point with the least loss is measured as built.
    """
    ordered = sorted(points, key=loss)
    border = count_within_drop(ordered, most, contest)
    least, name = float("inf"), contest.metric.compared_name
    with contest.progress.task(f"{name} within {most:g} points", max(border, 1)) as step:
        for point in sorted(ordered[: max(border, 1)], key=size):
            drop = contest.drop(point, SKETCHED) if border else 0.0
            if drop <= most:
                drop = contest.drop(point, BUILT)
            step(1, note=f"last {0 - drop:+.2f} against the original")
            if drop <= most:
                return (
                    point,
                    f"the smallest point that loses at most {most:g} points of {name} ({drop:.2f})",
                )
            least = min(least, drop)
    within = f" within {targets_text(targets)}" if targets else ""
    raise LrfError(f"no point of the front{within} loses at most {most:g} points of {name}; the least is {least:.2f}")


def count_within_drop(ordered: Sequence[Candidate], most: float, contest: Contest) -> int:
    """How many of the points, the least loss first, drop at most `most` when refitted to few images; by bisection."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        within = contest.drop(ordered[middle], SKETCHED) <= most
        low, high = (middle + 1, high) if within else (low, middle)
    return low


def loss_within_drop(points: Sequence[Candidate], most: float, metric: StagedMetric) -> float:
    """The loss up to which points drop at most `most` points of the metric: half way to the first that drops more."""
    ordered = sorted(points, key=loss)
    border = count_within_drop(ordered, most, Contest(metric))
    losses = [0.0, *map(loss, ordered), 1.0]
    return (losses[border] + losses[border + 1]) / 2


def loss(point: Candidate) -> float:
    """The loss; where it is no objective, the larger network counts as the better one."""
    return point.costs.get("loss", -size(point))


def knee_distance(candidate: Candidate) -> float:
    """The distance of a candidate from loss 0 and size 0.

    For unit vectors sqrt(2 (1 - cosine)) is their distance, so a loss counts as the distance of the feature maps; the
    other axis is the size.
    """
    return sqrt(2 * max(0.0, candidate.costs.get("loss", 0.0)) + size(candidate) ** 2)


def drop_text(drop: float, contest: Contest) -> str:
    """A drop in words."""
    return f"{drop:.2f} points of {contest.metric.compared_name} lost before tuning"


def targets_text(targets: Mapping[str, float]) -> str:
    """Targets in words."""
    return " and ".join(f"{cost} <= {most:g}" for cost, most in targets.items())


def smallest_text(points: Sequence[Candidate], targets: Mapping[str, float]) -> str:
    """The least costs that there are, in words."""
    least = {cost: min(p.costs[cost] for p in points) for cost in targets}
    return "the smallest on it: " + ", ".join(f"{cost} {value:.3f}" for cost, value in least.items())
