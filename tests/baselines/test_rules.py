"""Every rule for ranks over one table: within its budget, monotone, repeatable, and what each of them promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrf_optuna.baselines.budget import RuleContext, largest_within, spectral_errors, spectral_norm
from lrf_optuna.baselines.rules import BASELINES, baselines_of, evb_ranks, lost_energy
from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, applicable_methods
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy

SHARES = (0.95, 0.8, 0.6, 0.45)
BUDGETS = [{cost: share} for cost in ("params", "macs") for share in SHARES] + [{"params": 0.7, "macs": 0.75}]
ROWS = [*(f"uniform {name}" for name in DECOMPOSITIONS if name != "intact"), *BASELINES]
POINT = Conv((), 64, 64, (), ())


@pytest.fixture(scope="module")
def accuracy(proxy: Proxy, images: Any) -> Callable[[Plan], float]:
    """The share of images that a plan's network gives the original's label, remembered."""
    known: dict[Plan, float] = {}
    labels = proxy.logits(Plan(()), images).argmax(1)

    def share(plan: Plan) -> float:
        if plan not in known:
            known[plan] = float(np.mean(proxy.logits(plan, images).argmax(1) == labels))
        return known[plan]

    return share


@pytest.fixture(scope="module")
def context(proxy: Proxy, table: OptionTable, accuracy: Callable[[Plan], float]) -> RuleContext:
    return RuleContext(proxy, table, accuracy)


def plan_of_rule(context: RuleContext, row: str, budget: Mapping[str, float]) -> Plan | None:
    """The plan of a row, or `None` where even its smallest is too large: then the error says so."""
    try:
        return baselines_of(context.proxy)[row].plan(context, budget)
    except LrfError as reason:
        if "the smallest has" not in str(reason):
            raise
        return None


def test_there_is_a_uniform_rule_for_each_method_that_saves_somewhere(proxy: Proxy) -> None:
    assert list(baselines_of(proxy)) == ROWS
    only = [name for name in ROWS if name in baselines_of(narrowed(proxy, ("intact", "svd")))]
    assert only == ["uniform svd", *BASELINES]


def narrowed(proxy: Proxy, methods: tuple[str, ...]) -> Any:
    """What `baselines_of` sees of a proxy with fewer methods."""
    from types import SimpleNamespace

    allowed = lambda site: tuple(m for m in proxy.methods_of(site) if m in methods)  # noqa: E731
    return SimpleNamespace(sites=proxy.sites, methods_of=allowed)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_plan_is_within_its_budget(context: RuleContext, row: str, budget: dict[str, float]) -> None:
    plan = plan_of_rule(context, row, budget)
    if plan is not None:
        assert all(context.costs(plan)[cost] <= most for cost, most in budget.items())
        assert not {site for site, _ in plan} - set(context.proxy.sites)


@pytest.mark.parametrize("row", ROWS)
def test_a_generous_budget_can_be_met_by_every_rule_for_windows_and_points(context: RuleContext, row: str) -> None:
    wide = [name for name in applicable_methods(context.proxy.sites["deep"].op) if name != "intact"]
    plan = plan_of_rule(context, row, {"params": 0.8})
    assert plan is not None or row not in {*BASELINES, *(f"uniform {name}" for name in wide)}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_a_smaller_budget_gives_no_larger_network(context: RuleContext, row: str, cost: str) -> None:
    plans = [plan_of_rule(context, row, {cost: share}) for share in SHARES]
    sizes = [context.costs(plan)[cost] for plan in plans if plan is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert [plan is None for plan in plans] == sorted(plan is None for plan in plans)


@pytest.mark.parametrize("row", ROWS)
def test_a_budget_of_everything_leaves_the_network_as_it_is(context: RuleContext, row: str) -> None:
    plan = plan_of_rule(context, row, {"params": 1.0})
    assert plan is not None
    assert context.costs(plan) == {"params": 1.0, "macs": 1.0}


@pytest.mark.parametrize("row", ROWS)
def test_equal_budgets_give_equal_plans_and_nothing_is_changed(context: RuleContext, row: str) -> None:
    budget = {"params": 0.7}
    kernels = {site: kernel.copy() for site, kernel in context.proxy.kernels.originals.items()}
    table = {site: list(options) for site, options in context.table.items()}
    again = RuleContext(context.proxy, context.table, context.metric)
    assert plan_of_rule(context, row, budget) == plan_of_rule(again, row, budget)
    assert budget == {"params": 0.7}
    assert dict(context.table) == table
    for site, kernel in kernels.items():
        np.testing.assert_array_equal(context.proxy.kernels.originals[site], kernel)


@pytest.mark.parametrize("row", ROWS)
def test_a_budget_that_no_plan_meets_is_refused_with_what_the_smallest_has(context: RuleContext, row: str) -> None:
    with pytest.raises(LrfError, match=r"no plan of this kind has params <= 0.01: the smallest has params 0\.\d+"):
        baselines_of(context.proxy)[row].plan(context, {"params": 0.01})


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("budget", [{}, {"loss": 0.1}, {"param": 0.5}], ids=str)
def test_a_budget_of_nothing_known_is_refused(context: RuleContext, row: str, budget: dict[str, float]) -> None:
    with pytest.raises(LrfError, match="budget"):
        baselines_of(context.proxy)[row].plan(context, budget)


@pytest.mark.parametrize("name", ["uniform tucker2", "uniform channel_svd", "energy", "vbmf tucker2", "vbmf svd"])
def test_what_has_continuous_ranks_comes_near_to_its_budget(context: RuleContext, name: str) -> None:
    plan = plan_of_rule(context, name, {"params": 0.7})
    assert plan is not None
    assert context.costs(plan)["params"] > 0.55


def test_uniform_plans_have_the_method_where_it_saves_and_svd_on_points(context: RuleContext) -> None:
    plan = plan_of_rule(context, "uniform tucker2", {"params": 0.6})
    assert plan is not None
    assert plan["deep"].method == "tucker2"
    assert {plan[site].method for site in ("short", "hidden", "top")} <= {"svd", "intact"}


def test_energy_keeps_the_same_share_of_every_kernel_and_no_rank_more(context: RuleContext) -> None:
    plan = plan_of_rule(context, "energy", {"params": 0.6})
    assert plan is not None
    ranks = {site: choice.ranks[0] for site, choice in plan if choice != INTACT}
    most = max(lost_energy(context, site)[rank] for site, rank in ranks.items())
    assert all(lost_energy(context, site)[rank - 1] > most or rank == 1 for site, rank in ranks.items())


def test_minmax_has_the_least_largest_error_of_all_plans_within_the_budget(context: RuleContext) -> None:
    plan = plan_of_rule(context, "minmax", {"params": 0.6})
    assert plan is not None
    worst = max(context.spectral[site][choice] for site, choice in plan)
    better = {site: [c for c, error in own.items() if error < worst] for site, own in context.spectral.items()}
    sizes = {site: [context.proxy.shares(site, choice).params for choice in own] for site, own in better.items()}
    smallest = context.proxy.fixed.params + sum(map(min, sizes.values()))
    assert smallest > 0.6


def test_greedy_takes_the_smallest_option_above_one_metric(context: RuleContext) -> None:
    plan = plan_of_rule(context, "greedy", {"params": 0.7})
    assert plan is not None
    assert context.metric is not None
    kept = {o.choice: o.keep for options in context.table.values() for o in options}
    least = min(context.metric(Plan.of({site: choice})) for site, choice in plan)
    for site, choice in plan:
        smaller = [o for o in context.table[site] if o.choice != INTACT and o.keep < kept[choice]]
        best = {
            keep: min((o for o in smaller if o.keep == keep), key=lambda o: o.loss)
            for keep in {o.keep for o in smaller}
        }
        assert all(context.metric(Plan.of({site: o.choice})) < least or choice == INTACT for o in best.values())


def test_greedy_without_a_metric_is_refused(context: RuleContext) -> None:
    with pytest.raises(LrfError, match="labeled images"):
        BASELINES["greedy"].plan(replace(context, metric=None), {"params": 0.8})


def test_the_lagrangian_plan_loses_no_more_by_the_table_than_any_other_from_it(context: RuleContext) -> None:
    def lost(plan: Plan) -> float:
        return sum(next(o.loss for o in context.table[site] if o.choice == choice) for site, choice in plan)

    there = {(site, option.choice) for site, options in context.table.items() for option in options}
    plans = {
        row: plan_of_rule(context, row, {"params": 0.6}) for row in ("lagrangian", "minmax", "greedy", "uniform cp3")
    }
    sums = {row: lost(plan) for row, plan in plans.items() if plan is not None and there >= set(plan)}
    assert len(sums) > 1
    assert sums["lagrangian"] <= min(sums.values()) * 1.05


def test_vbmf_ranks_are_at_least_one_and_at_most_full(context: RuleContext) -> None:
    for site, method in (("deep", "tucker2"), ("deep", "channel_svd"), ("hidden", "svd")):
        assert all(1 <= rank <= full for rank, full in evb_ranks(context, site, method))
    assert [full for _, full in evb_ranks(context, "deep", "tucker2")] == [16, 16]


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_plain_errors_are_those_of_the_truncated_singular_values(context: RuleContext, rank: int) -> None:
    kernel, choice = context.proxy.kernels.originals["hidden"], Choice("svd", (rank,))
    values = np.linalg.svd(kernel.reshape(16, 16), compute_uv=False)
    found = spectral_errors(context.proxy.sites["hidden"].op, kernel, [INTACT, choice])
    assert found == pytest.approx({INTACT: 0, choice: values[rank] / values[0]}, rel=1e-3)


def test_a_large_matrix_has_the_same_spectral_norm(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = rng.normal(size=(40, 30)).astype(np.float32)
    whole = spectral_norm(matrix)
    monkeypatch.setattr("lrf_optuna.baselines.budget.GRAM_SIDE", 10)
    assert spectral_norm(matrix) == pytest.approx(whole, rel=1e-3)
    assert spectral_norm(matrix.T) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-3)


def test_the_highest_scale_within_a_budget_is_found() -> None:
    def found(most: float) -> float:
        return largest_within(lambda scale: scale, lambda scale: {"params": 0.2 + scale}, {"params": most})

    assert found(0.5) == pytest.approx(0.3)
    assert found(2) == 1
    with pytest.raises(LrfError, match=r"the smallest has params 0\.2000"):
        found(0.1)
