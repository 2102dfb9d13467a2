"""Three points of a front have names: each is the smallest within its limit, and each is another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.points import CANDIDATES, candidate

from lrf_optuna.plans.front import pareto_front, size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.selection.forecast import FORECASTS, Forecast
from lrf_optuna.selection.named_points import DropLimits, named_points

FRONT = [candidate(i, 0.01 * i, 1 - 0.1 * i) for i in range(10)]
"""Ten points, the larger the loss, the smaller the network."""
DROPS = {i: 0.2 * i * i for i in range(10)}
LIMITS, TUNED = DropLimits(), FORECASTS["tuned"]


def test_each_name_is_the_smallest_point_within_its_limit() -> None:
    found = named_points(FRONT, DROPS)
    assert list(found) == ["safe", "balanced", "small"]
    assert [one.point.trial for one in found.values()] == [1, 2, 3]
    assert [one.drop for one in found.values()] == pytest.approx([0.2, 0.8, 1.8])
    assert all(one.measured and one.predicted is None for one in found.values())


def test_before_a_fine_tune_the_limits_are_of_the_predicted_drop() -> None:
    untuned, tuned = (named_points(FRONT, DROPS, forecast=one) for one in (None, TUNED))
    for name, one in tuned.items():
        assert one.predicted == TUNED.after(one.drop)
        assert one.predicted.drop <= getattr(LIMITS, name)
        assert size(one.point) <= size(untuned[name].point)


def test_where_one_point_is_within_two_limits_the_larger_name_takes_the_next_one() -> None:
    found = named_points(FRONT, {0: 0.0, 1: 0.1, 2: 0.2, 3: 2.0, 4: 9.0})
    assert [one.point.trial for one in found.values()] == [1, 2, 3]
    assert [one.point.trial for one in named_points(FRONT[:3], dict.fromkeys(range(3), 0.0)).values()] == [
        1,
        2,
    ], "nothing smaller than balanced is there to be small"


def test_a_drop_that_was_not_measured_lies_between_those_of_its_neighbors() -> None:
    found = named_points(FRONT, {0: 0.0, 4: 4.0})
    assert [(one.point.trial, one.measured) for one in found.values()] == [(0, True), (1, False), (3, False)]
    assert found["small"].drop == pytest.approx(3.0)


def test_nothing_has_a_name_where_no_drop_is_known_or_every_drop_is_large() -> None:
    assert named_points(FRONT, {}, forecast=TUNED) == {}
    assert named_points([], {}) == {}
    assert named_points(FRONT, dict.fromkeys(range(10), 50.0)) == {}


def test_the_unchanged_network_has_no_name() -> None:
    whole = Candidate(0, Plan(()), {"loss": 0.0, "params": 1.0})
    assert named_points([whole], {0: 0.0}) == {}


def test_without_a_loss_only_measured_points_have_names() -> None:
    points = [Candidate(i, one.plan, {"params": one.costs["params"]}) for i, one in enumerate(FRONT)]
    found = named_points(points, {1: 0.1, 2: 0.5})
    assert {name: one.point.trial for name, one in found.items()} == {"safe": 1, "balanced": 2}


@given(CANDIDATES, st.randoms(use_true_random=False), st.sampled_from([None, *FORECASTS.values()]))
def test_names_are_of_different_points_in_the_order_of_their_sizes(
    found: list, dice: object, forecast: Forecast | None
) -> None:
    points = pareto_front(found)
    drops = {point.trial: dice.uniform(-1, 12) for point in points if dice.random() < 0.5}  # type: ignore[attr-defined]
    named = named_points(points, drops, forecast=forecast)
    sizes = [size(one.point) for one in named.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert len({one.point.plan for one in named.values()}) == len(named)
    for name, one in named.items():
        predicted = one.predicted.drop if one.predicted else one.drop
        assert predicted <= getattr(LIMITS, name) + 1e-9
