"""The front is what nothing beats, and its volume, kept point by point, is that of all points at once."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from support.points import CANDIDATES

from lrf_optuna.plans.front import Front, cost_matrix, non_dominated, pareto_front, size
from lrf_optuna.plans.hypervolume import hypervolume, hypervolume_gain
from lrf_optuna.plans.plan import Candidate, Choice, Plan

Array = np.ndarray[Any, Any]
COSTS = st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.6, 0.85, 1.0, 1.3])
"""Few values, so that many are equal; some at the original's and beyond."""


def rows(most: int = 14) -> st.SearchStrategy[Array]:
    """Points `(n, costs)` of 1 to 4 costs."""
    return st.integers(1, 4).flatmap(
        lambda dims: st.lists(st.tuples(*[COSTS] * dims), min_size=1, max_size=most).map(np.array)
    )


def candidates(points: Array) -> list[Candidate]:
    return [Candidate(i, Plan.of({"a": Choice("svd", (i + 1,))}), numbered(row)) for i, row in enumerate(points)]


def numbered(row: Array) -> dict[str, float]:
    return {f"cost {k}": float(value) for k, value in enumerate(row)}


def optunas(points: Array) -> float:
    """Optuna's volume of the same points; it takes none beyond the reference."""
    inside = points[np.all(points <= 1, axis=1)]
    return float(compute_hypervolume(inside, np.ones(points.shape[1]))) if len(inside) else 0.0


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_the_hypervolume_of_a_point_is_its_box_however_often_it_is_there(dims: int) -> None:
    point = np.linspace(0.2, 0.7, dims)
    for points in (point[None], np.stack([point, point]), np.stack([point + 0.1, point, point + 0.2])):
        assert hypervolume(points) == pytest.approx(np.prod(1 - point))
    assert hypervolume(np.zeros((1, dims))) == 1


def test_the_hypervolume_of_a_staircase_is_the_sum_of_its_steps(rng: Any) -> None:
    x, y = np.sort(rng.random(9)), np.sort(rng.random(9))[::-1]
    steps = sum((end - start) * (1 - height) for (start, end), height in zip(pairwise([*x, 1]), y, strict=True))
    stairs = rng.permutation(np.stack([x, y], axis=1))
    assert hypervolume(stairs) == pytest.approx(steps)
    raised = np.column_stack([stairs, np.full(9, 0.3)])
    assert hypervolume(raised) == pytest.approx(0.7 * steps)


@pytest.mark.parametrize("dims", [3, 4])
def test_the_hypervolume_above_a_plane_of_points_is_the_sum_of_its_cubes(dims: int) -> None:
    n = 4  # the cells i / n with sum(i) >= n - 1 are above a point of the plane sum(i) = n - 1
    cells = np.array(list(product(range(n), repeat=dims)))
    points = cells[cells.sum(axis=1) == n - 1] / n
    assert hypervolume(points) == pytest.approx(np.sum(cells.sum(axis=1) >= n - 1) / n**dims)


@given(rows())
def test_the_hypervolume_is_the_one_of_optuna(points: Array) -> None:
    assert hypervolume(points) == pytest.approx(optunas(points), abs=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_the_hypervolume_of_many_random_points_is_the_one_of_optuna(dims: int, rng: Any) -> None:
    points = rng.uniform(0, 1.1, (40, dims))
    assert hypervolume(points) == pytest.approx(optunas(points), rel=1e-9)


@given(rows())
def test_points_that_reach_the_original_in_a_cost_add_nothing(points: Array) -> None:
    for cost, at in product(range(points.shape[1]), (1.0, 1.5)):
        worse = points.copy()
        worse[:, cost] = at
        assert hypervolume(worse) == 0
        assert hypervolume(np.vstack([points, worse])) == pytest.approx(hypervolume(points), abs=1e-12)
        assert all(hypervolume_gain(row, points) == 0 for row in worse)


@given(rows())
def test_what_a_point_adds_is_the_volume_with_it_less_the_volume_without(points: Array) -> None:
    point, others = points[0], points[1:] if len(points) > 1 else points
    both = hypervolume(np.vstack([others, point]))
    assert hypervolume_gain(point, others) == pytest.approx(both - hypervolume(others), abs=1e-12)


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
    kept = non_dominated(points)
    assert len(set(kept.tolist())) == len(kept)
    assert sorted(points[kept].tolist()) == sorted(cost_matrix(Front.of(candidates(points)).points).tolist())


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
