"""Passes that go on from where they were hear what whole passes hear, whatever the network's shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from pipeline.test_build import deep_net, pictures

from lrf_optuna.chains.conv import Array
from lrf_optuna.models import partial_forward as room
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.partial_forward import ResumedForward, traced


def convolution(name: str, width: int = 8) -> Any:
    return layers.Conv2D(width, 3, padding="same", activation="relu", name=name)


def residual() -> Any:
    """Two blocks with a skip around each."""
    inputs = keras.Input((10, 10, 3))
    x = convolution("stem")(inputs)
    for block in "ab":
        x = layers.Add()([x, convolution(f"{block}2")(convolution(f"{block}1")(x))])
    return keras.Model(inputs, layers.Dense(5, name="top")(layers.GlobalAveragePooling2D()(x)))


def shared() -> Any:
    """A layer that is called twice, the second time behind another one."""
    inputs, twice = keras.Input((10, 10, 3)), convolution("twice")
    x = convolution("between")(twice(convolution("stem")(inputs)))
    return keras.Model(inputs, layers.Dense(5, name="top")(layers.Flatten()(convolution("last")(twice(x)))))


def forked() -> Any:
    """Two branches off the input, of which one joins late."""
    inputs = keras.Input((10, 10, 3))
    long = convolution("long2")(convolution("long1")(inputs))
    x = layers.Concatenate()([long, convolution("short")(inputs)])
    return keras.Model(inputs, layers.Dense(5, name="top")(layers.Flatten()(convolution("both")(x))))


def half() -> Any:
    """A network that computes with half of the bits: what is heard is not what goes on."""
    inputs = keras.Input((10, 10, 3))
    policy = {"padding": "same", "dtype": "mixed_float16"}
    x = layers.Conv2D(8, 3, name="second", **policy)(layers.Conv2D(8, 3, name="first", **policy)(inputs))
    return keras.Model(inputs, layers.Dense(5, name="top", dtype="float32")(layers.Flatten()(x)))


def two_inputs() -> Any:
    left, right = keras.Input((10, 10, 3), name="left"), keras.Input((10, 10, 3), name="right")
    x = layers.Add()([convolution("l")(left), convolution("r")(right)])
    return keras.Model([left, right], layers.Dense(5, name="top")(layers.Flatten()(convolution("both")(x))))


NETS: dict[str, tuple[Callable[[], Any], int]] = {
    "chain": (lambda: deep_net(norm=True), 3),
    "residual": (residual, 2),
    "shared": (shared, 2),
    "forked": (forked, 1),
    "half": (half, 0),
    "two inputs": (two_inputs, 1),
}
"""Each network, and at how many of its layers passes can go on."""


def network(model: Any) -> tuple[ForwardPass, list[Any]]:
    """The network with all its layers that have kernels, and two batches of images."""
    found = {layer.name: layer for layer in model.layers if hasattr(layer, "kernel")}
    x = pictures(24)
    one = lambda part: [part, part[::-1].copy()] if len(model.inputs) > 1 else part  # noqa: E731
    return ForwardPass(model, found), [
        one(x[:16]),
        one(x[16:]),
    ]


def resumed(net: ForwardPass, batches: list[Any], order: Iterable[str] | None = None) -> ResumedForward:
    """Passes over the layers in an order, which is the order of the network where none is given."""
    return ResumedForward(net, traced(net, batches[0]), order or net.layers, batches)


def changed(net: ForwardPass, following: ResumedForward) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Layer by layer what is heard by whole passes and by following ones, while kernels change."""
    rng, kernels = np.random.default_rng(0), dict[str, Array]()
    for name in following.order:
        whole = [net.inputs(x, kernels, [name])[name] for x in following.batches]
        yield name, whole, list(following.inputs(name, kernels))
        own = net.original_kernels[name].numpy()
        kernels[name] = own + 0.1 * rng.standard_normal(own.shape).astype(np.float32)


@pytest.mark.parametrize("kind", NETS)
def test_it_hears_what_whole_passes_hear_and_goes_on_where_it_can(kind: str) -> None:
    keras.utils.set_random_seed(0)
    make, joins = NETS[kind]
    net, batches = network(make())
    following, begins = resumed(net, batches), set[str]()
    assert following.graph
    images = {image.name for image in following.graph.images}
    for name, whole, heard in changed(net, following):
        assert [len(calls) for calls in heard] == [len(calls) for calls in whole]
        for mine, theirs in zip(heard, whole, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=name)
        begins |= {tensor.name for tensor in following.begin} - images
    assert len(begins) == joins


def test_layers_in_another_order_than_they_run_are_heard_right_too() -> None:
    keras.utils.set_random_seed(0)
    net, batches = network(deep_net())
    for _, whole, heard in changed(net, resumed(net, batches, list(net.layers)[::-1])):
        np.testing.assert_allclose(np.concatenate([c[0] for c in heard]), np.concatenate([c[0] for c in whole]), 1e-4)


def test_maps_that_would_take_too_much_memory_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ROOM", 24 * 10 * 10 * 16 * 4 - 1)
    net, batches = network(deep_net())
    following = resumed(net, batches)
    shapes = {name: following.begin[0].shape[1:] for name, _, _ in changed(net, following)}
    assert shapes["grouped"] == shapes["strided"] == (10, 10, 3), "of the images"
    assert shapes["last"] == (5, 5, 24)


@pytest.mark.parametrize("reason", [TypeError, AttributeError])
def test_a_network_that_is_no_graph_has_whole_passes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, reason: type[Exception]
) -> None:
    def refused(*_: Any) -> Any:
        raise reason("Python is asked")

    net, batches = network(residual())
    monkeypatch.setattr(room, "TracedPass", refused)
    following = resumed(net, batches)
    assert following.graph is None
    assert "Python is asked" in caplog.text
    for _, whole, heard in changed(net, following):
        np.testing.assert_array_equal(heard[0][0], whole[0][0])


def test_the_work_of_all_passes_is_that_between_the_places_where_they_begin() -> None:
    net, batches = network(residual())
    macs = {"stem": 1, "a1": 10, "a2": 100, "b1": 1000, "b2": 10_000, "top": 100_000}
    assert resumed(net, batches, macs).work(macs) == 1 + (10 + 100) + 10 + 1000 + (1000 + 10_000)
    assert resumed(net, batches, ["a2", "top"]).work(macs) == 11 + 11_111
    assert ResumedForward(net, None, ["a2", "top"]).work(macs) == 2 * 111_111


def test_a_part_of_the_graph_is_cut_once_for_all_that_share_it() -> None:
    keras.utils.set_random_seed(0)
    net, batches = network(residual())
    graph = traced(net, batches[0])
    assert graph
    heard = []
    for _ in range(2):
        following = ResumedForward(net, graph, net.layers, batches)
        heard.append([maps for _, _, calls in changed(net, following) for maps in calls])
        count = len(graph.parts)
    assert count == len(net.layers) == len(graph.parts)
    for first, second in zip(*heard, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
