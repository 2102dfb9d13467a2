"""The Pareto front of scored plans, and its hypervolume: both kept up to date trial by trial.

Every cost is lower-is-better with the original network as its unit, so the volume is measured below (1, ..., 1): a
network of the original's size, or worse, adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.hypervolume import hypervolume, hypervolume_gain, non_dominated
from lrf_optuna.plans.plan import Candidate, Plan


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
        cost = cost_matrix([candidate])
        if self.beats(cost[0]):
            return False
        self.volume += hypervolume_gain(cost[0], self.costs) if self.points else hypervolume(cost)
        stays = np.any(self.costs < cost, axis=1) if self.points else np.empty(0, bool)
        self.points = [*compress(self.points, stays), candidate]
        self.costs = np.concatenate([self.costs[stays], cost]) if len(stays) else cost
        return True

    def beats(self, cost: Array) -> bool:
        """Whether some point is at least as good as these costs `(costs,)` in all of them."""
        return bool(self.points) and bool(np.any(np.all(self.costs <= cost, axis=1)))

    def __len__(self) -> int:
        return len(self.points)


def cost_matrix(candidates: Sequence[Candidate]) -> Array:
    """Costs as `(n, costs)`."""
    return np.array([list(candidate.costs.values()) for candidate in candidates])


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that no other beats, each plan once, from the smallest network to the largest."""
    known: dict[Plan, Candidate] = {}
    for candidate in candidates:
        known.setdefault(candidate.plan, candidate)
    distinct = list(known.values())
    kept = sorted(non_dominated(cost_matrix(distinct))) if distinct else []
    return sorted((distinct[i] for i in kept), key=size)


def hypervolume_history(candidates: Sequence[Candidate]) -> list[float]:
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
