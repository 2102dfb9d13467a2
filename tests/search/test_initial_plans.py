"""Initial plans are distinct, within round budgets, near targets, and spread over the sweep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.search import made_up_table

from lrf_optuna.baselines.budget import RuleContext
from lrf_optuna.baselines.rules import BASELINES
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import Front
from lrf_optuna.plans.plan import INTACT, Candidate
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.screening import LARGE_LAYER
from lrf_optuna.search.allocation import lagrangian_sweep, lagrangian_within
from lrf_optuna.search.initial_plans import initial_plans, method_plans, random_plans, spread_by_hypervolume
from lrf_optuna.sections import BUDGETS


@pytest.mark.parametrize("count", [2, 10, 40])
@pytest.mark.parametrize("targets", [{}, {"params": 0.5}, {"params": 0.6, "macs": 0.6}])
def test_initial_plans_are_distinct_from_whole_to_small_and_one_is_just_within_the_targets(
    proxy: Proxy, table: OptionTable, count: int, targets: dict[str, float]
) -> None:
    plans = initial_plans(table, count, targets)
    measured = [proxy.measure(plan) for plan in plans]
    sizes = [one.params_share for one in measured]
    assert len(set(plans)) == len(plans) <= count
    assert len(plans) >= min(count, 15)
    assert count < 10 or (max(sizes) > 0.9 and min(sizes) < 0.35)
    if targets and count >= 10:
        used = [max(getattr(one, f"{cost}_share") / most for cost, most in targets.items()) for one in measured]
        assert any(0.85 <= share <= 1 for share in used)


def test_the_lagrangian_baselines_plan_of_every_round_budget_is_an_initial_plan(
    proxy: Proxy, table: OptionTable
) -> None:
    plans, context, met = set(initial_plans(table, 60, {})), RuleContext(proxy, table), 0
    for cost in ("params", "macs"):
        for share in BUDGETS:
            try:
                plan = BASELINES["lagrangian"].plan(context, {cost: share})
            except LrfError:
                continue
            met += 1
            assert plan in plans, (cost, share)
    assert met >= 4


def test_every_method_of_a_large_layer_has_a_plan_within_the_targets(proxy: Proxy, table: OptionTable) -> None:
    large = [site for site, options in table.items() if max(option.params for option in options) > LARGE_LAYER]
    assert large, "the hidden layer of the digits network holds most of its parameters"
    plans, budget = initial_plans(table, 60, {"params": 0.5}), {"params": 0.5}
    assert set(method_plans(table, budget)) <= set(plans)
    for site in large:
        methods = {option.method for option in table[site] if option.method != INTACT.method}
        assert methods <= {plan[site].method for plan in method_plans(table, budget)}
    assert all(proxy.measure(plan).params_share <= 0.5 for plan in method_plans(table, budget))


TIMED = made_up_table((9, 7, 11, 8, 6), timed=True)


def test_the_plan_of_every_round_budget_of_milliseconds_is_an_initial_plan() -> None:
    plans, found = set(initial_plans(TIMED, 60, {})), {s: lagrangian_within(TIMED, {"latency": s})[:1] for s in BUDGETS}
    assert sum(map(len, found.values())) >= 4
    assert all(plan in plans for own in found.values() for plan in own)


@pytest.mark.parametrize("targets", [{"latency": 0.5}, {"latency": 0.6, "params": 0.5}])
def test_initial_plans_are_just_within_targets_of_milliseconds(targets: dict[str, float]) -> None:
    plans = np.array([TIMED.encode(plan) for plan in initial_plans(TIMED, 30, targets)])
    used = np.max([TIMED.share(plans, cost) / most for cost, most in targets.items()], axis=0)
    assert np.any((used > 0.85) & (used <= 1 + 1e-9))


def test_plans_spread_by_hypervolume_fill_more_than_as_many_at_even_steps(proxy: Proxy, table: OptionTable) -> None:
    def volume(rows: Any) -> float:
        plans = map(table.decode, rows)
        return Front.of(Candidate(i, plan, proxy.costs(plan)) for i, plan in enumerate(plans)).volume

    sweep = lagrangian_sweep(table)
    chosen = spread_by_hypervolume(np.column_stack([table.total(sweep, "losses"), table.shares(sweep)]), 8)
    even = np.linspace(0, len(sweep) - 1, 8).round().astype(int)
    assert len(set(chosen)) == 8
    assert chosen[:2] == [len(sweep) - 1, 0]
    assert volume(sweep[chosen]) > volume(sweep[even])


def test_where_there_are_few_plans_all_are_chosen() -> None:
    assert spread_by_hypervolume(np.zeros((0, 3)), 4) == []
    assert sorted(spread_by_hypervolume(np.eye(3), 9)) == [0, 1, 2]
    assert spread_by_hypervolume(np.eye(3), 0) == []


def test_random_plans_are_any_of_the_tables_and_equal_for_equal_generators(table: OptionTable) -> None:
    first, again = (random_plans(table, 30, np.random.default_rng(0)) for _ in range(2))
    assert first == again
    methods = {option.choice.method for options in table.values() for option in options}
    assert {choice.method for plan in first for _, choice in plan} == methods
