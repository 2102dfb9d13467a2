"""One point off the front, for a reason: within targets, the smallest within a drop of the metric, or the knee.

Where nothing is asked for, it is the smallest within one point, which is predicted for the time after a fine-tune
where one comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.plans.front import size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.selection.contest import BUILT, SKETCHED, Contest, distinct, loss

SMALLEST_METRIC = 1e-9
"""A metric of the original that shares of it are still taken of: metrics such as R2 may be 0 or less."""


def choose_point(
    points: Sequence[Candidate],
    *,
    targets: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    knee: bool = False,
    contest: Contest | None = None,
    others: Sequence[Candidate] = (),
) -> tuple[Candidate, str]:
    """One point off the front, and why.

    With `targets` (cost -> most) the best of the points within them by the metric; with `max_drop` the smallest within
    the targets that loses at most as many points of it; with `knee` the point nearest to nothing lost and size 0; else
    the smallest that loses at most `ChoiceSettings.default_drop`. `contest` measures points, and says whether a drop is
    that of the built network or the one that is predicted after a fine-tune. Without it the loss stands for the metric,
    but for no drop, and the knee is the default. `others`: candidates off the front that a refit may lift above it,
    which are compared within targets. Raises LrfError where no point qualifies, with what there is, and for
    a drop without `contest`.
    """
    wanted = targets or {}
    if not points:
        raise LrfError("the study has no finished trial to choose from: run it first")
    for cost in wanted:
        lookup(points[0].costs, cost, "target")
    inside = [p for p in points if all(p.costs[cost] <= most for cost, most in wanted.items())]
    if not inside:
        raise LrfError(f"no point of the front meets {targets_text(wanted)}; {smallest_text(points, wanted)}")
    if contest is None and max_drop is not None:
        raise LrfError(f"{max_drop=:g} is of points of the metric: give `contest`, which measures plans")
    if contest is None:
        return by_loss(inside, wanted)
    if max_drop is not None:
        return smallest_within_drop(inside, wanted, max_drop, contest)
    if wanted:
        return best_within(inside, wanted, contest, others)
    return knee_of(inside, contest) if knee else smallest_by_default(inside, contest)


def best_of_each_method(
    candidates: Sequence[Candidate], layers: Sequence[str], targets: Mapping[str, float]
) -> list[Candidate]:
    """For each method of some layers the candidate within targets that has it at the least loss."""
    found: dict[tuple[str, str], Candidate] = {}
    inside = (one for one in candidates if all(one.costs[cost] <= most for cost, most in targets.items()))
    for candidate in sorted(inside, key=loss):
        for layer in layers:
            found.setdefault((layer, candidate.plan[layer].method), candidate)
    return distinct(list(found.values()))


def by_loss(points: Sequence[Candidate], targets: Mapping[str, float]) -> tuple[Candidate, str]:
    """The least loss within targets, else the knee."""
    if targets:
        best = min(points, key=loss)
        return best, f"the least loss of the {len(points)} points within {targets_text(targets)}"
    return min(points, key=knee_distance), f"the knee of {len(points)} points: nearest to loss 0 and size 0"


def best_within(
    points: Sequence[Candidate], targets: Mapping[str, float], contest: Contest, others: Sequence[Candidate] = ()
) -> tuple[Candidate, str]:
    """The best by the metric of the points with the least loss, as far as validation images tell; then by closeness."""
    best, drop, count = contest.best(sorted(points, key=loss), contest.closest, others)
    return best, f"the best of {count} points within {targets_text(targets)}: {drop_text(drop, contest)}"


def knee_of(points: Sequence[Candidate], contest: Contest) -> tuple[Candidate, str]:
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
    """The smallest point that loses at most `most` points, among those up to the border that a sketch finds.

    Raises LrfError where no point does, with the least drop that was found.
    """
    point, drop = smallest_or_best(points, most, contest)
    limit = limit_text(most, contest)
    if drop <= contest.most_built(most):
        return point, f"the smallest point that {loses(contest)} at most {limit}: {small_text(drop, contest)}"
    within = f" within {targets_text(targets)}" if targets else ""
    raise LrfError(
        f"no point of the front{within} {loses(contest)} at most {limit}; the least is {finished(drop, contest):.2f}"
    )


def smallest_by_default(points: Sequence[Candidate], contest: Contest) -> tuple[Candidate, str]:
    """The smallest changed network within the default drop, else the one that loses least, which is said."""
    most = contest.settings.default_drop
    point, drop = smallest_or_best([p for p in points if p.plan.changed] or points, most, contest)
    what = f"{loses(contest)} at most {limit_text(most, contest)}"
    if drop <= contest.most_built(most):
        return point, f"the smallest point that {what}: {small_text(drop, contest)}"
    return point, f"no point {what}, and of those measured this one loses least: {small_text(drop, contest)}"


def smallest_or_best(points: Sequence[Candidate], most: float, contest: Contest) -> tuple[Candidate, float]:
    """The smallest point that loses at most `most` points, and its drop as built; else the one that loses least.

    Points up to the border that a sketch finds are tried, or the one with the least loss where a sketch finds none.
    A smaller one beyond the border is taken where it was measured as built before.
    """
    ordered, limit = sorted(points, key=loss), contest.most_built(most)
    border = count_within_drop(ordered, limit, contest)
    tried: dict[int, float] = {}
    by_size = sorted(ordered[: max(border, 1)], key=size)
    with contest.progress.task(f"{contest.metric.compared_name}, small to large", len(by_size)) as step:
        for place, point in enumerate(by_size):
            drop = contest.drop(point, SKETCHED) if border else 0.0
            if drop <= limit:
                drop = tried[place] = contest.drop(point, BUILT)
            step(1, note=f"last {0 - drop:+.2f} against the original, allowed {0 - limit:+.2f}")
            if drop <= limit:
                return smallest_known((point, drop), points, limit, contest)
    best = min(tried, key=tried.__getitem__)
    return by_size[best], tried[best]


def smallest_known(
    found: tuple[Candidate, float], points: Sequence[Candidate], limit: float, contest: Contest
) -> tuple[Candidate, float]:
    """A point and its drop as built, or those of the smallest point that is known to lose at most `limit` points."""
    known = [(p, contest.drop(p, BUILT)) for p in points if contest.metric.knows(p.plan, BUILT)]
    return min([found, *((p, drop) for p, drop in known if drop <= limit)], key=lambda one: size(one[0]))


def count_within_drop(ordered: Sequence[Candidate], most: float, contest: Contest) -> int:
    """How many of the points, the least loss first, drop at most `most` when refitted to few images; by bisection."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        within = contest.drop(ordered[middle], SKETCHED) <= most
        low, high = (middle + 1, high) if within else (low, middle)
    return low


