"""The hypervolume agrees with closed forms and with Optuna, and what a point would add is the volume it adds."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from optuna._hypervolume import compute_hypervolume
from support.points import rows

from lrf_optuna.plans.hypervolume import dominated_by, hypervolume, hypervolume_gains

Array = np.ndarray[Any, Any]


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
        assert not hypervolume_gains(points, worse).any()


@given(rows())
def test_what_a_point_adds_is_the_volume_with_it_less_the_volume_without(points: Array) -> None:
    point, others = points[0], points[1:] if len(points) > 1 else points
    both = hypervolume(np.vstack([others, point]))
    assert hypervolume_gains(others, point[None]) == pytest.approx([both - hypervolume(others)], abs=1e-12)


@given(rows())
def test_the_front_itself_gains_nothing_and_a_perfect_network_all_that_is_left(front: Array) -> None:
    assert not hypervolume_gains(front, front).any()
    (most,) = hypervolume_gains(front, np.zeros((1, front.shape[1])))
    assert most == pytest.approx(1 - hypervolume(front), abs=1e-12)


def test_a_corner_between_two_points_gains_its_box() -> None:
    front = np.array([[0.2, 0.8], [0.8, 0.2]])
    gains = hypervolume_gains(front, np.array([[0.6, 0.6], [0.8, 0.8], [0.1, 1.0], [0.2, 0.7]]))
    assert gains == pytest.approx([0.2 * 0.2, 0, 0, 0.6 * 0.1])


def test_every_row_is_dominated_by_the_front_and_by_an_equal_row() -> None:
    costs = np.array([[0.5, 0.5], [0.1, 0.9], [0.5, 0.5], [0.6, 0.5]])
    assert dominated_by(costs[:2], costs).all()
    assert dominated_by(costs[:1], costs).tolist() == [True, False, True, True]
    assert not dominated_by(costs[:0], costs).any()
