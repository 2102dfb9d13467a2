"""Plans for a budget without a search, by Lagrangian relaxation over the option table.

For a multiplier, every layer takes the option with the least loss + multiplier * (mix * params + (1 - mix) * macs), so
a whole plan costs one argmin a layer (Shoham and Gersho 1988).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import Allocation, OptionIndices, OptionTable

SWEEP_MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
"""Loss a unit of size, from a nearly whole network to the smallest; a finer grid finds hardly more plans."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a size that are parameters; the rest are MACs."""
SHARE_ROUNDING = 1e-12
"""Rounding of sums of shares."""
EXPONENTS = (-8.0, 6.0)
"""Powers of ten between which a multiplier is bisected: beyond them no option changes."""
BISECTIONS = 40
"""Halvings of that range, to below any step that a rank can make."""


def lagrangian_sweep(table: OptionTable) -> OptionIndices:
    """The distinct Lagrangian plans over multipliers and mixes `(n, layers)`, the largest network first."""
    mixes, multipliers = (axis.ravel() for axis in np.meshgrid(MIXES, SWEEP_MULTIPLIERS, indexing="ij"))
    plans = np.unique(table.allocator(mixes)(multipliers), axis=0)
    order: OptionIndices = plans[np.argsort(-table.shares(plans).sum(axis=1), kind="stable")]
    return order


def evenly_spaced(table: OptionTable, count: int) -> list[Plan]:
    """`count` plans of the sweep at even steps, or all where there are fewer, from the largest to the smallest."""
    sweep = lagrangian_sweep(table)
    return [table.decode(sweep[i]) for i in np.unique(np.linspace(0, len(sweep) - 1, count).round().astype(int))]


def lagrangian_within(
    table: OptionTable, budget: Mapping[str, float], mixes: Sequence[float] = MIXES
) -> list[Allocation]:
    """For each mix the allocation with the least loss within a budget, the best first; none where no plan fits.

    `budget`: cost -> most, as shares of the whole network, what no plan can change included.
    """
    allocate = table.allocator(np.array(mixes))
    most = {cost: share - getattr(table.fixed, cost) + SHARE_ROUNDING for cost, share in budget.items()}

    def fits(exponents: Array) -> NDArray[np.bool_]:
        plans = allocate(10**exponents)
        inside: NDArray[np.bool_] = np.all([table.total(plans, cost) <= room for cost, room in most.items()], axis=0)
        return inside

    low, high = (np.full(len(mixes), end) for end in EXPONENTS)
    possible = fits(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = fits(middle)
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    found = [table.allocation(plan) for plan in allocate(10**high)[possible]]
    return sorted(found, key=lambda allocation: sum(option.loss for option in allocation.values()))