def loss_within_drop(points: Sequence[Candidate], most: float, contest: Contest) -> float:
    """The loss up to which points drop at most `most` points of the metric: half way to the first that drops more."""
    ordered = sorted(points, key=loss)
    border = count_within_drop(ordered, contest.most_built(most), contest)
    losses = [0.0, *map(loss, ordered), 1.0]
    return (losses[border] + losses[border + 1]) / 2


def knee_distance(candidate: Candidate) -> float:
    """The distance of a candidate from loss 0 and size 0.

    For unit vectors sqrt(2 (1 - cosine)) is their distance, so a loss counts as the distance of the feature maps; the
    other axis is the size.
    """
    return sqrt(2 * max(0.0, candidate.costs.get("loss", 0.0)) + size(candidate) ** 2)


def drop_text(drop: float, contest: Contest) -> str:
    """A drop as built in words."""
    return f"{drop:.2f} points of {contest.metric.compared_name} lost before tuning"


def small_text(drop: float, contest: Contest) -> str:
    """A drop as built, and the one that is predicted for later."""
    if not contest.forecast:
        return f"{drop:.2f} before tuning"
    return f"{contest.forecast.after(drop)} after {contest.forecast.step}, {drop:.2f} before it"


def limit_text(most: float, contest: Contest) -> str:
    """A limit of the drop in words."""
    return f"{most:g} point{'s' * (most != 1)} of {contest.metric.compared_name}"


def finished(drop: float, contest: Contest) -> float:
    """A drop as built, or the one that is predicted for later."""
    return contest.forecast.after(drop).drop if contest.forecast else drop


def loses(contest: Contest) -> str:
    """The verb for a drop that is measured or predicted."""
    return "is predicted to lose" if contest.forecast else "loses"


def targets_text(targets: Mapping[str, float]) -> str:
    """Targets in words."""
    return " and ".join(f"{cost} <= {most:g}" for cost, most in targets.items())


def smallest_text(points: Sequence[Candidate], targets: Mapping[str, float]) -> str:
    """The least costs that there are, in words."""
    least = {cost: min(p.costs[cost] for p in points) for cost in targets}
    return "the smallest on it: " + ", ".join(f"{cost} {value:.3f}" for cost, value in least.items())
