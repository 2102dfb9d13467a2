"""The search's first generation: good plans off the option table, because random ones teach a search nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.hypervolume import hypervolume_gains
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.option_table import Option, OptionTable
from lrf_optuna.scoring.screening import LARGE_LAYER
from lrf_optuna.search.allocation import lagrangian_sweep, lagrangian_within
from lrf_optuna.sections import BUDGETS

TARGET_SHARES = (1.0, 0.97, 0.92)
"""Shares of the targets that plans are made for, so that the front is dense just within them."""


def budget_plans(table: OptionTable) -> list[Plan]:
    """The best Lagrangian plan within each round budget of each size: users ask for these most."""
    budgets = [{cost: share} for cost in table.sizes for share in BUDGETS]
    return [plan for budget in budgets for plan in lagrangian_within(table, budget)[:1]]


def method_plans(table: OptionTable, budget: Mapping[str, float]) -> list[Plan]:
    """For every method of a large layer the best Lagrangian plan within a budget in which the layer has it.

    Networks are scored without a refit, which lifts some methods more than others. LeNet-300-100 within 5 % loses 3.7
    points as built with `tt_matrix` in its first layer, and 11.3 with `qr`, which has the least loss
    (benchmarks/results/large_layers.md).
    """
    found = []
    for large, options in table.items():
        if max(option.params for option in options) > LARGE_LAYER:
            for method in dict.fromkeys(option.method for option in options if option.method != INTACT.method):
                own = table.where(partial(has_method, large, method))
                found += lagrangian_within(own, budget)[:1]
    return found


def has_method(layer: str, method: str, site: str, option: Option) -> bool:
    """Whether an option of a site is of the method, where the site is the layer; any option of another site is."""
    return site != layer or option.method == method


def initial_plans(table: OptionTable, count: int, targets: Mapping[str, float]) -> list[Plan]:
    """`count` distinct plans: near the targets, within the round budgets, and spread over the Lagrangian sweep.

    Fewer where the table has no more.
    """
    near: list[Plan] = []
    for share in TARGET_SHARES if targets else ():
        budget = {cost: share * most for cost, most in targets.items()}
        near += lagrangian_within(table, budget)[: max(1, count // (4 * len(TARGET_SHARES)))]
    near += method_plans(table, targets) if targets else []
    first = list(dict.fromkeys([*near, *budget_plans(table)][: count // 2]))
    sweep = lagrangian_sweep(table)
    sweep = sweep[[table.decode(plan) not in first for plan in sweep]]
    costs = np.column_stack([np.minimum(table.total(sweep, "losses"), 1), table.shares(sweep)])
    return [*first, *(table.decode(sweep[i]) for i in spread_by_hypervolume(costs, count - len(first)))]


def random_plans(table: OptionTable, count: int, rng: np.random.Generator) -> list[Plan]:
    """`count` plans of any options."""
    return [table.decode(plan) for plan in rng.integers(0, table.counts, (count, len(table)))]


def spread_by_hypervolume(costs: Array, count: int) -> list[int]:
    """The numbers of `count` points `(n, costs)`: both ends first, then each adds most to the hypervolume so far."""
    chosen = list(dict.fromkeys((len(costs) - 1, 0)))[:count] if len(costs) else []
    while len(chosen) < min(count, len(costs)):
        gains = hypervolume_gains(costs[chosen], costs)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
    return chosen
