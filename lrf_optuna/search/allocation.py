"""Plans for a budget without a search: from a table of what every option of every layer costs and loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import Allocation, OptionTable, TableArrays, plan_of

MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
SLACK = 1e-12
"""Rounding of sums of shares."""
BINS = 2**14
"""Of a budget, where a knapsack is packed."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of a budget is parameters; the rest is MACs."""
LEAST, MOST, HALVINGS = -8.0, 6.0, 40
"""Between these powers of ten a multiplier is bisected."""


def lagrangian(table: OptionTable, multiplier: float, mix: float) -> Allocation:
    """In every layer the option that minimises loss + multiplier * (mix * params + (1 - mix) * macs)."""
    grid = TableArrays(table)
    return grid.picks(grid.allocated(np.array([multiplier]), np.array([mix]))[0])


def lagrangian_sweep(table: OptionTable) -> list[Allocation]:
    """The distinct Lagrangian picks over multipliers and mixes, from the largest network to the smallest."""
    grid = TableArrays(table)
    mixes, multipliers = (axis.ravel() for axis in np.meshgrid(MIXES, MULTIPLIERS, indexing="ij"))
    found = {plan_of(p): p for p in map(grid.picks, grid.allocated(multipliers, mixes))}
    return sorted(found.values(), key=lambda picks: -sum(o.params + o.macs for o in picks.values()))


def ladder(table: OptionTable, count: int) -> list[Plan]:
    """`count` plans of the sweep at even steps, or all where there are fewer, from the largest to the smallest."""
    plans = [plan_of(picks) for picks in lagrangian_sweep(table)]
    return [plans[i] for i in np.unique(np.linspace(0, len(plans) - 1, count).round().astype(int))]


def lagrangian_within(
    table: OptionTable, budget: Mapping[str, float], mixes: Sequence[float] = MIXES
) -> list[Allocation]:
    """For each mix the picks with the least loss whose layers stay within `budget` (their shares)."""
    grid = TableArrays(table)
    allocated = grid.allocating(np.array(mixes))
    low, high = np.full(len(mixes), LEAST), np.full(len(mixes), MOST)

    def fit(exponents: Array) -> NDArray[np.bool_]:
        picked = allocated(10**exponents)
        fits: NDArray[np.bool_] = np.all([grid.total(picked, cost) <= most for cost, most in budget.items()], axis=0)
        return fits

    possible = fit(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = fit(middle)
        low, high = np.where(inside, low, middle), np.where(inside, middle, high)
    found = [grid.picks(picked) for picked in allocated(10**high)[possible]]
    return sorted(found, key=lambda picks: sum(option.loss for option in picks.values()))


def within_network_budget(
    table: OptionTable, budget: Mapping[str, float], fixed: Mapping[str, float]
) -> list[Allocation]:
    """The same for a budget of the whole network, of which no plan changes the shares `fixed`."""
    return lagrangian_within(table, {cost: most - fixed[cost] + SLACK for cost, most in budget.items()})


def knapsack(table: OptionTable, cost: str, most: float) -> Allocation | None:
    """The picks with the least summed loss of all whose summed `cost` is within `most`; None where there are none.

    The knapsack that `fitting` relaxes, by dynamic programming over shares of `most` that are rounded up to one of
    `BINS`. The other costs are free.
    """
    best, ways = np.zeros(BINS + 1), []
    for options in table.values():
        taken = [ceil(BINS * (getattr(o, cost) - SLACK) / max(most, SLACK)) if most > 0 else BINS + 1 for o in options]
        found, way = np.full(BINS + 1, np.inf), np.zeros(BINS + 1, int)
        for i, (option, bins) in enumerate(zip(options, taken, strict=True)):
            if bins <= BINS:
                lost = best[: BINS + 1 - bins] + option.loss
                better = lost < found[bins:]
                found[bins:][better], way[bins:][better] = lost[better], i
        best = found
        ways.append((taken, way))
    if not np.isfinite(best[-1]):
        return None
    picks, left = {}, BINS
    for (site, options), (taken, way) in reversed([*zip(table.items(), ways, strict=True)]):
        picks[site] = options[way[left]]
        left -= taken[way[left]]
    return {site: picks[site] for site in table}


def uniform_keep(table: OptionTable, keep: float) -> Allocation:
    """The same keep in every layer, with the method that loses least there."""
    return {
        site: min((o for o in options if o.keep == keep), key=lambda o: o.loss, default=options[0])
        for site, options in table.items()
    }
