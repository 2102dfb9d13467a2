"""One point off the front, for a reason: within targets, within a drop of accuracy, or the knee.

Where accuracies can be measured, a dozen points that are worth it are (more where that costs little, or where all of
these lose much), and the most accurate one wins. Where those of the networks as they would be built can, the last word
is among the best few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt

import numpy as np

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress

DOZEN = 12
"""Points of which the accuracy is measured, unless more are asked for."""
BROKEN = 5
"""Points of accuracy that a network within targets loses at least where others with more loss are looked at as well:
on vgg6 at a tenth of its parameters one with 1.7 times the loss of the best was the most accurate."""
GLANCED = 40
"""Points of which as many as are left then are glanced at, unless fewer are asked for."""
FINALISTS = 6
"""Of those measured, of which the accuracy as built is measured: that takes a refit of all layers each."""
BUILDS = 3
"""Of points that only a build might bring within a drop, so many are built in either way of looking for them."""
REACH = 4
"""Where a drop is tolerated, networks as built are looked at up to so many times the loss that is good without."""
DEAR = 2
"""At the knee, what a share of accuracy lost counts, where a share of size counts 1."""

Measure = Callable[[Plan], float]
"""Plan -> the share of validation images that its network gets right."""
Away = Callable[[Candidate, float], float]
"""A point and its drop -> how far it is from what is wanted."""


def choose_point(
    points: Sequence[Candidate],
    *,
    targets: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    accuracy: Measure | None = None,
    built: Measure | None = None,
    glance: Measure | None = None,
    considered: int = DOZEN,
    glanced: int = GLANCED,
    progress: Progress = SILENT,
) -> tuple[Candidate, str]:
    """One point off the front, and why.

    With `targets` (cost -> most) the most accurate of those within them; with `max_drop` the smallest that loses no
    more points of accuracy before tuning, within the targets; else the knee: the point nearest to a perfect network of
    no size. Without `accuracy` the loss stands for it, but for no drop. `built`: the accuracy as built, which is never
    less; it decides between the best few. `considered`: how many points are measured at most, unless there is a drop to
    find. Where those within targets all lose much, so many more may be, the best by `glance`, a quicker measure, of
    `glanced` in all. Raises LrfError where no point qualifies, with what there is, and for a drop without `accuracy`.
    """
    wanted = targets or {}
    inside = [p for p in points if all(p.costs[cost] <= most for cost, most in wanted.items())]
    if not points:
        raise LrfError("the study has no finished trial to choose from: run it first")
    if not inside:
        raise LrfError(f"no point of the front meets {shown(wanted)}; {smallest(points, wanted)}")
    if accuracy is None and max_drop is not None:
        raise LrfError(
            f"{max_drop=:g} is of points of accuracy: give `accuracy`, a function plan -> share that is right"
        )
    if accuracy is None:
        return by_loss(inside, wanted)
    drops = AccuracyDrops(accuracy, built, progress, glance, considered, glanced)
    if max_drop is not None:
        return smallest_within_drop(inside, max_drop, drops)
    return most_accurate(inside, wanted, drops) if targets else knee(inside, drops)


class AccuracyDrops:
    """Candidate -> points of accuracy that it loses, as it was scored; `as_built` after the corrections of a build."""

    def __init__(
        self,
        accuracy: Measure,
        built: Measure | None = None,
        progress: Progress = SILENT,
        glance: Measure | None = None,
        considered: int = DOZEN,
        glanced: int = GLANCED,
    ) -> None:
        self.accuracy, self.built, self.progress, self.glance = accuracy, built, progress, glance
        self.considered, self.glanced = considered, glanced if glance else 0
        self.whole = accuracy(Plan(()))

    def __call__(self, candidate: Candidate) -> float:
        """Points of accuracy lost; fewer than none where the network is better than the original."""
        return self.lost(self.accuracy(candidate.plan))

    def as_built(self, candidate: Candidate) -> float:
        """The same of the network that would be built; as it was scored where that cannot be measured."""
        return self.lost((self.built or self.accuracy)(candidate.plan))

    def lost(self, share: float) -> float:
        """Points between the original's accuracy and a share."""
        return difference(self.whole, share)

    def of(self, points: Sequence[Candidate], measure: Measure, whole: float, label: str) -> list[float]:
        """The drops of several by a measure, in which the original has `whole`; shown as they come."""
        found = []
        with self.progress.task(label, len(points)) as step:
            for point in points:
                found.append(difference(whole, measure(point.plan)))
                step(1, note=f"{found[-1]:.2f} points lost")
        return found

    def measured(self, points: Sequence[Candidate], away: Away) -> tuple[list[Candidate], list[float]]:
        """The first of the points with their drops; where all of these lose much, the best of more at a glance, too."""
        few, more = list(points[: self.considered]), points[self.considered : self.glanced]
        drops = self.of(few, self.accuracy, self.whole, "accuracies")
        if self.glance and more and min(drops) > BROKEN:
            seen = self.of(more, self.glance, self.glance(Plan(())), "others at a glance")
            others = [more[i] for i in sorted(nearest(more, seen, away)[: self.considered])]
            few, drops = [*few, *others], [*drops, *self.of(others, self.accuracy, self.whole, "accuracies")]
        return few, drops

    def best(self, points: Sequence[Candidate], away: Away) -> tuple[Candidate, float, int]:
        """The point that is least `away`, its drop as built, and of how many that were measured; of equals the first.

        As scored first, then the best few as built.
        """
        few, drops = self.measured(points, away)
        count, order = len(few), nearest(few, drops, away)[:FINALISTS]
        if self.built:
            few = [few[i] for i in order]
            drops = self.of(few, self.built, self.whole, "as built")
            order = nearest(few, drops, away)
        return few[order[0]], drops[order[0]], count


