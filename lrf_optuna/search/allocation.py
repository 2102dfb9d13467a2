"""Plans for a budget without a search, by Lagrangian relaxation over the option table.

For a multiplier, every layer takes the option with the least loss + multiplier * (mix * params + (1 - mix) * macs), so
a whole plan costs one argmin a layer (Shoham and Gersho 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import OptionIndices, OptionTable

SWEEP_MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
"""Loss a unit of size, from a nearly whole network to the smallest; a finer grid finds hardly more plans."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a size that are parameters; the rest are MACs."""
SHARE_ROUNDING = 1e-12
"""Rounding of sums of shares."""
MULTIPLIER_RANGE = (1e-8, 1e6)
"""Multipliers between which one is bisected: beyond them no option changes."""
BISECTIONS = 40
"""Halvings of that range as logarithms, to below any step that a rank can make."""


def lagrangian_sweep(table: OptionTable) -> OptionIndices:
    """The distinct Lagrangian plans over multipliers and mixes `(n, layers)`, the largest network first."""
    mixes, multipliers = (axis.ravel() for axis in np.meshgrid(MIXES, SWEEP_MULTIPLIERS, indexing="ij"))
    plans = np.unique(table.allocate(multipliers, mixes), axis=0)
    return plans[np.argsort(-table.shares(plans).sum(axis=1), kind="stable")]


def lagrangian_within(table: OptionTable, budget: Mapping[str, float], mixes: Sequence[float] = MIXES) -> list[Plan]:
    """For each mix the plan with the least loss within a budget, the best first; none where no plan fits.

    `budget`: cost -> most, as shares of the whole network, what no plan can change included.
    """
    low, high = (np.full(len(mixes), np.log(end)) for end in MULTIPLIER_RANGE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = are_within(table, table.allocate(np.exp(middle), np.array(mixes)), budget)
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    plans = table.allocate(np.exp(high), np.array(mixes))
    fitting = plans[are_within(table, plans, budget)]
    return [table.decode(plan) for plan in fitting[np.argsort(table.total(fitting, "losses"), kind="stable")]]


def are_within(table: OptionTable, plans: OptionIndices, budget: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which plans `(n, layers)` are within a budget, `(n,)`."""
    shares = {cost: getattr(table.fixed, cost) + table.total(plans, cost) for cost in budget}
    inside: NDArray[np.bool_] = np.all([shares[cost] <= most + SHARE_ROUNDING for cost, most in budget.items()], axis=0)
    return inside
