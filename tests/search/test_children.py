"""A child is a new plan of the table's options, near what is asked for, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lrf_optuna.search.encoding import PlanEncoding
from lrf_optuna.search.interest import Edge, edges

from lrf_optuna.plans.front import Front, cost_matrix
from lrf_optuna.plans.hypervolume import non_dominated
from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import Option, OptionTable, plan_of
from lrf_optuna.search.children import BOLD, BOLDLY, DRAWN, HOPE, ChildGenerator

Array = np.ndarray[Any, Any]
Objectives = Mapping[str, Callable[[Measured], float]]
TOTALS = {"params": 10_000, "macs": 50_000}
FIXED = {"params": 0.04, "macs": 0.01}
COUNTS = (7, 4, 9, 5, 6)
MANY = (12,) * 10


def table_of(counts: tuple[int, ...] = COUNTS, seed: int = 0) -> OptionTable:
    """Layers with so many options: the intact one, then smaller and worse ones."""
    rng = np.random.default_rng(seed)
    params, macs = (rng.dirichlet(np.ones(len(counts)) * 3) * (1 - FIXED[cost]) for cost in ("params", "macs"))
    table = {}
    for i, count in enumerate(counts):
        keeps = np.linspace(1, 0.1, count)
        hurt = 0.003 * rng.uniform(0.1, 1)
        table[f"layer {i}"] = [
            Option("svd" if k else "intact", float(keep), Choice("svd", (k,)) if k else Choice("intact"), loss, p, m)
            for k, keep in enumerate(keeps)
            for loss, p, m in [(hurt * (1 / keep - 1) ** 1.5, params[i] * keep, macs[i] * keep)]
        ]
    return table


class Bred:
    """A breeder with trials whose losses are the table's own with planted weights."""

    def __init__(
        self,
        table: OptionTable,
        objectives: Objectives = OBJECTIVES,
        targets: Mapping[str, float] | None = None,
        seed: int = 0,
        trials: int = 12,
    ) -> None:
        self.table, self.objectives = table, objectives
        self.options = PlanEncoding(table, FIXED)
        self.targets = targets or {}
        self.breeder = ChildGenerator(self.options, objectives, TOTALS, self.targets, seed)
        self.weights = np.linspace(0.5, 2, len(table))
        self.found: list[Candidate] = []
        rng = np.random.default_rng(1)
        for _ in range(trials):
            self.learn({site: options[rng.integers(len(options))] for site, options in table.items()})

    def costs(self, picks: Mapping[str, Option]) -> dict[str, float]:
        lost = sum(weight * option.loss for weight, option in zip(self.weights, picks.values(), strict=True))
        shares = [FIXED[cost] + sum(getattr(o, cost) for o in picks.values()) for cost in ("params", "macs")]
        counts = [round(share * TOTALS[cost]) for share, cost in zip(shares, ("params", "macs"), strict=True)]
        measured = Measured({"logits": 1 - min(lost, 1.0)}, *counts, *shares)
        return {name: cost(measured) for name, cost in self.objectives.items()} | {"loss": min(lost, 1.0)}

    def learn(self, picks: dict[str, Option]) -> Candidate:
        costs, plan = self.costs(picks), plan_of(picks)
        self.breeder.learn(plan, costs["loss"])
        self.found.append(Candidate(len(self.found), plan, {name: costs[name] for name in self.objectives}))
        return self.found[-1]

    def child(self) -> dict[str, Option]:
        costs = cost_matrix(self.found)
        front = non_dominated(costs)
        return self.breeder.child(np.sort(front), costs[front])

    def children(self, count: int) -> list[Candidate]:
        return [self.learn(self.child()) for _ in range(count)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple), st.integers(0, 5))
def test_a_child_is_of_the_tables_options_and_new_as_long_as_there_are_any(counts: tuple[int, ...], seed: int) -> None:
    table, space = table_of(counts), int(np.prod(counts))
    bred = Bred(table, seed=seed, trials=1)
    for _ in range(6):
        known = {one.plan for one in bred.found}
        child = bred.child()
        assert list(child) == list(table)
        assert all(option in table[site] for site, option in child.items())
        if space > 500:
            assert plan_of(child) not in known
        bred.learn(child)


