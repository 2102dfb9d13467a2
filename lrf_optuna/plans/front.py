"""The Pareto front of scored plans, and its hypervolume: both are updated trial by trial.

In every cost less is better and the original network is the unit, so the volume is measured below (1, ..., 1): a
network of the original's size, or worse, adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress

import moocore
import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.hypervolume import dominated_by, hypervolume
from lrf_optuna.plans.plan import Candidate, Plan

ROUND_BUDGETS = 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9
"""Shares of a cost that a reader of a front looks for, and one below them for whoever needs the least."""


@dataclass
class Front:
    """The candidates that no other dominates, each plan once, and the hypervolume that they dominate."""

    points: list[Candidate] = field(default_factory=list)
    costs: Array = field(default_factory=lambda: np.empty((0, 0)))
    """Costs of the points, `(n, costs)`."""
    volume: float = 0.0

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> Front:
        """The front of some candidates."""
        front = cls()
        for candidate in candidates:
            front.add(candidate)
        return front

    def add(self, candidate: Candidate) -> bool:
        """Take in a candidate; whether it is on the front. A point with equal costs that came first keeps its place."""
        cost = cost_matrix([candidate])
        before = self.costs if self.points else cost[:0]
        if dominated_by(before, cost)[0]:
            return False
        stays = np.any(before < cost, axis=1)
        self.points = [*compress(self.points, stays), candidate]
        self.costs = np.concatenate([before[stays], cost])
        self.volume = hypervolume(self.costs)
        return True

    def __len__(self) -> int:
        return len(self.points)


def cost_matrix(candidates: Sequence[Candidate]) -> Array:
    """Costs as `(n, costs)`."""
    return np.array([list(candidate.costs.values()) for candidate in candidates])


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that no other dominates, each plan once, from the smallest network to the largest."""
    first: dict[Plan, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.plan, candidate)
    if not first:
        return []
    costs = cost_matrix(distinct := list(first.values()))
    return sorted(compress(distinct, moocore.is_nondominated(costs)), key=size)


def hypervolume_history(candidates: Sequence[Candidate]) -> list[float]:
    """The hypervolume of the front after each candidate."""
    volumes, front = [], Front()
    for candidate in candidates:
        front.add(candidate)
        volumes.append(front.volume)
    return volumes


def size(candidate: Candidate) -> float:
    """How large a candidate is: the mean of its costs but the loss, such as its shares of parameters and MACs."""
    sizes = [cost for name, cost in candidate.costs.items() if name != "loss"]
    return sum(sizes) / len(sizes) if sizes else 0.0


def budget_cost(points: Sequence[Candidate], targets: Iterable[str] = ()) -> str:
    """The cost that round budgets limit: the first one with a target, else parameters, else another size."""
    costs = [cost for cost in points[0].costs if cost != "loss"] if points else []
    return next((cost for cost in (*targets, "params", *costs) if cost in costs), "")


def budget_points(points: Sequence[Candidate], cost: str) -> dict[float, Candidate]:
    """Round budget -> the point of a front with the least loss within it, from the smallest budget on.

    A point that is the best within several budgets stands at the smallest of them.
    """
    found: dict[float, Candidate] = {}
    for budget in ROUND_BUDGETS:
        within = [point for point in points if point.costs.get(cost, 1.0) <= budget]
        best = min(within, key=lambda point: (point.costs.get("loss", -point.costs[cost]), size(point)), default=None)
        if best and best not in found.values():
            found[budget] = best
    return found