def difference(whole: float, share: float) -> float:
    """Points of accuracy between two shares."""
    return round(100 * (whole - share), 6)  # 0.98 - 0.97 is a little above 0.01


def nearest(points: Sequence[Candidate], drops: Sequence[float], away: Away) -> list[int]:
    """The numbers of points with these drops, the least `away` first."""
    found: list[int] = np.argsort([away(*pair) for pair in zip(points, drops, strict=True)], kind="stable").tolist()
    return found


def by_loss(points: Sequence[Candidate], targets: Mapping[str, float]) -> tuple[Candidate, str]:
    """The least loss within targets, else the knee."""
    if targets:
        best = min(points, key=loss)
        return best, f"the least loss of the {len(points)} points within {shown(targets)}"
    return min(points, key=distance), f"the knee of {len(points)} points: nearest to a perfect network of no size"


def most_accurate(
    points: Sequence[Candidate], targets: Mapping[str, float], drops: AccuracyDrops
) -> tuple[Candidate, str]:
    """The most accurate of the points with the least loss, as many as are measured; of equals the one with less."""
    best, drop, count = drops.best(sorted(points, key=loss), lambda _, drop: drop)
    return best, f"the most accurate of {count} points within {shown(targets)}: {lost(drop)}"


def knee(points: Sequence[Candidate], drops: AccuracyDrops) -> tuple[Candidate, str]:
    """Of points along the front the nearest to a perfect network of no size, in accuracy and size."""
    few, whole = along(points, drops.considered), max(drops.whole, 1e-9)
    best, drop, count = drops.best(
        few, lambda point, drop: sqrt((DEAR * max(drop, 0) / 100 / whole) ** 2 + size(point) ** 2)
    )
    return best, f"the knee of {count} points along the front: nearest to a perfect network of no size; {lost(drop)}"


def along(points: Sequence[Candidate], count: int) -> list[Candidate]:
    """Points along the front: in each of `count` stretches of sizes the one nearest to a perfect network of no size."""
    sizes = [size(point) for point in points]
    edges = np.linspace(min(sizes), max(sizes), count + 1)[1:-1]
    nearest: dict[int, Candidate] = {}
    for point in sorted(points, key=distance):
        nearest.setdefault(int(np.searchsorted(edges, size(point))), point)
    return [nearest[stretch] for stretch in sorted(nearest)]