@pytest.mark.parametrize("counts", [(1,), (2,), (2, 2), (1, 3, 1)])
def test_where_every_plan_is_known_a_child_is_one_of_them(counts: tuple[int, ...]) -> None:
    bred, space = Bred(table_of(counts), trials=1), int(np.prod(counts))
    bred.children(space + 12)
    assert len({one.plan for one in bred.found}) == space, "all were found, and then it went on"


def test_every_child_of_a_large_space_is_new() -> None:
    bred = Bred(table_of())
    bred.children(60)
    plans = [one.plan for one in bred.found[12:]]
    assert len(set(plans)) == 60
    assert not set(plans) & {one.plan for one in bred.found[:12]}


def test_equal_seeds_give_equal_children_and_other_seeds_others() -> None:
    one, same, other = ([c.plan for c in Bred(table_of(), seed=seed).children(15)] for seed in (3, 3, 4))
    assert one == same
    assert one != other


def within(children: list[Candidate], targets: Mapping[str, float], least: float = 0.0) -> float:
    """The share of children within all targets, and above so much of one of them."""
    reached = [[child.costs[cost] / most for cost, most in targets.items()] for child in children]
    return float(np.mean([least <= max(shares) <= 1 for shares in reached]))


@pytest.mark.parametrize("targets", [{"params": 0.4}, {"params": 0.5, "macs": 0.35}])
def test_with_targets_most_children_lie_within_and_more_of_them_near(targets: dict[str, float]) -> None:
    aimed, free = (Bred(table_of(MANY), targets=some).children(40) for some in (targets, {}))
    assert within(aimed, targets) > 0.8
    assert within(aimed, targets) > within(free, targets)
    assert within(aimed, targets, 0.85) > within(free, targets, 0.85)


def test_a_target_of_the_loss_draws_children_as_well() -> None:
    aimed, free = (Bred(table_of(MANY), targets=some).children(40) for some in ({"loss": 0.02}, {}))
    for least in (0.0, 0.85):
        assert within(aimed, {"loss": 0.02}, least) > within(free, {"loss": 0.02}, least)


def test_children_add_more_to_the_front_than_as_many_random_plans() -> None:
    bred, table = Bred(table_of()), table_of()
    bred.children(40)
    assert Front.of(bred.found).volume > Front.of(Bred(table, trials=52).found).volume > 0


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_children_for_an_edge_lose_less_within_budgets_of_that_cost_alone(
    cost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("lrf_optuna.search.children.EDGED", share)
        found = []
        for seed in range(3):
            bred = Bred(table_of(MANY, seed), seed=seed)
            bred.children(60)
            budgets = np.linspace(0.2, 0.9, 15)
            found.append(
                [np.log(min(one.costs["loss"] for one in bred.found if one.costs[cost] <= b)) for b in budgets]
            )
        lost[share] = np.array(found)
    assert np.mean(lost[1.0] - lost[0.0]) < -0.1
    assert np.mean(lost[1.0] <= lost[0.0] + 1e-9) > 0.5


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_children_for_an_edge_meet_budgets_of_that_cost(cost: str, limit: float | None) -> None:
    targets = {cost: limit} if limit else {}
    bred = Bred(table_of(MANY), targets=targets)
    bred.child()
    edge = next(e for e in edges(tuple(OBJECTIVES), targets) if e.cost == cost)
    budget = bred.breeder.budgets(edge)
    assert list(budget) == [cost]
    low, high = budget[cost].min(), budget[cost].max()
    assert (0.45 < low < high <= 0.5) if limit else (low < 0.3 < 0.8 < high <= 1)
    left = bred.breeder.options.room(bred.breeder.fitted(budget, edge), budget)[cost]
    assert len(left) == DRAWN
    assert left.min() >= -1e-9
    assert np.median(left) < 0.02, "and use them"


def test_so_many_children_are_for_an_edge_and_with_limits_only_where_it_is_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrf_optuna.search.children.EDGED", 0.4)
    breeder = Bred(table_of()).breeder
    looks = [breeder.look() for _ in range(400)]
    for cost in ("params", "macs"):
        assert 0.12 < np.mean([isinstance(look, Edge) and look.cost == cost for look in looks]) < 0.28
    aimed = Bred(table_of(), targets={"params": 0.4}).breeder
    assert {look.cost for _ in range(50) if isinstance(look := aimed.look(), Edge)} == {"params"}
    both = Bred(table_of(), targets={"params": 0.4, "macs": 0.4}).breeder
    assert not any(isinstance(both.look(), Edge) for _ in range(50))
    alone = Bred(table_of(), objectives={"macs": OBJECTIVES["macs"]}).breeder
    assert all(alone.look() == alone.plain for _ in range(50))


def test_an_objective_of_ones_own_is_what_children_are_chosen_by() -> None:
    both = {"loss": OBJECTIVES["loss"], "size": lambda m: (m.params + m.macs) / sum(TOTALS.values())}
    aimed, free = (Bred(table_of(MANY), both, targets).children(40) for targets in ({"size": 0.3}, {}))
    assert within(aimed, {"size": 0.3}) > 0.7
    for least in (0.0, 0.85):
        assert within(aimed, {"size": 0.3}, least) > within(free, {"size": 0.3}, least)


@pytest.mark.parametrize("alone", ["loss", "params", "macs"])
def test_children_of_one_objective_go_where_it_is_least(alone: str) -> None:
    bred = Bred(table_of(), objectives={alone: OBJECTIVES[alone]})
    first = min(one.costs[alone] for one in bred.found)
    assert min(child.costs[alone] for child in bred.children(30)) < first


def test_what_is_expected_of_a_plan_is_its_size_and_the_loss_that_the_trials_taught() -> None:
    bred = Bred(table_of(), trials=300)
    bred.breeder.refresh()
    picked = np.array([bred.options.picked(one.plan) for one in bred.found])
    found = bred.breeder.expected(picked)
    wanted = cost_matrix(bred.found)
    assert found[:, 1:] == pytest.approx(wanted[:, 1:], abs=1e-12)
    assert np.corrcoef(found[:, 0], wanted[:, 0])[0, 1] > 0.98


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple), st.randoms(use_true_random=False))
def test_options_and_their_numbers_are_a_round_trip(counts: tuple[int, ...], dice: Any) -> None:
    options = PlanEncoding(table_of(counts), FIXED)
    numbers = tuple(dice.randrange(count) for count in counts)
    picks = options.picks(np.array(numbers))
    assert tuple(options.picked(plan_of(picks))) == numbers
    ((params, macs),) = options.shares(np.array([numbers]))
    assert params == pytest.approx(FIXED["params"] + sum(option.params for option in picks.values()))
    assert macs == pytest.approx(FIXED["macs"] + sum(option.macs for option in picks.values()))


