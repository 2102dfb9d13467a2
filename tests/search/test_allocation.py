"""Allocations against brute force over every combination of options."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.scoring.option_table import Allocation, Option, OptionTable, plan_of
from lrf_optuna.scoring.screening import drop_dominated_methods
from lrf_optuna.search.allocation import (
    BINS,
    MIXES,
    SLACK,
    knapsack,
    ladder,
    lagrangian,
    lagrangian_sweep,
    lagrangian_within,
    uniform_keep,
    within_network_budget,
)

KEEPS = (0.2, 0.5, 0.8)


def random_table(seed: int, sites: int = 3) -> OptionTable:
    """Options whose loss falls with what is kept; each site holds a random share of the network."""
    rng = np.random.default_rng(seed)
    table = {}
    for i in range(sites):
        params, macs = rng.uniform(0.1, 0.4, 2)
        options = [Option("intact", max(KEEPS), INTACT, 0.0, params, macs)]
        for method in ("a", "b"):
            losses = sorted(rng.uniform(0, 0.3, len(KEEPS)), reverse=True)
            for rank, (keep, loss) in enumerate(zip(KEEPS, losses, strict=True), 1):
                sizes = keep * params * rng.uniform(0.9, 1), keep * macs * rng.uniform(0.7, 1)
                options.append(Option(method, keep, Choice(method, (rank,)), loss, *sizes))
        table[f"site{i}"] = options
    return table


def every(table: OptionTable) -> list[Allocation]:
    return [dict(zip(table, picked, strict=True)) for picked in product(*table.values())]


def total(picks: Allocation, cost: str) -> float:
    return sum(getattr(option, cost) for option in picks.values())


tables = st.integers(0, 1000).map(random_table)


@given(tables, st.floats(1e-4, 100), st.floats(0, 1))
@settings(max_examples=30)
def test_lagrangian_picks_have_the_least_price_of_all_combinations(
    table: OptionTable, multiplier: float, mix: float
) -> None:
    def price(picks: Allocation) -> float:
        return total(picks, "loss") + multiplier * (mix * total(picks, "params") + (1 - mix) * total(picks, "macs"))

    assert price(lagrangian(table, multiplier, mix)) == pytest.approx(min(map(price, every(table))))


@given(tables)
@settings(max_examples=15)
def test_methods_that_lose_at_every_option_to_another_are_left_out_and_no_other(table: OptionTable) -> None:
    worse = {
        site: [*options, *(Option("c", o.keep, o.choice, o.loss + 0.01, o.params, o.macs) for o in options[1:])]
        for site, options in table.items()
    }
    mixed = {site: [*options, Option("d", 0.1, options[1].choice, 0.0, 1e-4, 1e-4)] for site, options in worse.items()}
    assert {o.method for options in drop_dominated_methods(worse).values() for o in options} == {"intact", "a", "b"}
    assert {o.method for options in drop_dominated_methods(mixed).values() for o in options} == {"d"}
    best = lagrangian_sweep(table)
    assert [plan_of(picks) for picks in lagrangian_sweep(drop_dominated_methods(table))] == [
        plan_of(picks) for picks in best
    ]


def test_of_two_methods_that_are_equal_the_first_is_left() -> None:
    options = [Option(name, 0.5, Choice(name, (2,)), 0.1, 0.5, 0.5) for name in ("a", "b")]
    assert drop_dominated_methods({"site": options}) == {"site": options[:1]}


def test_a_circle_of_near_equals_leaves_one_of_them() -> None:
    """The first beats the second by coming earlier, the second so the third, and the third the first by its loss."""
    losses = {"a": 0.1015, "b": 0.1, "c": 0.0985}
    options = [Option(name, 0.5, Choice(name, (2,)), loss, 0.5, 0.5) for name, loss in losses.items()]
    assert drop_dominated_methods({"site": options}) == {"site": options[:1]}


@given(tables)
@settings(max_examples=15)
def test_a_sweep_goes_once_through_distinct_plans_from_the_original_down_to_the_smallest(table: OptionTable) -> None:
    picks = lagrangian_sweep(table)
    sizes = [total(p, "params") + total(p, "macs") for p in picks]
    assert sizes == sorted(sizes, reverse=True)
    assert len({plan_of(p) for p in picks}) == len(picks)
    assert total(picks[0], "loss") == 0
    assert sizes[-1] == pytest.approx(min(total(p, "params") + total(p, "macs") for p in every(table)), rel=0.02)


@given(tables)
@settings(max_examples=15)
def test_no_combination_beats_a_swept_one_in_every_way(table: OptionTable) -> None:
    everything = np.array([[total(p, cost) for cost in ("loss", "params", "macs")] for p in every(table)])
    for picks in lagrangian_sweep(table):
        own = np.array([total(picks, cost) for cost in ("loss", "params", "macs")])
        assert not np.any(np.all(everything < own - 1e-12, axis=1))


@given(tables, st.floats(0.3, 1.0), st.floats(0.3, 1.0))
@settings(max_examples=30)
def test_fitting_picks_are_within_the_budget_and_near_the_least_loss(
    table: OptionTable, params: float, macs: float
) -> None:
    budget = {
        "params": params * sum(o[0].params for o in table.values()),
        "macs": macs * sum(o[0].macs for o in table.values()),
    }
    possible = [picks for picks in every(table) if all(total(picks, cost) <= most for cost, most in budget.items())]
    found = lagrangian_within(table, budget)
    assert len(found) <= len(MIXES)
    losses = [total(picks, "loss") for picks in found]
    assert losses == sorted(losses)
    for picks in found:
        assert total(picks, "params") <= budget["params"]
        assert total(picks, "macs") <= budget["macs"]
    if possible and found:  # a Lagrangian relaxation is short of the optimum by no more than one layer's step
        largest = max(option.loss for options in table.values() for option in options)
        assert losses[0] <= min(total(p, "loss") for p in possible) + largest


@given(tables, st.floats(0.3, 1.0))
@settings(max_examples=15)
def test_what_is_allotted_of_the_whole_network_leaves_room_for_what_no_plan_changes(
    table: OptionTable, most: float
) -> None:
    fixed = {"params": 0.1, "macs": 0.2}
    found = within_network_budget(table, {"params": most}, fixed)
    assert all(total(picks, "params") + fixed["params"] <= most + 1e-9 for picks in found)
    assert found == lagrangian_within(table, {"params": most - fixed["params"] + SLACK})


@given(tables, st.floats(0.05, 1.0), st.sampled_from(["params", "macs"]))
@settings(max_examples=30)
def test_what_is_packed_is_the_best_of_all_combinations_within_the_budget(
    table: OptionTable, share: float, cost: str
) -> None:
    most = share * sum(max(getattr(o, cost) for o in options) for options in table.values())
    found = knapsack(table, cost, most)
    inside = [picks for picks in every(table) if total(picks, cost) <= most]
    safely = [picks for picks in inside if total(picks, cost) <= most * (1 - len(table) / BINS)]
    if found is None:
        assert not safely
        return
    assert list(found) == list(table)
    assert total(found, cost) <= most * (1 + 1e-9)
    losses = [total(picks, "loss") for picks in safely]
    assert total(found, "loss") <= min(losses, default=np.inf) + 1e-9
    assert total(found, "loss") >= min(total(picks, "loss") for picks in inside) - 1e-9


@pytest.mark.parametrize("most", [0.0, -0.2, 1e-9])
def test_nothing_is_packed_into_no_budget(most: float) -> None:
    assert knapsack(random_table(0), "params", most) is None


def test_what_is_packed_loses_no_more_than_what_the_relaxation_finds() -> None:
    for seed in range(5):
        table = random_table(seed)
        for most in (0.3, 0.5, 0.7):
            relaxed, exact = lagrangian_within(table, {"params": most}), knapsack(table, "params", most)
            if relaxed:
                assert exact is not None
                assert total(exact, "loss") <= total(relaxed[0], "loss") + 1e-6


def test_a_ladder_goes_down_the_sweep_at_even_steps() -> None:
    table = random_table(0)
    swept = [plan_of(picks) for picks in lagrangian_sweep(table)]
    plans = ladder(table, 4)
    assert len(plans) == 4
    assert (plans[0], plans[-1]) == (swept[0], swept[-1])
    assert [swept.index(plan) for plan in plans] == sorted(swept.index(plan) for plan in plans)
    assert ladder(table, 10_000) == swept


def test_a_budget_that_nothing_meets_is_fitted_by_nothing() -> None:
    assert lagrangian_within(random_table(0), {"params": 0.001}) == []


def test_a_budget_of_everything_is_fitted_by_the_original() -> None:
    assert total(lagrangian_within(random_table(0), {"params": 10.0})[0], "loss") == 0


@pytest.mark.parametrize("keep", KEEPS)
def test_uniform_picks_have_one_keep_and_the_mildest_method(keep: float) -> None:
    table = random_table(3)
    for site, option in uniform_keep(table, keep).items():
        rivals = [o for o in table[site] if o.keep == keep]
        assert option.keep == keep
        assert option.loss == min(o.loss for o in rivals)


def test_a_site_without_the_keep_is_left_as_its_first_option() -> None:
    table = random_table(3)
    assert uniform_keep(table, 0.123) == {site: options[0] for site, options in table.items()}


def test_the_plan_of_picks_names_every_site() -> None:
    table = random_table(1)
    picks = uniform_keep(table, 0.5)
    assert dict(plan_of(picks)) == {site: option.choice for site, option in picks.items()}
