"""The option table against brute force, against the built model's counts, and against its own inverse."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.search import FIXED, allocation_of, made_up_table, sum_of

from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy

COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)


def random_indices(table: OptionTable, rng: np.random.Generator, count: int = 10) -> Any:
    return rng.integers(0, table.counts, (count, len(table)))


@given(COUNTS, st.integers(0, 9))
def test_encoding_is_the_inverse_of_decoding(counts: tuple[int, ...], seed: int) -> None:
    table = made_up_table(counts, seed)
    for row in random_indices(table, np.random.default_rng(seed)):
        assert table.encode(table.decode(row)).tolist() == row.tolist()  # type: ignore[union-attr]


def test_a_site_without_a_choice_is_encoded_as_intact() -> None:
    table = made_up_table((7, 4, 9))
    assert table.encode(Plan(())).tolist() == [0, 0, 0]  # type: ignore[union-attr]
    assert table.encode(Plan.of({"layer 1": Choice("cp", (2,))})).tolist() == [0, 2, 0]  # type: ignore[union-attr]


def test_a_choice_that_the_table_does_not_have_cannot_be_encoded() -> None:
    assert made_up_table((7, 4)).encode(Plan.of({"layer 1": Choice("svd", (99,))})) is None


@given(COUNTS, st.integers(0, 9))
def test_totals_are_sums_over_the_options_and_shares_add_what_is_fixed(counts: tuple[int, ...], seed: int) -> None:
    table = made_up_table(counts, seed)
    rows = random_indices(table, np.random.default_rng(seed))
    allocations = [allocation_of(table, row) for row in rows]
    for name, cost in (("losses", "loss"), ("params", "params"), ("macs", "macs")):
        assert table.total(rows, name) == pytest.approx([sum_of(a, cost) for a in allocations])
    wanted = [[FIXED.params + sum_of(a, "params"), FIXED.macs + sum_of(a, "macs")] for a in allocations]
    assert table.shares(rows) == pytest.approx(np.array(wanted))


@given(st.integers(0, 200), st.floats(1e-4, 100), st.floats(0, 1))
@settings(max_examples=30)
def test_an_allocation_has_the_least_price_of_all_combinations(seed: int, multiplier: float, mix: float) -> None:
    table = made_up_table((7, 3, 5), seed)

    def price(row: Any) -> float:
        row = np.array(row)
        loss = float(table.total(row, "losses"))
        return loss + multiplier * float(mix * table.total(row, "params") + (1 - mix) * table.total(row, "macs"))

    (found,) = table.allocate(np.array([multiplier]), np.array([[mix, 1 - mix]]))
    assert np.all(found < table.counts)
    assert price(found) == pytest.approx(min(map(price, product(*(range(count) for count in table.counts)))))


def test_shares_of_random_plans_are_those_of_the_counted_network(proxy: Proxy, table: OptionTable) -> None:
    rows = random_indices(table, np.random.default_rng(0), 20)
    measured = [proxy.measure(table.decode(row)) for row in rows]
    wanted = np.array([[m.params_share, m.macs_share] for m in measured])
    assert table.shares(rows) == pytest.approx(wanted, abs=1e-12)


def test_what_no_plan_can_change_is_the_rest_of_the_network(proxy: Proxy, table: OptionTable) -> None:
    factorizable = sum(site.op.params for site in proxy.sites.values())
    assert table.fixed.params == pytest.approx(1 - factorizable / proxy.inventory.params)
    assert 0 <= table.fixed.macs < 0.01
    assert table.shares(np.zeros((1, len(table)), int)) == pytest.approx(np.ones((1, 2)))


def test_a_part_of_a_table_has_the_options_that_are_allowed_and_draws_from_the_same_space(table: OptionTable) -> None:
    part = table.where(lambda site, option: option.choice == INTACT or (site == "deep" and option.method == "svd"))
    assert {site: [o.method for o in options] for site, options in part.items() if site != "deep"} == {
        site: ["intact"] for site in table if site != "deep"
    }
    assert part.fixed == table.fixed
    assert all(part.methods_and_keeps(site) == table.methods_and_keeps(site) for site in table)


def test_a_table_without_a_space_draws_from_its_own_options() -> None:
    methods, keeps = made_up_table((4,)).methods_and_keeps("layer 0")
    assert methods == ("intact", "svd", "cp")
    assert keeps == pytest.approx((0.1, 0.5, 0.9, 1.0))


def test_a_proxys_table_draws_from_every_method_of_a_layer(proxy: Proxy, table: OptionTable, keeps: Any) -> None:
    for site in proxy.sites:
        methods, grid = table.methods_and_keeps(site)
        assert methods == proxy.methods_of(site)
        assert set(grid) <= set(keeps)
        assert {o.method for o in table[site]} <= set(methods)
        assert {o.keep for o in table[site]} <= set(grid)
