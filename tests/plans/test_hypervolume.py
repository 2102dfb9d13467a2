"""What a point would add to a front is its hypervolume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.plans.front import non_dominated
from lrf_optuna.plans.hypervolume import Attainment, grid, hypervolume, hypervolume_gain

Array = np.ndarray[Any, Any]
COSTS = st.floats(0, 1.5) | st.sampled_from([0.0, 0.2, 0.5, 1.0])


def several(dims: int, least: int, most: int) -> st.SearchStrategy[Array]:
    return st.lists(st.tuples(*[COSTS] * dims), min_size=least, max_size=most).map(np.array)


@given(st.integers(1, 4).flatmap(lambda dims: st.tuples(several(dims, 1, 12), several(dims, 1, 8))))
def test_what_points_gain_is_exactly_the_hypervolume_that_they_add(both: tuple[Array, Array]) -> None:
    front, points = both
    gains = Attainment.of(front).gains(points)
    assert gains.shape == (len(points),)
    assert gains == pytest.approx([hypervolume_gain(point, front) for point in points], abs=1e-12)


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_on_a_grid_that_is_coarser_than_the_front_gains_are_near_and_no_less(dims: int, rng: Any) -> None:
    front = rng.dirichlet(np.ones(dims), 200) * rng.uniform(1, 1.4, (200, 1))
    front, points = front[non_dominated(front)], rng.random((60, dims)) * 0.6
    found = Attainment.of(front).gains(points)
    exact = np.array([hypervolume_gain(point, front) for point in points])
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
