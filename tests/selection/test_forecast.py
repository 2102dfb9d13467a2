"""The drop after a fine-tune follows from the drop before it, and grows with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.points import candidate

from lrf_optuna.selection.forecast import FORECASTS, Forecast, drops_by_loss, forecast_of

DROPS = st.floats(0, 60)
EACH = st.sampled_from(list(FORECASTS.values()))


@given(EACH, DROPS)
def test_a_prediction_lies_within_its_interval(forecast: Forecast, before: float) -> None:
    found = forecast.after(before)
    assert found.low <= found.drop <= found.high


@given(EACH, DROPS, DROPS)
def test_a_larger_drop_before_is_not_predicted_to_be_a_smaller_one_after(f: Forecast, one: float, other: float) -> None:
    assert f.after(min(one, other)).drop <= f.after(max(one, other)).drop


@given(EACH, st.floats(0.05, 20))
def test_the_largest_drop_before_is_just_predicted_to_be_within_the_limit(forecast: Forecast, most: float) -> None:
    before = forecast.most_before(most)
    assert forecast.after(before).drop == pytest.approx(most)


def test_drops_between_known_ones_follow_the_loss_and_never_fall() -> None:
    points = [candidate(i, 0.1 * i, 1.0) for i in range(7)]
    found = drops_by_loss(points, {1: 1.0, 3: 0.0, 5: 4.0})
    assert found == pytest.approx({0: 0.0, 1: 1.0, 2: 1.0, 3: 0.0, 4: 2.5, 5: 4.0, 6: 4.8})
    assert drops_by_loss(points, {}) == {}


def test_a_forecast_is_less_certain_on_fewer_images() -> None:
    forecast = FORECASTS["tuned"]
    widths = [after.high - after.low for after in (forecast.on(n).after(1.0) for n in (10_000, 5000, 500, 100))]
    assert widths[0] == widths[1] < widths[2] < widths[3]
    assert forecast.on(100).after(1.0).drop == forecast.after(1.0).drop


def test_nothing_is_predicted_of_the_built_network_and_an_unknown_number_of_images_is_that_of_the_benchmark() -> None:
    assert forecast_of("built", 100) is None
    assert forecast_of("tuned", 0) == FORECASTS["tuned"]
    assert forecast_of("tuned", 100) == FORECASTS["tuned"].on(100)
