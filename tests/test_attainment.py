"""What a point would add to a front is its hypervolume, and counts most where it is just within the limits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.attainment import ZONE, Attainment, Interest, grid, stretched
from lrf_optuna.pareto import added, hypervolume, undominated

Array = np.ndarray[Any, Any]
LIMITS = st.floats(0.01, 0.99)
COSTS = st.floats(0, 1.5) | st.sampled_from([0.0, 0.2, 0.5, 1.0])


def several(dims: int, least: int, most: int) -> st.SearchStrategy[Array]:
    return st.lists(st.tuples(*[COSTS] * dims), min_size=least, max_size=most).map(np.array)


@given(st.integers(1, 4).flatmap(lambda dims: st.tuples(several(dims, 1, 12), several(dims, 1, 8))))
def test_what_points_gain_is_exactly_the_hypervolume_that_they_add(both: tuple[Array, Array]) -> None:
    front, points = both
    gains = Attainment.of(front).gains(points)
    assert gains.shape == (len(points),)
    assert gains == pytest.approx([added(point, front) for point in points], abs=1e-12)


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_on_a_grid_that_is_coarser_than_the_front_gains_are_near_and_no_less(dims: int, rng: Any) -> None:
    front = rng.dirichlet(np.ones(dims), 200) * rng.uniform(1, 1.4, (200, 1))
    front, points = front[undominated(front)], rng.random((60, dims)) * 0.6
    found = Attainment.of(front).gains(points)
    exact = np.array([added(point, front) for point in points])
    assert np.all(found >= exact - 1e-12)
    assert np.corrcoef(found, exact)[0, 1] > 0.98


@given(st.integers(1, 4).flatmap(lambda dims: several(dims, 1, 12)))
def test_the_front_itself_gains_nothing_and_a_perfect_network_all_that_is_left(front: Array) -> None:
    attained = Attainment.of(front)
    assert attained.gains(front) == pytest.approx(np.zeros(len(front)), abs=1e-12)
    (most,) = attained.gains(np.zeros((1, front.shape[1])))
    assert most == pytest.approx(1 - hypervolume(front), abs=1e-12)


@given(st.lists(COSTS, min_size=1, max_size=50).map(np.array), st.integers(3, 20))
def test_lines_of_a_grid_are_the_values_themselves_below_one_and_few(values: Array, most: int) -> None:
    lines = grid(values, most)
    assert lines[0] == 0
    assert 1 <= len(lines) <= most
    assert np.all(np.diff(lines) > 0)
    assert set(lines) <= {0.0, *values[values < 1]}
    if len(values) < most:
        assert set(lines) == {0.0, *values[values < 1]}


@given(LIMITS, st.lists(st.floats(0, 2), min_size=2, max_size=30))
def test_stretched_costs_keep_their_order_and_0_and_1(limit: float, values: list[float]) -> None:
    assert stretched(np.array([0.0, 1.0]), limit) == pytest.approx([0, 1], abs=1e-12)
    found = stretched(np.sort(values), limit)
    assert np.all(np.diff(found) >= -1e-12)
    apart = np.diff(np.sort(values)) > 1e-6
    assert np.all(np.diff(found)[apart] > 0)


@given(LIMITS)
def test_stretched_costs_are_steepest_just_below_the_limit(limit: float) -> None:
    edges = np.array([0, ZONE * limit, limit, 1])
    slopes = np.diff(stretched(edges, limit)) / np.diff(edges)
    below, within, beyond = slopes
    assert within > 5 * below > 5 * beyond > 0
    assert within > 1


@given(st.lists(st.floats(0, 2), min_size=1), st.sampled_from([None, 0.0, 1.0, 1.5]))
def test_without_a_limit_below_one_costs_stay_as_they_are(values: list[float], limit: float | None) -> None:
    assert stretched(np.array(values), limit).tolist() == values


def test_the_interest_is_in_the_order_of_the_objectives() -> None:
    interest = Interest.of(("loss", "params", "macs"), {"macs": 0.4, "size": 0.1})
    assert interest.limits == (None, None, 0.4)
    assert interest.aims
    assert not Interest.of(("loss", "params"), {"macs": 0.4}).aims
    costs = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    found = interest(costs)
    assert np.array_equal(found[:, :2], costs[:, :2])
    assert np.array_equal(found[:, 2], stretched(costs[:, 2], 0.4))


@given(st.floats(0.2, 0.8), st.floats(0.02, 0.1), st.floats(0.05, 0.9))
def test_a_point_within_the_limit_gains_more_than_one_of_equal_volume_outside(
    limit: float, step: float, loss: float
) -> None:
    inside, outside = limit * (1 - step), limit + (1 - limit) * step
    volume = (1 - loss) * (1 - outside)
    points = np.array([[1 - volume / (1 - inside), inside], [loss, outside]])
    front = np.ones((1, 2))
    plain = Attainment.of(front).gains(points)
    assert plain[0] == pytest.approx(plain[1]), "of equal volume"
    interest = Interest((None, limit))
    within, beyond = Attainment.of(interest(front)).gains(interest(points))
    assert within > beyond


def test_steps_towards_the_limit_gain_more_than_steps_on_either_side() -> None:
    interest, at = Interest((None, 0.5)), np.linspace(0.05, 0.95, 19)
    points = interest(np.column_stack([np.full(19, 0.2), at]))
    gains = [Attainment.of(points[i : i + 1]).gains(points[i - 1 : i])[0] for i in range(1, 19)]
    best = int(np.argmax(gains))
    assert at[best : best + 2] == pytest.approx([0.45, 0.5])
    assert all(a <= b + 1e-12 for a, b in pairwise(gains[: best + 1]))
