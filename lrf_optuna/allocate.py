"""Plans for a budget without a search: from a table of what every option of every layer costs and loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.plan import Choice, Plan

MULTIPLIERS = np.geomspace(1e-5, 1e3, 97)
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
    """The table without the methods that, in a layer, lose at every option to another method's.

    Such an option costs no less in any way and loses more; of two that are equal the first stays.
    """
    kept = {}
    for site, options in table.items():
        values = np.array([(option.loss, option.params, option.macs) for option in options])
        winning = {option.method for i, option in enumerate(options) if not beaten(i, values, options)}
        kept[site] = [option for option in options if option.method in winning]
    return kept


def beaten(i: int, values: NDArray[np.float64], options: Sequence[Option]) -> bool:
    """Whether an option of another method is as good in everything, and better in one or the earlier one."""
    others = np.array([option.method != options[i].method for option in options])
    as_good = others & np.all(values <= values[i] * (1 + ALIKE, 1, 1), axis=1)
    better = np.any(values < values[i] * (1 - ALIKE, 1, 1), axis=1) | (np.arange(len(options)) < i)
    return bool(np.any(as_good & better))


def plan_of(picks: Picks) -> Plan:
    """The plan that the picks mean."""
    return Plan.of({site: option.choice for site, option in picks.items()})
