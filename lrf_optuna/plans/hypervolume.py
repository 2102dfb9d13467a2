"""What a front has attained, on a grid, so that many points can be asked at once what they would add to its volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array


def hypervolume(points: Array) -> float:
    """The volume that points `(n, costs)` dominate below (1, ..., 1), slice by slice along the last cost."""
    inside = points[np.all(points < 1, axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(1 - inside.min())
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    heights = np.diff(inside[:, -1], append=1.0)
    if inside.shape[1] == 2:
        return float(heights @ (1 - np.minimum.accumulate(inside[:, 0])))
    return float(sum(h * hypervolume(inside[: i + 1, :-1]) for i, h in enumerate(heights) if h > 0))


def non_dominated(values: Array) -> Array:
    """Which rows of `(n, costs)` no other row beats, as indices; of equal rows the first one."""
    kept, numbers = [], np.lexsort(values.T[::-1])
    while len(numbers):
        kept.append(first := int(numbers[0]))
        numbers = numbers[np.any(values[numbers] < values[first], axis=1)]
    return np.array(kept, int)


def hypervolume_gain(point: Array, points: Array) -> float:
    """What a point `(costs,)` adds to the hypervolume of others `(n, costs)`: its own box without what they cover."""
    if np.any(point >= 1):
        return 0.0
    covered = np.maximum(points, point)
    return float(np.prod(1 - point)) - hypervolume(covered[non_dominated(covered)])


CELLS = 10_000
"""Of the grid at most; its lines are quantiles of the front's own costs."""


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
