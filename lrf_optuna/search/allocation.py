"""Plans for a budget without a search, by Lagrangian relaxation over the option table.

For a multiplier, every layer takes the option with the least loss + multiplier * size. A size is a weighted sum of the
shares of parameters, MACs and milliseconds. So a whole plan costs one argmin a layer (Shoham and Gersho 1988).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import OptionIndices, OptionTable

SWEEP_MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
"""Loss a unit of size, from a nearly whole network to the smallest; a finer grid finds hardly more plans."""
MIX_STEPS = {1: 1, 2: 4, 3: 3}
"""Number of sizes -> steps from one size alone to another one: five mixes of two sizes, ten of three."""
SHARE_ROUNDING = 1e-12
"""Rounding of sums of shares."""
MULTIPLIER_RANGE = (1e-8, 1e6)
"""Multipliers between which one is bisected: beyond them no option changes."""
BISECTIONS = 40
"""Halvings of that range as logarithms, to below any step that a rank can make."""


def lagrangian_sweep(table: OptionTable) -> OptionIndices:
    """The distinct Lagrangian plans over multipliers and mixes `(n, layers)`, the largest network first."""
    mixes = mixes_of(len(table.sizes))
    multipliers = np.tile(SWEEP_MULTIPLIERS, len(mixes))
    plans = np.unique(table.allocate(multipliers, mixes.repeat(len(SWEEP_MULTIPLIERS), axis=0)), axis=0)
    return plans[np.argsort(-table.shares(plans).sum(axis=1), kind="stable")]


def mixes_of(sizes: int) -> Array:
    """Weights of the sizes in a price, each row with the sum 1, `(mixes, sizes)`: from each size alone to all."""
    steps = MIX_STEPS[sizes]
    rows = [row for row in product(range(steps + 1), repeat=sizes) if sum(row) == steps]
    return np.array(rows, float) / steps


def lagrangian_within(table: OptionTable, budget: Mapping[str, float]) -> list[Plan]:
    """For each mix of sizes the plan with the least loss within a budget, the best first; none where no plan fits.

    `budget`: cost -> most, as shares of the whole network, what no plan can change included.
    """
    mixes = mixes_of(len(table.sizes))
    low, high = (np.full(len(mixes), np.log(end)) for end in MULTIPLIER_RANGE)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = are_within(table, table.allocate(np.exp(middle), mixes), budget)
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    plans = table.allocate(np.exp(high), mixes)
    fitting = plans[are_within(table, plans, budget)]
    return [table.decode(plan) for plan in fitting[np.argsort(table.total(fitting, "losses"), kind="stable")]]


def are_within(table: OptionTable, plans: OptionIndices, budget: Mapping[str, float]) -> NDArray[np.bool_]:
    """Which plans `(n, layers)` are within a budget, `(n,)`."""
    shares = {cost: table.share(plans, cost) for cost in budget}
    inside: NDArray[np.bool_] = np.all([shares[cost] <= most + SHARE_ROUNDING for cost, most in budget.items()], axis=0)
    return inside
