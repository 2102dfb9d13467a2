"""Statistics are plain averages over the batches, each layer's behind those before it, and the model keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lrf_optuna.models.batchnorm import reestimated_statistics
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.layer_kinds import norms_of

Array = np.ndarray[Any, Any]


def network_of(model: Any) -> ForwardPass:
    return ForwardPass(model, {})


def with_wrong_statistics(model: Any) -> Any:
    for layer in norms_of(model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 3, variance * 20])
    return model


def fed(model: Any, images: Array) -> Any:
    """The model with statistics of these images: a trained network."""
    for layer in norms_of(model):
        maps = np.asarray(keras.Model(model.input, layer.input)(images, training=False))
        layer.set_weights([*layer.get_weights()[:2], maps.mean((0, 1, 2)), maps.var((0, 1, 2))])
    return model


def test_wrong_statistics_are_put_right(fresh_net: Callable[..., Any], images: Array) -> None:
    right = np.asarray(fed(fresh_net(), images)(images, training=False))
    model = with_wrong_statistics(fed(fresh_net(), images))
    network = network_of(model)
    found = reestimated_statistics(network, {}, [images])
    np.testing.assert_allclose(network.logits(images, {}, found), right, rtol=1e-3, atol=1e-4)
    assert not np.allclose(network.logits(images, {}), right, atol=1e-2)


def test_statistics_are_the_averages_over_the_batches(fresh_net: Callable[..., Any], images: Array) -> None:
    model = with_wrong_statistics(fed(fresh_net(), images))
    batches = [images[:16], images[16:32], images[32:48]]
    maps = [np.asarray(model.get_layer("stem")(x)) for x in batches]
    mean, variance, *_ = reestimated_statistics(network_of(model), {}, batches)
    np.testing.assert_allclose(mean, np.mean([m.mean((0, 1, 2)) for m in maps], axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, np.mean([m.var((0, 1, 2)) for m in maps], axis=0), rtol=1e-4)


def test_the_model_is_as_before(fresh_net: Callable[..., Any], images: Array) -> None:
    model = with_wrong_statistics(fed(fresh_net(), images))
    before = model.get_weights()
    for layer, momentum in zip(norms_of(model), (0.9, 0.5), strict=True):
        layer.momentum = momentum
    reestimated_statistics(network_of(model), {}, [images])
    assert [layer.momentum for layer in norms_of(model)] == [0.9, 0.5]
    assert all("call" not in vars(layer) for layer in model.layers)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_other_layers_run_as_they_do_when_the_network_is_used(images: Array) -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GaussianNoise(1.0)(keras.layers.Dropout(0.9)(inputs))
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    mean, variance = reestimated_statistics(network_of(model), {}, [images])
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance, images.var((0, 1, 2)), rtol=1e-4)
