"""The search's first generation: good plans off the option table, because random ones teach a search nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.config import BUDGETS
from lrf_optuna.plans.hypervolume import hypervolume_gains
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import Allocation, OptionTable, plan_of
from lrf_optuna.search.allocation import lagrangian_sweep, lagrangian_within

TARGET_SHARES = (1.0, 0.97, 0.92)
"""Shares of the targets that plans are made for, so that the front is dense just within them."""
ROUND_BUDGETS = [{cost: share} for cost in ("params", "macs") for share in BUDGETS]
"""Budgets that users ask for most; the front should have the Lagrangian plan of each."""
GOLDEN = 0.618
"""Multiples of the golden ratio, modulo 1, are far from each other."""


def budget_plans(table: OptionTable) -> list[Allocation]:
    """The best Lagrangian allocation within each round budget."""
    return [allocation for budget in ROUND_BUDGETS for allocation in lagrangian_within(table, budget)[:1]]


def initial_plans(table: OptionTable, count: int, targets: Mapping[str, float]) -> list[Allocation]:
    """`count` distinct allocations: near the targets, within the round budgets, and spread over the Lagrangian sweep.

    Fewer where the table has no more.
    """
    near = []
    for share in TARGET_SHARES if targets else ():
        budget = {cost: share * most for cost, most in targets.items()}
        near += lagrangian_within(table, budget)[: max(1, count // (4 * len(TARGET_SHARES)))]
    first: dict[Plan, Allocation] = {plan_of(a): a for a in [*near, *budget_plans(table)][: count // 2]}
    sweep = [a for a in map(table.allocation, lagrangian_sweep(table)) if plan_of(a) not in first]
    chosen = spread_by_hypervolume(np.array([expected_costs(a, table) for a in sweep]), count - len(first))
    return [*first.values(), *(sweep[i] for i in chosen)]


def random_plans(table: OptionTable, count: int, rng: np.random.Generator) -> list[Allocation]:
    """`count` allocations of any options."""
    return [table.allocation(plan) for plan in rng.integers(0, table.counts, (count, len(table)))]


def expected_costs(allocation: Allocation, table: OptionTable) -> tuple[float, float, float]:
    """The loss that the table adds up to, 1 at most, and the network's shares of parameters and MACs."""
    loss, params, macs = (sum(getattr(o, cost) for o in allocation.values()) for cost in ("loss", "params", "macs"))
    return min(loss, 1.0), table.fixed.params + params, table.fixed.macs + macs


def spread_by_hypervolume(costs: Array, count: int) -> list[int]:
    """The numbers of `count` points `(n, costs)`: both ends first, then each adds most to the hypervolume so far."""
    chosen = list(dict.fromkeys((len(costs) - 1, 0)))[:count] if len(costs) else []
    while len(chosen) < min(count, len(costs)):
        gains = hypervolume_gains(costs[chosen], costs)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
    return chosen


def order_for_process(plans: Sequence[Allocation], rank: int) -> list[Allocation]:
    """The order in which the process of a rank takes the plans, so that processes begin far from each other.

    Ranks 0 and 1 begin at the two ends, each further pair at another place.
    """
    start = int(len(plans) * (rank // 2 * GOLDEN % 1))
    ordered = [*plans[start:], *plans[:start]]
    return ordered[::-1] if rank % 2 else ordered
