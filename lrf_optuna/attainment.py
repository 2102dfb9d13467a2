"""What a front has attained, on a grid, so that many points can be asked at once what they would add to its volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.stages import Array

CELLS = 10_000
"""Of the grid at most; its lines are quantiles of the front's own costs."""
ZONE = 0.9
"""From this share of a limit up to the limit a cost is worth looking at most closely."""
BELOW, ABOVE = 0.003, 0.001
"""What a cost is worth looking at there, where 1 is the zone."""


@dataclass(frozen=True, slots=True)
class Interest:
    """How closely each cost is looked at: costs with a limit are stretched just below it. 0 and 1 stay where they are.

    A volume in stretched costs is one in which the neighbourhood of the limits counts most.
    """

    limits: tuple[float | None, ...]

    @classmethod
    def of(cls, objectives: Sequence[str], limits: Mapping[str, float]) -> Interest:
        """For costs in the order of the objectives, with the most that is wanted of some of them."""
        return cls(tuple(limits.get(name) for name in objectives))

    @property
    def aims(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for limit in self.limits)

    def __call__(self, costs: Array) -> Array:
        """Costs `(n, costs)`, stretched."""
        return np.stack([stretched(column, limit) for column, limit in zip(costs.T, self.limits, strict=True)], axis=1)


def stretched(values: Array, limit: float | None) -> Array:
    """The integral from 0 of how closely a cost with this limit is looked at, as a share of that up to 1."""
    if limit is None or not 0 < limit < 1:
        return values
    knots = np.array([0, ZONE * limit, limit, 1])
    heights = np.array([0, *np.cumsum(np.diff(knots) * (BELOW, 1, ABOVE))])
    beyond: Array = np.interp(values, knots, heights / heights[-1]) + np.maximum(values - 1, 0)
    return beyond


@dataclass(frozen=True, slots=True)
class Attainment:
    """The least first cost that a front has at each combination of the others: `attained` over the grid of `lines`."""

    lines: tuple[Array, ...]
    attained: Array

    @classmethod
    def of(cls, points: Array) -> Attainment:
        """Of points `(n, costs)`; what they do not reach is at 1."""
        others = points.shape[1] - 1
        if not others:
            return cls((), np.minimum(points[:, 0].min(), 1.0))
        most = int(CELLS ** (1 / others))
        lines = tuple(grid(points[:, axis], most) for axis in range(1, points.shape[1]))
        attained = np.ones([len(line) for line in lines])
        at = [np.searchsorted(line, points[:, axis]) for axis, line in enumerate(lines, start=1)]
        inside = np.all([place < len(line) for place, line in zip(at, lines, strict=True)], axis=0)
        np.minimum.at(attained, tuple(place[inside] for place in at), points[inside, 0])
        for axis in range(others):
            attained = np.minimum.accumulate(attained, axis=axis)
        return cls(lines, attained)

    def gains(self, points: Array) -> Array:
        """The volume that each of the points `(n, costs)` would add alone, `(n,)`."""
        gains, gaining = np.zeros(len(points)), self.gaining(points)
        if len(gaining):
            gains[gaining] = self.volumes(points[gaining])
        return gains

    def gaining(self, points: Array) -> NDArray[np.intp]:
        """The numbers of those that are better than the front at the combination of the other costs just below."""
        at = [np.searchsorted(line, points[:, axis], "right") - 1 for axis, line in enumerate(self.lines, start=1)]
        return np.flatnonzero(points[:, 0] < self.attained[tuple(np.maximum(place, 0) for place in at)])

    def volumes(self, points: Array) -> Array:
        """The same, cell by cell for every one of the points."""
        left = self.attained - points[:, 0].reshape(-1, *(1 for _ in self.lines))
        np.maximum(left, 0, out=left)
        for axis, line in reversed(list(enumerate(self.lines, start=1))):
            ends = np.append(line[1:], 1.0)
            widths = np.clip(ends - np.maximum(line, points[:, axis, None]), 0, None)
            flat = left.reshape(len(points), -1, len(line))
            left = (flat @ widths[:, :, None]).reshape(left.shape[:-1])  # several times faster than einsum
        return left


def grid(values: Array, most: int) -> Array:
    """At most `most` lines below 1: 0, and of the values themselves all or as many quantiles."""
    lines: Array = np.unique(np.append(0.0, np.quantile(values, np.linspace(0, 1, most - 1), method="nearest")))
    return lines[lines < 1]
