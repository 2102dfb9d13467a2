"""Three points of a front with names, for whoever has no number in mind: safe, balanced and small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrf_optuna.plans.front import size
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Prediction
from lrf_optuna.selection.forecast import Forecast, drops_by_loss


@dataclass(frozen=True, slots=True)
class DropLimits:
    """The most points of the metric that a point of each name loses: after a fine-tune where one comes."""

    safe: float = 0.25
    """About no drop: the standard error of an accuracy of 97 % on 5,000 images."""
    balanced: float = 1.0
    """The usual claim of papers on compression is a drop of less than 1 or 1.5 points."""
    small: float = 3.0
    """A drop that is seen, for whoever needs the smallest network that is still of use."""


@dataclass(frozen=True, slots=True)
class NamedPoint:
    """A point with a name. `drop`: points of the metric that it loses before any fine-tune.

    `measured`: whether this drop was measured, or lies between those of points with the next losses. `predicted`: the
    drop after the fine-tune or calibration; None where none comes.
    """

    point: Candidate
    drop: float
    measured: bool
    predicted: Prediction | None


def named_points(
    points: Sequence[Candidate],
    drops: Mapping[int, float],
    *,
    forecast: Forecast | None = None,
    limits: DropLimits = DropLimits(),
) -> dict[str, NamedPoint]:
    """Name -> the smallest point of a front within the limit of this name: at most safe, balanced and small.

    `drops`: trial -> points of the metric that its network loses, as built or as close to that as is known. `forecast`:
    of the fine-tune or calibration that comes. Names are of different points: a name without a point of its own is left
    out, and so are all names where no drop is known. The unchanged network has no name.
    """
    before = drops_by_loss(points, drops) if all("loss" in point.costs for point in points) else dict(drops)
    changed = sorted((p for p in points if p.plan.changed and p.trial in before), key=size)
    found: dict[str, NamedPoint] = {}
    taken: list[Candidate] = []
    for name in ("balanced", "safe", "small"):
        most = getattr(limits, name)
        before_most = forecast.most_before(most) if forecast else most
        fit = [p for p in changed if before[p.trial] <= before_most]
        own = next((p for p in fit if p not in taken), None)
        if own is None or (name == "small" and taken and size(own) >= size(taken[0])):
            continue
        taken.append(own)
        drop = before[own.trial]
        found[name] = NamedPoint(own, drop, own.trial in drops, forecast.after(drop) if forecast else None)
    return {name: found[name] for name in ("safe", "balanced", "small") if name in found}
