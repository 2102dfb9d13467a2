"""What of a front is looked at: near limits most closely, or the loss and one cost alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.plans.hypervolume import Attainment
from lrf_optuna.search.interest import FINE, ZONE, Interest, edges, looks, stretched

LIMITS = st.floats(0.01, 0.99)


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


def test_a_front_has_an_edge_with_the_parameters_and_one_with_the_macs() -> None:
    both = edges(("macs", "loss", "size", "params"), {})
    assert [(edge.cost, edge.loss, edge.other) for edge in both] == [("params", 1, 3), ("macs", 1, 0)]
    assert [edge.cost for edge in edges(("loss", "macs"), {})] == ["macs"]
    assert not edges(("params", "macs"), {})
    assert not edges(("loss", "size"), {})


def test_what_is_looked_at_follows_from_the_limits() -> None:
    names = ("loss", "params", "macs")
    assert looks(names, {}) == edges(names, {})
    assert looks(names, {"macs": 0.4}) == (Interest((None, None, 0.4)), *edges(names, {"macs": 0.4}))
    assert [(edge.cost, edge.limit) for edge in edges(names, {"macs": 0.4})] == [("macs", 0.4)]
    for limits in ({"loss": 0.1}, {"params": 0.5, "macs": 0.4}, {"params": 0.5, "loss": 0.1}):
        assert looks(names, limits) == (Interest.of(names, limits),)


def test_an_edge_with_a_limit_looks_at_what_is_near_it() -> None:
    free, near = (edges(("loss", "params"), limits)[0] for limits in ({}, {"params": 0.5}))
    costs = np.array([[0.1, 0.2], [0.2, 0.49], [0.3, 0.9]])
    assert np.array_equal(free(costs)[:, 0], near(costs)[:, 0])
    assert np.array_equal(near(costs)[:, 1], stretched(costs[:, 1], 0.5))


@given(st.lists(st.floats(0, 1.5), min_size=2, max_size=20), st.floats(0, 1))
def test_an_edge_sees_the_cost_as_it_is_and_losses_in_their_order(losses: list[float], params: float) -> None:
    edge = edges(("loss", "params", "macs"), {})[0]
    costs = np.column_stack([np.sort(losses), np.full(len(losses), params), np.linspace(0, 2, len(losses))])
    found = edge(costs)
    assert found.shape == (len(losses), 2)
    assert np.all(found[:, 1] == params)
    assert np.all(np.diff(found[:, 0]) >= 0)
    assert edge(np.array([[0.0, 1, 1], [1, 1, 1]]))[:, 0] == pytest.approx([0, 1])


def test_at_an_edge_equal_ratios_of_losses_count_the_same_whatever_the_macs() -> None:
    edge = edges(("loss", "params", "macs"), {})[0]
    front = np.array([[most, 0.5, 0.2] for most in (1e-2, 1e-1)])
    points = np.array([[0.8 * most, 0.5, 0.99] for most in (1e-2, 1e-1)])
    gains = [Attainment.of(edge(front[i : i + 1])).gains(edge(points[i : i + 1]))[0] for i in range(2)]
    assert gains[0] == pytest.approx(gains[1], rel=0.05)
    assert min(gains) > 0
    small = [
        Attainment.of(edge(np.array([[FINE * a, 0.5, 1]]))).gains(edge(np.array([[FINE * b, 0.5, 1]])))[0]
        for a, b in ((0.01, 0.008), (100, 80))
    ]
    assert small[0] < 0.05 * small[1], "what is next to nothing is no matter of ratios"
