"""The Pareto front of scored plans, and its hypervolume: both kept up to date trial by trial.

Every cost is lower-is-better with the original network as its unit, so the volume is measured below (1, ..., 1): a
network of the original's size, or worse, adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np

from lrf_optuna.plan import Candidate, Plan
from lrf_optuna.stages import Array


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


def added(point: Array, points: Array) -> float:
    """What a point `(costs,)` adds to the hypervolume of others `(n, costs)`: its own box without what they cover."""
    if np.any(point >= 1):
        return 0.0
    covered = np.maximum(points, point)
    return float(np.prod(1 - point)) - hypervolume(covered[undominated(covered)])


def undominated(values: Array) -> Array:
    """Which rows of `(n, costs)` no other row beats, as indices; of equal rows the first one."""
    kept, numbers = [], np.lexsort(values.T[::-1])
    while len(numbers):
        kept.append(first := int(numbers[0]))
        numbers = numbers[np.any(values[numbers] < values[first], axis=1)]
    return np.array(kept, int)


@dataclass
class Front:
    """The candidates that no other beats, each plan once, and the hypervolume that they dominate."""

    points: list[Candidate] = field(default_factory=list)
    costs: Array = field(default_factory=lambda: np.empty((0, 0)))
    """Of the points, `(n, costs)`."""
    volume: float = 0.0

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> Front:
        """The front of all these."""
        found = cls()
        for candidate in candidates:
            found.add(candidate)
        return found

    def add(self, candidate: Candidate) -> bool:
        """Take in a candidate; whether it is on the front."""
        cost = costs_of([candidate])
        if self.beats(cost[0]):
            return False
        self.volume += added(cost[0], self.costs) if self.points else hypervolume(cost)
        stays = np.any(self.costs < cost, axis=1) if self.points else np.empty(0, bool)
        self.points = [*compress(self.points, stays), candidate]
        self.costs = np.concatenate([self.costs[stays], cost]) if len(stays) else cost
        return True

    def beats(self, cost: Array) -> bool:
        """Whether some point is at least as good as these costs `(costs,)` in all of them."""
        return bool(self.points) and bool(np.any(np.all(self.costs <= cost, axis=1)))

    def __len__(self) -> int:
        return len(self.points)


def costs_of(candidates: Sequence[Candidate]) -> Array:
    """Costs as `(n, costs)`."""
    return np.array([list(candidate.costs.values()) for candidate in candidates])


def front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that no other beats, each plan once, from the smallest network to the largest."""
    known: dict[Plan, Candidate] = {}
    for candidate in candidates:
        known.setdefault(candidate.plan, candidate)
    distinct = list(known.values())
    kept = sorted(undominated(costs_of(distinct))) if distinct else []
    return sorted((distinct[i] for i in kept), key=size)


def volumes_of(candidates: Sequence[Candidate]) -> list[float]:
    """The hypervolume of the front after each candidate."""
    found, front = [], Front()
    for candidate in candidates:
        front.add(candidate)
        found.append(front.volume)
    return found


def size(candidate: Candidate) -> float:
    """How large a candidate is: the mean of its parameter and MAC shares."""
    sizes = [cost for name, cost in candidate.costs.items() if name != "loss"]
    return sum(sizes) / len(sizes) if sizes else 0.0
