"""The first generation: good plans off the table of errors, from random ones of which a search would learn nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.config import BUDGETS
from lrf_optuna.plans.hypervolume import Attainment
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import Allocation, OptionTable, plan_of
from lrf_optuna.search.allocation import knapsack, lagrangian_sweep, uniform_keep, within_network_budget

NEAR = (1.0, 0.97, 0.92)
"""Shares of a target that seeds are made for, so that the front is dense there."""
GOLDEN = 0.618
"""Multiples of it, modulo 1, are far from each other."""


USUAL = [{cost: most} for cost in ("params", "macs") for most in BUDGETS]
"""Budgets that a front is asked for most."""


def budget_plans(table: OptionTable, fixed: Mapping[str, float]) -> list[Allocation]:
    """For each of the usual budgets what the Lagrangian rule for ranks makes of it: nobody's front may lack that."""
    return [picks for budget in USUAL for picks in within_network_budget(table, budget, fixed)[:1]]


def initial_plans(
    table: OptionTable,
    keeps: Sequence[float],
    count: int,
    targets: Mapping[str, float],
    fixed: Mapping[str, float],
    standard: Sequence[Allocation] = (),
) -> list[Allocation]:
    """`count` good first plans, distinct ones, half of them at most not of the Lagrangian sweep.

    Near the targets; those of `standard` that the table has; a target or a usual budget filled as far as options go,
    where the Lagrangian leaves some of it; uniform keeps; the sweep, spread.
    """
    near = []
    for share in NEAR if targets else ():
        budget = {cost: share * target for cost, target in targets.items()}
        near += within_network_budget(table, budget, fixed)[: max(1, count // (4 * len(NEAR)))]
    known = [picks for picks in standard if all(option in table[site] for site, option in picks.items())]
    budgets = [*([dict(targets)] if len(targets) == 1 else []), *USUAL]
    packs = [knapsack(table, cost, most - fixed[cost]) for budget in budgets for cost, most in budget.items()]
    filled = [picks for picks in packs if picks]
    spread = [uniform_keep(table, keep) for keep in list(keeps)[:: max(1, len(keeps) // 4)]]
    distinct: dict[Plan, Allocation] = {
        plan_of(picks): picks for picks in [*near, *known, *filled, *spread][: count // 2]
    }
    swept = [picks for picks in lagrangian_sweep(table) if plan_of(picks) not in distinct]
    for i in spreading(np.array([expected(picks, fixed) for picks in swept]), count - len(distinct)):
        distinct[plan_of(swept[i])] = swept[i]
    return list(distinct.values())


def expected(picks: Allocation, fixed: Mapping[str, float]) -> tuple[float, float, float]:
    """The loss that the table adds up to, 1 at most, and the shares of parameters and MACs."""
    loss, params, macs = (sum(getattr(o, cost) for o in picks.values()) for cost in ("loss", "params", "macs"))
    return min(loss, 1.0), fixed["params"] + params, fixed["macs"] + macs


def spreading(points: Array, count: int) -> list[int]:
    """The numbers of `count` points `(n, costs)`: both ends, then each adds most to the volume of those before it."""
    chosen = list(dict.fromkeys((len(points) - 1, 0)))[:count] if len(points) else []
    while len(chosen) < min(count, len(points)):
        gains = Attainment.of(points[chosen]).gains(points)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
    return chosen


def turned(plans: Sequence[Allocation], rank: int) -> list[Allocation]:
    """The order in which the process of this rank takes the seeds, far from the others: even ranks up, odd ones down.

    Ranks 0 and 1 from both ends, each two more from another place.
    """
    start = int(len(plans) * (rank // 2 * GOLDEN % 1))
    ordered = [*plans[start:], *plans[:start]]
    return ordered[::-1] if rank % 2 else ordered
