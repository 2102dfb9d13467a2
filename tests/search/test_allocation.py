"""Lagrangian allocations against brute force over every combination of options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.search import FIXED, FIXED_TIME, all_allocations, allocation_of, made_up_table, sum_of

from lrf_optuna.scoring.option_table import SIZES, OptionTable
from lrf_optuna.search.allocation import lagrangian_sweep, lagrangian_within, mixes_of

COSTS = ("loss", "params", "macs")
tables = st.integers(0, 1000).map(lambda seed: made_up_table((7, 4, 6), seed))
timed_tables = st.integers(0, 1000).map(lambda seed: made_up_table((7, 4, 6), seed, timed=True))


@given(tables, st.floats(1e-4, 100), st.floats(0, 1))
@settings(max_examples=30)
def test_a_lagrangian_allocation_has_the_least_price_of_all(table: OptionTable, multiplier: float, mix: float) -> None:
    def price(allocation: object) -> float:
        loss, params, macs = (sum_of(allocation, cost) for cost in COSTS)  # type: ignore[arg-type]
        return loss + multiplier * (mix * params + (1 - mix) * macs)

    (plan,) = table.allocate(np.array([multiplier]), np.array([[mix, 1 - mix]]))
    assert price(allocation_of(table, plan)) == pytest.approx(min(map(price, all_allocations(table))))


@given(timed_tables, st.floats(1e-4, 100), st.tuples(*[st.floats(0.01, 1)] * 3))
@settings(max_examples=30)
def test_with_milliseconds_an_allocation_has_the_least_price_of_all_too(
    table: OptionTable, multiplier: float, weights: tuple[float, ...]
) -> None:
    mix = np.array(weights) / sum(weights)

    def price(allocation: object) -> float:
        loss, *sizes = (sum_of(allocation, cost) for cost in ("loss", *SIZES))  # type: ignore[arg-type]
        return loss + multiplier * float(mix @ sizes)

    (plan,) = table.allocate(np.array([multiplier]), mix[None])
    assert price(allocation_of(table, plan)) == pytest.approx(min(map(price, all_allocations(table))))


@given(timed_tables)
@settings(max_examples=10)
def test_no_combination_dominates_a_plan_of_a_sweep_with_milliseconds(table: OptionTable) -> None:
    costs = ("loss", *SIZES)
    everything = np.array([[sum_of(a, cost) for cost in costs] for a in all_allocations(table)])
    for plan in lagrangian_sweep(table):
        own = np.array([sum_of(allocation_of(table, plan), cost) for cost in costs])
        assert not np.any(np.all(everything < own - 1e-12, axis=1))


@given(timed_tables, st.floats(0.2, 1.0))
@settings(max_examples=20)
def test_a_budget_of_milliseconds_is_kept_and_missed_only_where_nothing_meets_it(
    table: OptionTable, most: float
) -> None:
    found = lagrangian_within(table, {"latency": most})
    shares = [FIXED_TIME + sum_of(allocation_of(table, plan), "latency") for plan in found]
    assert all(share <= most + 1e-9 for share in shares)
    least = FIXED_TIME + min(sum_of(a, "latency") for a in all_allocations(table))
    assert bool(found) == (least <= most)


@pytest.mark.parametrize("sizes", [1, 2, 3])
def test_mixes_are_distinct_sum_to_one_and_have_each_size_alone(sizes: int) -> None:
    mixes = mixes_of(sizes)
    assert mixes.sum(axis=1) == pytest.approx(1)
    assert len(np.unique(mixes, axis=0)) == len(mixes)
    assert {tuple(row) for row in np.eye(sizes)} <= {tuple(row) for row in mixes}


@given(tables)
@settings(max_examples=15)
def test_a_sweep_goes_once_through_distinct_plans_from_the_original_down_to_the_smallest(table: OptionTable) -> None:
    plans = lagrangian_sweep(table)
    sizes = table.shares(plans).sum(axis=1)
    assert np.all(np.diff(sizes) <= 0)
    assert len(np.unique(plans, axis=0)) == len(plans)
    assert plans[0].tolist() == [0] * len(table)
    smallest = sum(FIXED) + min(sum_of(a, "params") + sum_of(a, "macs") for a in all_allocations(table))
    assert sizes[-1] == pytest.approx(smallest, rel=0.02)


@given(tables)
@settings(max_examples=15)
def test_no_combination_dominates_a_plan_of_the_sweep(table: OptionTable) -> None:
    everything = np.array([[sum_of(a, cost) for cost in COSTS] for a in all_allocations(table)])
    for plan in lagrangian_sweep(table):
        own = np.array([sum_of(allocation_of(table, plan), cost) for cost in COSTS])
        assert not np.any(np.all(everything < own - 1e-12, axis=1))


@given(tables, st.floats(0.2, 1.0), st.floats(0.2, 1.0))
@settings(max_examples=30)
def test_allocations_for_a_budget_are_within_it_and_near_the_least_loss(
    table: OptionTable, params: float, macs: float
) -> None:
    budget = {"params": params, "macs": macs}
    room = {cost: most - getattr(FIXED, cost) + 1e-9 for cost, most in budget.items()}
    found = [allocation_of(table, plan) for plan in lagrangian_within(table, budget)]
    losses = [sum_of(allocation, "loss") for allocation in found]
    assert len(found) <= len(mixes_of(2))
    assert losses == sorted(losses)
    assert all(sum_of(allocation, cost) <= most for allocation in found for cost, most in room.items())
    possible = [a for a in all_allocations(table) if all(sum_of(a, cost) <= most for cost, most in room.items())]
    if found:  # a Lagrangian relaxation is short of the optimum by no more than one layer's step
        largest = max(option.loss for options in table.values() for option in options)
        assert losses[0] <= min(sum_of(a, "loss") for a in possible) + largest


def test_a_budget_that_nothing_meets_has_no_allocation() -> None:
    assert lagrangian_within(made_up_table((7, 4, 6)), {"params": 0.05}) == []


def test_a_budget_of_everything_is_met_by_the_original() -> None:
    table = made_up_table((7, 4, 6))
    assert lagrangian_within(table, {"params": 1.0})[0] == table.decode(np.zeros(3, int))
