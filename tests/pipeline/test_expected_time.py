"""How long a run takes is told from one measured pass: only phases that are asked for, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lrf_optuna.config import StudySpec
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.pipeline.expected_time import (
    SLOWEST,
    PhaseCosts,
    expected_seconds,
    pass_seconds,
    passes_text,
    seconds_after,
    training_seconds,
)
from lrf_optuna.pipeline.stopwatch import PHASES, Stopwatch

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data
    from lrf_optuna.scoring.proxy import Proxy

SPEC = StudySpec(name="a", model=ModelSpec(path="zoo:digits_cnn"), data=DataSpec(path="digits"))


def test_only_phases_that_are_asked_for_are_expected(proxy: Proxy, digits: Data) -> None:
    whole = expected_seconds(SPEC, digits, proxy, 0.01, 300)
    assert list(whole) == ["search", "pick", "build", "calibrate", "tune", "latency"]
    assert set(whole) <= set(PHASES)
    assert all(seconds > 0 for seconds in whole.values())
    short = SPEC.override({"tune.epochs": 0, "latency.time_at_end": False})
    assert list(expected_seconds(short, digits, proxy, 0.01, 0)) == ["search", "pick", "build"]
    assert expected_seconds(short, digits, proxy, 0.01, 0)["search"] == 0


def test_a_slower_pass_and_more_epochs_take_longer(proxy: Proxy, digits: Data) -> None:
    one, two = (expected_seconds(SPEC, digits, proxy, one_pass, 300) for one_pass in (0.01, 0.02))
    assert all(one[phase] < two[phase] for phase in one if phase != "latency")
    longer = expected_seconds(SPEC.override({"tune.epochs": 50}), digits, proxy, 0.01, 300)
    assert longer["tune"] > 2 * one["tune"]
    given = expected_seconds(SPEC.override({"tune.rate": 0.001}), digits, proxy, 0.01, 300)
    assert given["tune"] < one["tune"]


def test_training_takes_its_steps_and_the_time_to_compile_them() -> None:
    costs = PhaseCosts(training_passes=10, training_seconds=3, step_seconds=0.5)
    assert training_seconds(4, 100, 0.001, costs) == pytest.approx(3 + 4 * (100 * 0.001 * 10 + 0.5))


def test_what_is_left_are_the_phases_that_have_not_begun() -> None:
    expected = {"search": 5.0, "pick": 3.0, "build": 2.0, "tune": 10.0}
    spent = dict.fromkeys(PHASES, 0.0)
    assert seconds_after(expected, spent, "search") == 15
    spent |= {"search": 5.0}
    assert seconds_after(expected, spent, "pick") == 12
    assert seconds_after(expected, spent | {"search": 10.0}, "pick") == 2 * 12
    assert seconds_after(expected, spent | {"search": 1000.0}, "pick") == SLOWEST * 12
    assert seconds_after(expected, spent | {"search": 0.01}, "pick") == pytest.approx(12 / SLOWEST)
    assert seconds_after(expected, spent | {"pick": 1.0, "build": 0.1, "tune": 2.0}, "report") == 0


def test_a_stopwatch_knows_the_phase_that_runs() -> None:
    watch = Stopwatch()
    with watch.timed("tune"):
        assert watch.current == "tune"
        with watch.timed("measure"):
            assert watch.current == "measure"
        assert watch.current == "tune"
    assert watch.current == ""


def test_a_pass_is_measured_and_passes_have_two_digits(proxy: Proxy) -> None:
    assert 0 < pass_seconds(proxy) < 60
    assert passes_text(6.04, 0.01) == "600 passes"
    assert passes_text(0.0104, 0.0103) == "1 pass"
