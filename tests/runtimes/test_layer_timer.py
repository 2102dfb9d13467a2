"""Layers are timed once for all that decides their time, and what cannot be timed is said."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.runtimes import layer_timer
from lrf_optuna.runtimes.graphs import GraphFile
from lrf_optuna.runtimes.latency import LatencyRow, Place
from lrf_optuna.runtimes.layer_timer import MOST_NOISE, LayerTimer, LayerTimerSettings
from lrf_optuna.runtimes.timing import Timing
from lrf_optuna.scoring.proxy import Proxy

WHERE = Place("keras", 1, 1)
ONCE = LayerTimerSettings(layer_rounds=1, network_rounds=1)
TUCKER, SMALLER = Choice("tucker2", (2, 2)), Choice("tucker2", (1, 1))


class PlantedGraphs:
    """In the place of `time_graphs`: an input of n numbers takes n milliseconds, times `slow`; keeps the inputs."""

    def __init__(self, slow: float = 1.0, fails: int = -1) -> None:
        self.slow, self.fails = slow, fails
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, graphs: Sequence[GraphFile], *_: Any) -> tuple[list[float | None], list[str]]:
        self.shapes += [graph.shape for graph in graphs]
        good = [i != self.fails for i in range(len(graphs))]
        times = [self.slow * float(np.prod(graph.shape)) for graph in graphs]
        return [t if ok else None for t, ok in zip(times, good, strict=True)], ["" if ok else "no op" for ok in good]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> PlantedGraphs:
    found = PlantedGraphs()
    monkeypatch.setattr(layer_timer, "time_graphs", found)
    return found


def conv(name: str, **options: Any) -> Any:
    return layers.Conv2D(4, 3, padding="same", name=name, **options)


def twins() -> Any:
    """Two layers that differ in name, initializer and weights alone, and one with another activation."""
    stack = [conv("one"), conv("two", kernel_initializer="ones", trainable=False), conv("other", activation="relu")]
    return keras.Sequential([keras.Input((8, 8, 4)), *stack])


def shared() -> Any:
    """A layer that is called on maps of two sizes."""
    inputs, layer = keras.Input((8, 8, 4)), conv("one")
    return keras.Model(inputs, layer(layers.MaxPooling2D()(layer(inputs))))


def timer_of(model: Any, cache: Path | None = None, where: Place = WHERE) -> LayerTimer:
    return LayerTimer(model, np.zeros((1, *model.input_shape[1:]), np.float32), where, cache, ONCE)


def times_of(timer: LayerTimer, **wanted: list[Choice]) -> Any:
    """The milliseconds of choices of sites; a proxy is not needed for them."""
    return timer.layers(None, wanted)  # type: ignore[arg-type]


def test_equal_layers_are_timed_once(planted: PlantedGraphs) -> None:
    found = times_of(timer_of(twins()), one=[TUCKER], two=[TUCKER], other=[TUCKER])
    assert len(planted.shapes) == 4, "the intact layer and the chain, with and without the activation"
    assert found["one"] == found["two"]
    assert set(found["other"]) == {INTACT, TUCKER}


def test_a_layer_with_several_calls_takes_the_sum_of_them(planted: PlantedGraphs) -> None:
    found = times_of(timer_of(shared()), one=[TUCKER])
    assert sorted(set(planted.shapes)) == [(1, 4, 4, 4), (1, 8, 8, 4)]
    assert found["one"] == {INTACT: 64 + 256, TUCKER: 64 + 256}


def test_a_second_timer_with_the_same_cache_measures_nothing(planted: PlantedGraphs, tmp_path: Path) -> None:
    first = times_of(timer_of(twins(), tmp_path), one=[TUCKER])
    before = len(planted.shapes)
    assert times_of(timer_of(twins(), tmp_path), one=[TUCKER], two=[TUCKER])["one"] == first["one"]
    assert len(planted.shapes) == before


def test_another_place_has_its_own_times(planted: PlantedGraphs, tmp_path: Path) -> None:
    times_of(timer_of(twins(), tmp_path), one=[])
    before = len(planted.shapes)
    times_of(timer_of(twins(), tmp_path, Place("keras", 2, 1)), one=[])
    assert planted.shapes[before:] == [(2, 8, 8, 4)]


def test_new_times_on_a_slower_day_are_scaled_by_those_of_intact_layers(planted: PlantedGraphs, tmp_path: Path) -> None:
    first = times_of(timer_of(twins(), tmp_path), one=[TUCKER])
    planted.slow = 2.0
    later = times_of(timer_of(twins(), tmp_path), one=[TUCKER, SMALLER])
    assert later["one"] == first["one"] | {SMALLER: 256.0}


def test_a_chain_that_cannot_run_is_left_out_and_an_intact_layer_is_refused_with_the_reason(
    planted: PlantedGraphs,
) -> None:
    planted.fails = 1
    assert set(times_of(timer_of(twins()), one=[TUCKER, SMALLER])["one"]) == {INTACT, SMALLER}
    planted.fails = 0
    with pytest.raises(LrfError, match="keras cannot run one: no op; give another --runtime"):
        times_of(timer_of(twins()), one=[TUCKER])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"times": []}', '{"times": 3}', '{"times": {"a": "fast"}}'])
def test_a_broken_file_of_the_cache_is_ignored_and_replaced(planted: PlantedGraphs, tmp_path: Path, text: str) -> None:
    file = timer_of(twins(), tmp_path).kept.file
    assert file
    file.parent.mkdir(parents=True)
    file.write_text(text)
    first = times_of(timer_of(twins(), tmp_path), one=[])
    assert len(planted.shapes) == 1
    assert times_of(timer_of(twins(), tmp_path), one=[]) == first
    assert len(planted.shapes) == 1


def test_the_step_of_ranks_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(layer_timer, "rank_step", lambda *where: asked.append(where) or 8)
    assert [timer_of(twins(), tmp_path).rank_multiple() for _ in range(2)] == [8, 8]
    assert asked == [("keras", 1)]


QUIET, BUSY = 1 + MOST_NOISE / 2, 1 + 2 * MOST_NOISE


@pytest.mark.parametrize(
    ("ratios", "is_busy"), [([QUIET], False), ([BUSY, BUSY, QUIET], False), ([BUSY] * ONCE.attempts, True)]
)
def test_networks_are_timed_again_on_a_busy_machine_and_refused_where_it_stays_busy(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, net: Any, ratios: list[float], is_busy: bool
) -> None:
    left = iter(ratios)

    def measured(models: dict[str, Any], places: list[Place], *_: Any, **__: Any) -> list[LatencyRow]:
        times = dict.fromkeys(models, 1.0) | {layer_timer.AGAIN: next(left)}
        return [LatencyRow(places[0], "", {name: Timing(t, t, 0.0) for name, t in times.items()}, {})]

    monkeypatch.setattr(layer_timer, "model_latencies", measured)
    plans = [Plan(()), Plan.of({"deep": proxy.choice("deep", "tucker2", 0.5)})]
    if is_busy:
        with pytest.raises(LrfError, match=r"too busy to time networks: .* took 1 and 1\.3 ms; .*--latency-table"):
            timer_of(net).networks(proxy, plans)
    else:
        assert timer_of(net).networks(proxy, plans) == [1.0, 1.0]
    assert not list(left)


@pytest.mark.skipif(
    not (find_spec("ai_edge_litert") or hasattr(tf.lite, "Interpreter")),
    reason="neither ai-edge-litert nor TensorFlow has an interpreter of LiteRT",
)
def test_layers_of_a_network_take_time_in_litert(proxy: Proxy, net: Any, tmp_path: Path) -> None:
    wanted = {name: [proxy.choice(name, method, 0.5) for method in proxy.methods_of(name)] for name in proxy.sites}
    timer = timer_of(net, tmp_path, Place("litert", 1, 1))
    found = timer.layers(proxy, wanted)
    assert set(found) == set(wanted)
    for name, choices in wanted.items():
        assert set(found[name]) == {INTACT, *choices}
        assert all(time > 0 for time in found[name].values())
    assert "LiteRT" in timer.place
