"""Predictors of the drop after a fine-tune are judged on networks that they were not fitted to."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from benchmarks.lib.forecasts import FEATURES, Fit, Judged, forecast_table, weighted_median
from benchmarks.lib.tables import RESULTS
from lrf_optuna.selection.forecast import FORECASTS

NETWORKS = ("one", "two", "three")


def row(network: str, built: float, tuned: float) -> dict[str, Any]:
    """A point of which only two drops say something."""
    plain = dict.fromkeys((*FEATURES.values(), "params", "macs", "test_tuned"), 0.0)
    return {**plain, "network": network, "built": built, "tuned": tuned, "steps": 9, "optimizer": "muon"}


ROWS = [row(network, built, 0.5 * built) for network in NETWORKS for built in (1.0, 2.0, 4.0)]


def test_a_planted_share_is_found_with_no_error_on_networks_that_are_left_out() -> None:
    assert Fit.of(ROWS, "built", "tuned") == Fit(0.5, 1.0)
    judged = Judged.of(ROWS, "built", "tuned", (1.0,))
    assert judged.errors == pytest.approx(np.zeros(9))
    assert judged.interval == pytest.approx((0, 0))


def test_a_network_of_many_points_counts_as_much_as_one_of_few() -> None:
    many = [row("one", 2.0, 1.8) for _ in range(20)]
    few = [row(name, 2.0, 0.2) for name in ("two", "three")]
    assert Fit.of([*many, *few], "built", "tuned", (1.0,)).factor == pytest.approx(0.1)


def test_a_network_that_is_left_out_does_not_predict_itself() -> None:
    odd = [row("odd", 2.0, 2.0), *ROWS]
    assert Judged.of(odd, "built", "tuned", (1.0,)).errors[0] == pytest.approx(1.0)


def test_the_weighted_median_has_the_least_sum_of_deviations() -> None:
    rng = np.random.default_rng(0)
    y, scale, weights = rng.uniform(0.1, 3, (3, 40))

    def deviations(factor: float) -> float:
        return float((weights * np.abs(y - factor * scale)).sum())

    best = weighted_median(y, scale, weights)
    assert deviations(best) <= min(deviations(factor) for factor in np.linspace(0, 30, 5000)) + 1e-9


def test_the_table_has_all_points_and_predictors_once_there_are_three_networks() -> None:
    text = forecast_table(ROWS, NETWORKS)
    assert text.count("| one | ") == 3
    assert "| drop as built | 0.5 x | 0.00 | 0.00 | " in text
    assert "predictor" not in forecast_table(ROWS[:3], NETWORKS)


@pytest.mark.parametrize("state", FORECASTS)
def test_the_forecast_of_a_choice_is_the_one_of_the_committed_table(state: str) -> None:
    text = (RESULTS / "after_tuning.md").read_text()
    part = text.split(f"predictor of the drop as {state}")[1]
    found = re.search(r"\| drop as built \| ([\d.]+) x \| [\d.]+ \| [\d.]+ \| (\S+) to (\S+) \|", part)
    assert found
    wanted = FORECASTS[state]
    assert [wanted.share, wanted.low, wanted.high] == pytest.approx([float(one) for one in found.groups()], abs=0.051)
