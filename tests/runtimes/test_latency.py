from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from lrf_optuna.errors import LrfError
from lrf_optuna.report.runtime_tables import latency_table
from lrf_optuna.runtimes.formats import installed_runtimes
from lrf_optuna.runtimes.latency import LatencyRow, Place, model_latencies
from lrf_optuna.runtimes.timing import Timing, time_in_turns, timing_of


def one_layer(channels: int) -> Any:
    return keras.Sequential([keras.Input((16, 16, channels)), layers.Conv2D(channels, 3, padding="same")])


def test_many_small_models_are_timed_in_every_runtime() -> None:
    models = {f"conv {channels}": one_layer(channels) for channels in (4, 8)}
    rows = model_latencies(models, [Place(runtime, 8, 1) for runtime in installed_runtimes()], rounds=3)
    for row in rows:
        assert set(row.timings) == set(models)
        assert all(0 < timing.least <= timing.median for timing in row.timings.values())
        assert not row.problems


def test_a_runtime_that_there_is_not_is_refused() -> None:
    with pytest.raises(LrfError, match=r"unknown runtime 'torch'.*keras, litert, onnx"):
        model_latencies({}, [Place("torch", 1, 1)])


def test_networks_take_turns() -> None:
    order: list[str] = []

    def call_of(name: str) -> Any:
        return lambda arrays: order.append(name) or []

    calls = [(call_of("a"), []), (call_of("b"), [])]
    time_in_turns(calls, 2)
    last = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert last[-4:] == ["a", "b", "a", "b"]


def test_the_timing_is_the_least_the_median_and_the_spread() -> None:
    assert timing_of([5.0, 1.0, 3.0, 2.0, 4.0]) == Timing(1.0, 3.0, 2.0)
    assert timing_of([7.0]) == Timing(7.0, 7.0, 0.0)


def test_the_table_says_where_the_network_is_not_faster() -> None:
    def row(runtime: str, before: float, after: float) -> LatencyRow:
        timings = {"original": Timing(before, before, 0.1), "tuned": Timing(after, after, 0.1)}
        return LatencyRow(Place(runtime, 1, 1), f"{runtime} 1.0", timings, {})

    table = latency_table([row("keras", 1.0, 1.1), row("litert", 1.0, 0.4)])
    assert [texts[-1] for texts, _ in table.rows] == ["0.91", "2.50"]
    assert "Not faster in: keras, batch 1, threads 1" in table.caption