def test_a_layer_without_a_choice_is_intact_and_a_choice_that_is_not_in_the_table_has_no_number() -> None:
    options = PlanEncoding(table_of(), FIXED)
    assert tuple(options.picked(Plan(()))) == (0,) * len(COUNTS)
    assert tuple(options.picked(Plan.of({"layer 1": Choice("svd", (2,))}))) == (0, 2, 0, 0, 0)
    assert options.picked(Plan.of({"layer 1": Choice("cp", (2,))})) is None


def test_trials_with_options_that_are_no_longer_in_the_table_are_no_parents() -> None:
    bred = Bred(table_of())
    stranger = Plan.of({"layer 0": Choice("cp", (2,))})
    bred.breeder.learn(stranger, 0.01)
    child = bred.breeder.child(np.array([12, 3]), cost_matrix(bred.found))
    assert plan_of(child) != stranger
    assert plan_of(bred.breeder.child(np.array([12]), cost_matrix(bred.found))) not in {one.plan for one in bred.found}


def test_where_no_trial_is_of_the_table_a_child_is_any_plan_of_it() -> None:
    bred = Bred(table_of(), trials=0)
    bred.breeder.learn(Plan.of({"layer 0": Choice("cp", (2,))}), 0.01)
    costs = np.array([[0.01, 0.5, 0.5]])
    for _ in range(3):
        child = bred.breeder.child(np.array([0]), costs)
        assert all(option in bred.table[site] for site, option in child.items())
        bred.breeder.learn(plan_of(child), 0.1)


def test_now_and_then_a_child_is_chosen_by_bold_hope(monkeypatch: pytest.MonkeyPatch) -> None:
    bred, hopes = Bred(table_of()), []
    expected = ChildGenerator.expected
    monkeypatch.setattr(
        ChildGenerator, "expected", lambda self, picked, hope: hopes.append(hope) or expected(self, picked)
    )
    for _ in range(300):
        bred.child()
    assert set(hopes) == {HOPE, BOLD}
    assert hopes.count(BOLD) / len(hopes) == pytest.approx(BOLDLY, abs=0.05)
