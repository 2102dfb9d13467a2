"""What of a front is worth a closer look: near limits, or one cost at a time. A look is a change of costs.

A point's gain under a look is the volume that it adds in the changed costs. In the plain volume of three costs a
network with few parameters and many MACs hardly counts, nor do losses that are small already: but those networks are
what a budget of parameters alone asks for, and those losses the ones that anybody can do with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.conv import Array

ZONE = 0.9
"""From this share of a limit up to the limit a cost is worth looking at most closely."""
BELOW, ABOVE = 0.003, 0.001
"""What a cost is worth looking at there, where 1 is the zone."""
FINE = 1e-4
"""Losses above count by their ratios, those below by their differences."""
Look = Callable[[Array], Array]
"""Costs `(n, costs)` -> as many points, in costs of its own."""


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

    def __call__(self, costs: Array) -> Array:
        """Costs `(n, costs)`, stretched."""
        return np.stack([stretched(column, limit) for column, limit in zip(costs.T, self.limits, strict=True)], axis=1)


@dataclass(frozen=True, slots=True)
class Edge:
    """The loss and one other cost alone, whatever the rest: what is lost at least within any budget of that cost.

    With a `limit` budgets near it count most, as for `Interest`.
    """

    cost: str
    loss: int
    other: int
    """The columns of the loss and of the cost."""
    limit: float | None = None

    def __call__(self, costs: Array) -> Array:
        """`(n, 2)`: the loss, finely where it is small, 0 to 1; the cost, stretched where it has a limit."""
        fine = np.log1p(np.maximum(costs[:, self.loss], 0) / FINE) / np.log1p(1 / FINE)
        return np.stack([fine, stretched(costs[:, self.other], self.limit)], axis=1)


def edges(objectives: Sequence[str], limits: Mapping[str, float]) -> tuple[Edge, ...]:
    """Those of a front of these objectives that are asked for.

    With the parameters and with the MACs where there are no limits; where the only one is of one of these, that.
    """
    costs = [cost for cost in ("params", "macs") if cost in objectives and {*limits} <= {cost}]
    if "loss" not in objectives:
        return ()
    return tuple(Edge(cost, objectives.index("loss"), objectives.index(cost), limits.get(cost)) for cost in costs)


def looks(objectives: Sequence[str], limits: Mapping[str, float]) -> tuple[Look, ...]:
    """What is worth more than the plain volume: the neighbourhood of the limits, if there are any, and edges."""
    near = [Interest.of(objectives, limits)] if limits else []
    return *near, *edges(objectives, limits)


def stretched(values: Array, limit: float | None) -> Array:
    """The integral from 0 of how closely a cost with this limit is looked at, as a share of that up to 1."""
    if limit is None or not 0 < limit < 1:
        return values
    knots = np.array([0, ZONE * limit, limit, 1])
    heights = np.array([0, *np.cumsum(np.diff(knots) * (BELOW, 1, ABOVE))])
    beyond: Array = np.interp(values, knots, heights / heights[-1]) + np.maximum(values - 1, 0)
    return beyond
