"""Plans for a budget without a search: from a table of what every option of every layer costs and loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.plan import Choice, Plan

MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
SLACK = 1e-12
"""Rounding of sums of shares."""
BINS = 2**14
"""Of a budget, where a knapsack is packed."""
ALIKE = 0.02
"""Share by which losses differ that are as good as each other."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How much of a budget is parameters; the rest is MACs."""


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


def lagrangian(table: Table, multiplier: float, mix: float) -> Picks:
    """In every layer the option that minimises loss + multiplier * (mix * params + (1 - mix) * macs)."""

    def price(option: Option) -> float:
        return option.loss + multiplier * (mix * option.params + (1 - mix) * option.macs)

    return {site: min(options, key=price) for site, options in table.items()}


def sweep(table: Table) -> list[Picks]:
    """The distinct Lagrangian picks over multipliers and mixes, from the largest network to the smallest."""
    found = {plan_of(p): p for mix in MIXES for m in MULTIPLIERS for p in (lagrangian(table, m, mix),)}
    return sorted(found.values(), key=lambda picks: -sum(o.params + o.macs for o in picks.values()))


def ladder(table: Table, count: int) -> list[Plan]:
    """`count` plans of the sweep at even steps, or all where there are fewer, from the largest to the smallest."""
    plans = [plan_of(picks) for picks in sweep(table)]
    return [plans[i] for i in np.unique(np.linspace(0, len(plans) - 1, count).round().astype(int))]


def fitting(table: Table, budget: Mapping[str, float], mixes: Sequence[float] = MIXES) -> list[Picks]:
    """For each mix the picks with the least loss whose layers stay within `budget` (their shares)."""
    found = []
    for mix in mixes:
        low, high = -8.0, 6.0
        if not within(lagrangian(table, 10.0**high, mix), budget):
            continue
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if within(lagrangian(table, 10.0**middle, mix), budget) else (middle, high)
        found.append(lagrangian(table, 10.0**high, mix))
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


def within(picks: Picks, budget: Mapping[str, float]) -> bool:
    """Whether the picks' summed costs are within `budget` (`params`, `macs`: shares of the whole network)."""
    return all(sum(getattr(option, cost) for option in picks.values()) <= most for cost, most in budget.items())


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
