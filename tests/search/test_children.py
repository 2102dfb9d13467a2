"""A child is a new plan of the table's options, chosen for what it should add, and equal for equal seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import OBJECTIVES, made_up_table

from lrf_optuna.plans.front import Front
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.scoring.option_table import OptionIndices, OptionTable
from lrf_optuna.search.children import ChildGenerator, ChildSettings, Observations

Array = np.ndarray[Any, Any]
SMALL, LARGE = (7, 4, 9, 5, 6), (12,) * 10


class ToySearch:
    """Children on a made-up network whose loss is the table's own with planted layer weights."""

    def __init__(
        self,
        table: OptionTable,
        objectives: Sequence[str] = OBJECTIVES,
        limits: Mapping[str, float] | None = None,
        seed: int = 0,
        trials: int = 12,
        settings: ChildSettings | None = None,
    ) -> None:
        self.table, self.objectives = table, tuple(objectives)
        self.generator = ChildGenerator(table, objectives, limits or {}, seed, settings)
        self.weights = np.linspace(0.5, 2, len(table))
        self.plans: list[OptionIndices] = []
        self.front, self.candidates = Front(), list[Candidate]()
        for plan in np.random.default_rng(1).integers(0, table.counts, (trials, len(table))):
            self.score(plan)

    def costs(self, plan: OptionIndices) -> dict[str, float]:
        loss = float(self.table.losses[np.arange(len(plan)), plan] @ self.weights)
        return dict(zip(OBJECTIVES, (min(loss, 1.0), *map(float, self.table.shares(plan))), strict=True))

    def score(self, plan: OptionIndices) -> Candidate:
        costs = self.costs(plan)
        self.plans.append(plan)
        self.generator.observations.add(plan, costs["loss"])
        values = {name: costs.get(name, 0.0) for name in self.objectives}
        self.candidates.append(Candidate(len(self.candidates), self.table.decode(plan), values))
        self.front.add(self.candidates[-1])
        return self.candidates[-1]

    def child(self) -> OptionIndices:
        return self.generator.child(np.array([self.plans[p.trial] for p in self.front.points]), self.front.costs)

    def children(self, count: int) -> list[Candidate]:
        return [self.score(self.child()) for _ in range(count)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple), st.integers(0, 5))
def test_a_child_is_of_the_tables_options_and_new_while_a_plan_is_left(counts: tuple[int, ...], seed: int) -> None:
    search = ToySearch(made_up_table(counts), seed=seed, trials=1)
    for _ in range(8):
        scored = {plan.tobytes() for plan in search.plans}
        child = search.child()
        assert child.shape == (len(counts),)
        assert np.all((child >= 0) & (child < search.table.counts))
        assert child.tobytes() not in scored or len(scored) == np.prod(counts)
        search.score(child)


@pytest.mark.parametrize("counts", [(1,), (2,), (2, 2), (1, 3, 1), (9, 9), (60,)])
def test_every_plan_of_a_small_space_is_found_before_one_comes_again(counts: tuple[int, ...]) -> None:
    search, space = ToySearch(made_up_table(counts), trials=1), int(np.prod(counts))
    search.children(space - 1)
    assert len({plan.tobytes() for plan in search.plans}) == space
    assert len(search.children(3)) == 3


def test_every_child_of_a_large_space_is_new() -> None:
    search = ToySearch(made_up_table(SMALL))
    search.children(60)
    assert len({plan.tobytes() for plan in search.plans}) == 72


