"""Plans for a budget without a search: from a table of what every option of every layer costs and loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.plan import Choice, Plan
from lrf_optuna.stages import Array

MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
SLACK = 1e-12
"""Rounding of sums of shares."""
BINS = 2**14
"""Of a budget, where a knapsack is packed."""
ALIKE = 0.02
"""Share by which losses differ that are as good as each other."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of a budget is parameters; the rest is MACs."""
LEAST, MOST, HALVINGS = -8.0, 6.0, 40
"""Between these powers of ten a multiplier is bisected."""


class Shares(NamedTuple):
    """What something has of the whole network's parameters and MACs."""

    params: float
    macs: float


@dataclass(frozen=True, slots=True)
class Option:
    """One way to do one layer: the search's (method, keep), the choice it means, what it loses and costs.

    `loss`: the expected rise of the network's loss; `params`, `macs`: shares of the whole network's.
    """

    method: str
    keep: float
    choice: Choice
    loss: float
    params: float
    macs: float


Table = Mapping[str, Sequence[Option]]
"""Site name -> its options; the intact layer is one of them."""
Picks = dict[str, Option]
Picked = NDArray[np.intp]
"""`(plans, layers)`: for each layer the number of its option in the table."""


@dataclass(frozen=True)
class Grid:
    """A table as arrays: options by number, in every layer."""

    table: Table

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """How many options each layer has, `(layers,)`."""
        return np.array([len(options) for options in self.table.values()])

    @cached_property
    def errors(self) -> Array:
        """The losses of all options, `(layers, most options)`."""
        return self.padded("loss")

    @cached_property
    def params(self) -> Array:
        """Their shares of the parameters."""
        return self.padded("params")

    @cached_property
    def macs(self) -> Array:
        """Their shares of the MACs."""
        return self.padded("macs")

    def padded(self, what: str) -> Array:
        """One property of every option, `(layers, most options)`; layers with fewer repeat their last one's."""
        rows = [[getattr(option, what) for option in options] for options in self.table.values()]
        return np.array([np.pad(row, (0, self.counts.max() - len(row)), mode="edge") for row in rows])

    def sizes(self, mixes: Array) -> Array:
        """mix * params + (1 - mix) * macs of every option, for each of the mixes `(n,)`: `(n, layers, options)`."""
        return mixes[:, None, None] * self.params + (1 - mixes[:, None, None]) * self.macs

    def allocated(self, multipliers: Array, mixes: Array, weights: Array | None = None) -> Picked:
        """In every layer the option with the least loss + multiplier * size, `(n, layers)`.

        `multipliers`, `mixes` `(n,)`; `weights` `(n, layers)`: of the layers' losses, where they are not 1.
        """
        return self.allocating(mixes, weights)(multipliers)

    def allocating(self, mixes: Array, weights: Array | None = None) -> Callable[[Array], Picked]:
        """The same for any multipliers: what does not depend on them is worked out once."""
        losses, sizes = self.errors if weights is None else weights[:, :, None] * self.errors, self.sizes(mixes)

        def allocated(multipliers: Array) -> Picked:
            prices = multipliers[:, None, None] * sizes
            prices += losses
            best: Picked = prices.argmin(axis=2)
            return best

        return allocated

    def total(self, picked: Picked, cost: str) -> Array:
        """The sums of a cost (`loss`, `params`, `macs`) over the layers of plans `(n, layers)`."""
        costs = {"loss": self.errors, "params": self.params, "macs": self.macs}[cost]
        found: Array = costs[np.arange(len(costs)), picked].sum(axis=-1)
        return found

    def picks(self, picked: Picked) -> Picks:
        """Site -> option of one plan `(layers,)`."""
        return {site: options[i] for (site, options), i in zip(self.table.items(), picked, strict=True)}


def lagrangian(table: Table, multiplier: float, mix: float) -> Picks:
    """In every layer the option that minimises loss + multiplier * (mix * params + (1 - mix) * macs)."""
    grid = Grid(table)
    return grid.picks(grid.allocated(np.array([multiplier]), np.array([mix]))[0])


def sweep(table: Table) -> list[Picks]:
    """The distinct Lagrangian picks over multipliers and mixes, from the largest network to the smallest."""
    grid = Grid(table)
    mixes, multipliers = (axis.ravel() for axis in np.meshgrid(MIXES, MULTIPLIERS, indexing="ij"))
    found = {plan_of(p): p for p in map(grid.picks, grid.allocated(multipliers, mixes))}
    return sorted(found.values(), key=lambda picks: -sum(o.params + o.macs for o in picks.values()))


def ladder(table: Table, count: int) -> list[Plan]:
    """`count` plans of the sweep at even steps, or all where there are fewer, from the largest to the smallest."""
    plans = [plan_of(picks) for picks in sweep(table)]
    return [plans[i] for i in np.unique(np.linspace(0, len(plans) - 1, count).round().astype(int))]


def fitting(table: Table, budget: Mapping[str, float], mixes: Sequence[float] = MIXES) -> list[Picks]:
    """For each mix the picks with the least loss whose layers stay within `budget` (their shares)."""
    grid = Grid(table)
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


def allotted(table: Table, budget: Mapping[str, float], fixed: Mapping[str, float]) -> list[Picks]:
    """The same for a budget of the whole network, of which no plan changes the shares `fixed`."""
    return fitting(table, {cost: most - fixed[cost] + SLACK for cost, most in budget.items()})


def packed(table: Table, cost: str, most: float) -> Picks | None:
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


def uniform(table: Table, keep: float) -> Picks:
    """The same keep in every layer, with the method that loses least there."""
    return {
        site: min((o for o in options if o.keep == keep), key=lambda o: o.loss, default=options[0])
        for site, options in table.items()
    }


def competitive(table: Table) -> dict[str, list[Option]]:
    """The table without the methods of which, in a layer, every option is covered by one of the methods left there.

    From the last method to the first, each against those that are left: a circle of near equals leaves one of them.
    """
    kept = {}
    for site, options in table.items():
        methods, covered = np.array([option.method for option in options]), covers(options)
        left = np.ones(len(options), bool)
        for method in reversed(dict.fromkeys(methods)):
            own, others = methods == method, left & (methods != method)
            if covered[np.ix_(own, others)].any(axis=1).all():
                left = others
        kept[site] = [option for option, stays in zip(options, left, strict=True) if stays]
    return kept


def covers(options: Sequence[Option]) -> NDArray[np.bool_]:
    """`(i, j)`: whether option j is as good as option i in everything, and better in one or the earlier one."""
    values = np.array([(option.loss, option.params, option.macs) for option in options])
    as_good = np.all(values <= values[:, None] * (1 + ALIKE, 1, 1), axis=2)
    better = np.any(values < values[:, None] * (1 - ALIKE, 1, 1), axis=2)
    found: NDArray[np.bool_] = as_good & (better | np.tri(len(options), k=-1, dtype=bool))
    return found


def plan_of(picks: Picks) -> Plan:
    """The plan that the picks mean."""
    return Plan.of({site: option.choice for site, option in picks.items()})