def smallest_within_drop(points: Sequence[Candidate], most: float, drops: AccuracyDrops) -> tuple[Candidate, str]:
    """The smallest point whose drop is at most `most`, found by halving along the loss; as built where that is known.

    Of those that only a build might bring within, a few are built.
    """
    ordered = sorted(points, key=loss)
    border, measured = bisect_drop(ordered, most, drops)
    end = further(ordered, border, most, drops)
    left = BUILDS if drops.built else 0
    with drops.progress.task("accuracies", end) as step:
        for place, candidate in enumerate(sorted(ordered[:end], key=size)):
            found = drops(candidate)
            if found > most and (left or candidate is ordered[end - 1]):
                left -= 1
                found = drops.as_built(candidate)
            step(end - place if found <= most else 1, note=f"{found:.2f} points lost")
            if found <= most:
                why = f"the smallest point that loses at most {most:g} points of validation accuracy ({found:.2f})"
                return candidate, why
    least = min(measured, default=float("nan"))
    raise LrfError(
        f"no point of the front loses at most {most:g} points of validation accuracy; the least is {least:.2f}"
    )


def bisect_drop(
    ordered: Sequence[Candidate], most: float, drop: Callable[[Candidate], float]
) -> tuple[int, list[float]]:
    """How many of the points, the least loss first, drop at most `most`, by halving; and the drops measured for it."""
    low, high, measured = 0, len(ordered), []
    while low < high:
        middle = (low + high) // 2
        measured.append(drop(ordered[middle]))
        low, high = (middle + 1, high) if measured[-1] <= most else (low, middle)
    return low, measured


def further(ordered: Sequence[Candidate], border: int, most: float, drops: AccuracyDrops) -> int:
    """How many of the points, the least loss first, drop at most `most` as built, where `border` do as scored.

    Found by halving among a few of those with a loss within reach, so that `BUILDS` are built.
    """
    if not drops.built or border == len(ordered):
        return border
    reach = REACH * loss(ordered[border])
    near = [i for i in range(border, len(ordered)) if loss(ordered[i]) <= reach]
    few = near[:: -(-len(near) // (2**BUILDS - 1)) or 1]
    count, _ = bisect_drop([ordered[i] for i in few], most, drops.as_built)
    return few[count - 1] + 1 if count else border


def tolerable(points: Sequence[Candidate], most: float, accuracy: Measure, built: Measure | None = None) -> float:
    """The loss up to which points drop at most `most` points of accuracy: half way to the first that drops more.

    With `built` it is the accuracy as built that may drop so much.
    """
    ordered, drops = sorted(points, key=loss), AccuracyDrops(accuracy, built)
    border = further(ordered, bisect_drop(ordered, most, drops)[0], most, drops)
    losses = [0.0, *map(loss, ordered), 1.0]
    return (losses[border] + losses[border + 1]) / 2


def loss(point: Candidate) -> float:
    """The loss; where it is no objective, the larger network is taken for the better one."""
    return point.costs.get("loss", -size(point))


def distance(candidate: Candidate) -> float:
    """How far a candidate is from a perfect network of no size.

    For unit vectors sqrt(2 (1 - cosine)) is their distance, so a loss counts as the distance of the feature maps; the
    other axis is the size.
    """
    return sqrt(2 * max(0.0, candidate.costs.get("loss", 0.0)) + size(candidate) ** 2)


def lost(drop: float) -> str:
    """A drop as words."""
    return f"{drop:.2f} points of validation accuracy lost before tuning"


def shown(targets: Mapping[str, float]) -> str:
    """Targets as words."""
    return " and ".join(f"{cost} <= {most:g}" for cost, most in targets.items())


def smallest(points: Sequence[Candidate], targets: Mapping[str, float]) -> str:
    """What the front has instead of the targets."""
    least = {cost: min(p.costs[cost] for p in points) for cost in targets}
    return "the smallest on it: " + ", ".join(f"{cost} {value:.3f}" for cost, value in least.items())
