"""The front is what nothing beats, and its volume, kept point by point, is that of all points at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.points import CANDIDATES, candidate, rows

from lrf_optuna.plans.front import Front, budget_cost, budget_points, cost_matrix, pareto_front, size
from lrf_optuna.plans.hypervolume import hypervolume
from lrf_optuna.plans.plan import Candidate, Choice, Plan

Array = np.ndarray[Any, Any]


def candidates(points: Array) -> list[Candidate]:
    return [Candidate(i, Plan.of({"a": Choice("svd", (i + 1,))}), numbered(row)) for i, row in enumerate(points)]


def numbered(row: Array) -> dict[str, float]:
    return {f"cost {k}": float(value) for k, value in enumerate(row)}


@given(rows())
def test_the_volume_that_is_kept_point_by_point_is_the_volume_of_all(points: Array) -> None:
    kept, volume = Front(), 0.0
    for i, one in enumerate(candidates(points), start=1):
        before = [id(point) for point in kept.points]
        taken = kept.add(one)
        assert taken == (one in kept.points)
        assert taken or before == [id(point) for point in kept.points]
        assert kept.volume >= volume - 1e-12, "it never falls"
        volume = kept.volume
        assert volume == pytest.approx(hypervolume(points[:i]), abs=1e-9)
    assert len(kept) == len(kept.points) == len(Front.of(candidates(points)))


@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_adding_changes_neither_the_costs_on_the_front_nor_its_volume(points: Array, dice: Any) -> None:
    found = candidates(points)
    mixed = dice.sample(found, len(found))
    one, other = Front.of(found), Front.of(mixed)
    assert sorted(cost_matrix(one.points).tolist()) == sorted(cost_matrix(other.points).tolist())
    assert one.volume == pytest.approx(other.volume, abs=1e-9)


@given(rows())
def test_undominated_rows_are_those_of_the_front(points: Array) -> None:
    kept = pareto_front(candidates(points))
    assert len({point.trial for point in kept}) == len(kept)
    assert {point.trial for point in kept} == {point.trial for point in Front.of(candidates(points)).points}


def beats(a: Candidate, b: Candidate) -> bool:
    x, y = list(a.costs.values()), list(b.costs.values())
    return x != y and all(p <= q for p, q in zip(x, y, strict=True))


@given(CANDIDATES)
def test_the_front_is_what_nothing_beats(found: list[Candidate]) -> None:
    wanted = {tuple(c.costs.values()) for c in found if not any(beats(other, c) for other in found)}
    points = pareto_front(found)
    assert sorted(tuple(c.costs.values()) for c in points) == sorted(wanted)
    assert all(point in found for point in points)
    sizes = [point.costs["params"] + point.costs["macs"] for point in points]
    assert sizes == pytest.approx(sorted(sizes))


def test_a_plan_stands_on_the_front_once_as_its_first_trial() -> None:
    plan = Plan.of({"a": Choice("svd", (1,))})
    twice = [Candidate(i, plan, {"loss": 0.1, "params": 0.5}) for i in (3, 7)]
    assert pareto_front(twice) == twice[:1]
    assert pareto_front([]) == []


def test_an_empty_front_has_no_volume_and_a_size_is_that_of_parameters_and_macs() -> None:
    assert (len(Front()), Front().volume, hypervolume(np.empty((0, 3)))) == (0, 0.0, 0.0)
    assert size(Candidate(0, Plan(()), {"loss": 0.9, "params": 0.2, "macs": 0.6})) == pytest.approx(0.4)
    assert size(Candidate(0, Plan(()), {"loss": 0.9})) == 0


def test_a_round_budget_has_the_point_with_the_least_loss_within_it_once_at_the_smallest() -> None:
    points = [candidate(0, 0.5, 0.08), candidate(1, 0.2, 0.31), candidate(2, 0.1, 0.33), candidate(3, 0.0, 1.0)]
    assert {budget: point.trial for budget, point in budget_points(points, "params").items()} == {0.1: 0, 0.4: 2}
    assert budget_points([], "params") == {}


@given(CANDIDATES)
def test_round_budgets_hold_and_nothing_within_one_is_better(found: list[Candidate]) -> None:
    points = pareto_front(found)
    for budget, point in budget_points(points, "params").items():
        assert point.costs["params"] <= budget
        within = [other for other in points if other.costs["params"] <= budget]
        assert point.costs["loss"] == min(other.costs["loss"] for other in within)


def test_budgets_are_of_what_a_target_limits_else_of_parameters_else_of_another_size() -> None:
    points = [candidate(0, 0.5, 0.5, 0.5)]
    assert budget_cost(points) == "params"
    assert budget_cost(points, ["macs"]) == "macs"
    assert budget_cost(points, ["latency"]) == "params", "a cost that the study does not have"
    assert budget_cost([Candidate(0, points[0].plan, {"loss": 0.1, "latency": 0.5})]) == "latency"
    assert budget_cost([]) == ""