def test_equal_seeds_give_equal_children_and_other_seeds_others() -> None:
    first, again, other = ([c.plan for c in ToySearch(made_up_table(SMALL), seed=s).children(15)] for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_expected_parameters_and_macs_of_children_are_exact() -> None:
    search = ToySearch(made_up_table(SMALL))
    search.child()
    plans = search.generator.draw(np.array(search.plans))
    expected = search.generator.expected_costs(plans)
    wanted = np.array([[search.costs(plan)[cost] for cost in ("params", "macs")] for plan in plans])
    assert expected[:, 1:] == pytest.approx(wanted, abs=1e-12)


def test_the_expected_losses_of_children_are_near_the_scored_ones() -> None:
    search = ToySearch(made_up_table(LARGE), trials=300)
    search.child()
    plans = search.generator.draw(np.array(search.plans))
    losses = np.array([search.costs(plan)["loss"] for plan in plans])
    assert np.corrcoef(search.generator.expected_costs(plans)[:, 0], losses)[0, 1] > 0.95


@pytest.mark.parametrize("sizes", [("latency",), ("params", "latency"), ("params", "macs", "latency")])
def test_random_mixes_are_weights_with_the_sum_one(sizes: tuple[str, ...]) -> None:
    table = replace(made_up_table(SMALL, timed=True), sizes=sizes)
    mixes = ChildGenerator(table, ("loss", *sizes), {}, 0).random_mixes(200)
    assert mixes.shape == (200, len(sizes))
    assert mixes.sum(axis=1) == pytest.approx(1)
    assert mixes.min() >= 0
    assert mixes.mean(axis=0) == pytest.approx(1 / len(sizes), abs=0.1)


def test_the_expected_milliseconds_of_children_are_exact_and_limits_of_them_are_kept() -> None:
    table, objectives = made_up_table(LARGE, timed=True), ("latency", "loss")
    plans = np.random.default_rng(1).integers(0, table.counts, (40, len(table)))
    most = float(np.median(table.share(plans, "latency")))
    generator = ChildGenerator(table, objectives, {"latency": most}, 0)
    for plan, loss in zip(plans, table.total(plans, "losses"), strict=True):
        generator.observations.add(plan, float(loss))
    generator.refit()
    costs = generator.expected_costs(plans)
    assert costs[:, 0] == pytest.approx(table.share(plans, "latency"))
    inside = [tuple(row) for row in costs if row[0] <= most]
    best = generator.best_within_limits(costs)
    assert best is not None
    assert costs[best, 1] == min(loss for _, loss in inside)


def test_a_cost_that_cannot_be_predicted_counts_as_zero() -> None:
    search = ToySearch(made_up_table(SMALL), objectives=("latency", "loss", "params"))
    search.children(5)
    expected = search.generator.expected_costs(np.array(search.plans))
    assert np.all(expected[:, 0] == 0)
    assert expected[:, 2] == pytest.approx([search.costs(plan)["params"] for plan in search.plans])


def share_within(candidates: list[Candidate], limits: Mapping[str, float], least: float = 0.0) -> float:
    """The share of candidates within all limits, with at least a share of one of them used."""
    used = [max(one.costs[cost] / most for cost, most in limits.items()) for one in candidates]
    return float(np.mean([least <= share <= 1 for share in used]))


@pytest.mark.parametrize("limits", [{"params": 0.4}, {"params": 0.5, "macs": 0.35}])
def test_with_limits_most_children_are_within_them_and_more_are_close_to_them(limits: dict[str, float]) -> None:
    limited, free = (ToySearch(made_up_table(LARGE), limits=some).children(40) for some in (limits, {}))
    assert share_within(limited, limits) > 0.5
    assert share_within(limited, limits) > share_within(free, limits)
    assert share_within(limited, limits, 0.85) > share_within(free, limits, 0.85)


def test_a_limit_of_the_loss_draws_children_as_well() -> None:
    limited, free = (ToySearch(made_up_table(LARGE), limits=some).children(40) for some in ({"loss": 0.02}, {}))
    assert share_within(limited, {"loss": 0.02}) > share_within(free, {"loss": 0.02})


def test_the_best_within_limits_has_the_least_loss_of_those_inside() -> None:
    costs = np.array([[0.10, 0.5, 0.5], [0.02, 0.6, 0.5], [0.03, 0.5, 0.4], [0.05, 0.4, 0.3]])
    table = made_up_table((3, 3))
    both = ChildGenerator(table, OBJECTIVES, {"params": 0.5, "macs": 0.5}, 0)
    assert both.best_within_limits(costs) == 2
    assert ChildGenerator(table, OBJECTIVES, {"params": 0.3}, 0).best_within_limits(costs) is None


def test_where_the_loss_alone_has_a_limit_the_best_within_it_is_the_smallest() -> None:
    costs = np.array([[0.02, 0.6, 0.5], [0.03, 0.5, 0.4], [0.05, 0.1, 0.1]])
    assert ChildGenerator(made_up_table((3, 3)), OBJECTIVES, {"loss": 0.04}, 0).best_within_limits(costs) == 1


def test_without_a_loss_the_best_within_limits_is_the_smallest() -> None:
    generator = ChildGenerator(made_up_table((3, 3)), ("params", "macs"), {"params": 0.5}, 0)
    assert generator.best_within_limits(np.array([[0.4, 0.4], [0.5, 0.3], [0.6, 0.2]])) == 1
    generator = ChildGenerator(made_up_table((3, 3)), ("params", "macs"), {"params": 0.5, "macs": 0.5}, 0)
    assert generator.best_within_limits(np.array([[0.4, 0.4], [0.5, 0.2], [0.6, 0.2]])) == 1


def test_a_cost_without_a_limit_does_not_decide_where_the_loss_can() -> None:
    costs = np.array([[0.10, 0.4, 0.1], [0.02, 0.5, 0.9]])
    assert ChildGenerator(made_up_table((3, 3)), OBJECTIVES, {"params": 0.5}, 0).best_within_limits(costs) == 1


def test_where_every_cost_has_a_limit_the_best_within_them_has_the_least_loss() -> None:
    costs = np.array([[0.10, 0.1, 0.1], [0.05, 0.4, 0.3]])
    limits = {"loss": 0.2, "params": 0.5, "macs": 0.5}
    for order in (OBJECTIVES, OBJECTIVES[::-1]):
        columns = costs[:, [OBJECTIVES.index(name) for name in order]]
        assert ChildGenerator(made_up_table((3, 3)), order, limits, 0).best_within_limits(columns) == 1


def test_where_the_limits_never_decide_the_largest_gain_of_hypervolume_does() -> None:
    generator = ChildGenerator(made_up_table((3, 3)), OBJECTIVES, {}, 0)
    costs = np.array([[0.5, 0.5, 0.5], [0.1, 0.3, 0.3], [0.2, 0.3, 0.3]])
    assert generator.choose(costs, np.array([[0.4, 0.4, 0.4]])) == 1


def test_children_add_more_to_the_front_than_as_many_random_plans() -> None:
    search = ToySearch(made_up_table(SMALL))
    search.children(40)
    assert search.front.volume > ToySearch(made_up_table(SMALL), trials=52).front.volume > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_children_of_one_objective_go_where_it_is_least(objective: str) -> None:
    search = ToySearch(made_up_table(SMALL), objectives=(objective,))
    first = min(one.costs[objective] for one in search.candidates)
    assert min(child.costs[objective] for child in search.children(30)) < first


def test_a_mutation_changes_at_least_one_layer_and_few_of_them() -> None:
    search = ToySearch(made_up_table(LARGE))
    search.child()
    parent = np.array([search.plans[0]])
    children = search.generator.mutate(parent)
    changed = (children != parent).sum(axis=1)
    assert changed.min() >= 1
    assert changed.max() <= 1 + search.generator.settings.moves


def test_settings_say_how_many_children_are_drawn() -> None:
    settings = ChildSettings(drawn=7)
    search = ToySearch(made_up_table(LARGE), settings=settings)
    search.child()
    assert len(search.generator.draw(np.array(search.plans))) == 7 + 1


def test_observations_keep_each_plan_once_in_the_order_in_which_they_came() -> None:
    table = made_up_table((3, 3))
    observations = Observations(table)
    for plan in ([1, 2], [0, 0], [1, 2]):
        observations.add(np.array(plan), 0.1)
    assert observations.plans.tolist() == [[1, 2], [0, 0]]
    assert observations.unscored(np.array([[0, 0], [2, 2], [2, 2]])).tolist() == [[2, 2]]
