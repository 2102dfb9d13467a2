"""Statistics are plain averages over the batches, and stay only where they bring the outputs nearer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from lrf_optuna.batchnorm import reestimate
from lrf_optuna.similarity import cosine

Array = np.ndarray[Any, Any]


def norms_of(model: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def with_wrong_statistics(model: Any) -> Any:
    for layer in norms_of(model):
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, beta, mean + 3, variance * 20])
    return model


def fed(model: Any, images: Array) -> Any:
    """The model with statistics of these images: a trained network."""
    for layer in norms_of(model):
        below = keras.Model(model.input, layer.input)
        maps = np.asarray(below(images, training=False))
        layer.set_weights([*layer.get_weights()[:2], maps.mean((0, 1, 2)), maps.var((0, 1, 2))])
    return model


def logits(model: Any, images: Array) -> Array:
    return np.asarray(model(images, training=False))


def test_wrong_statistics_are_put_right(fresh_net: Callable[..., Any], images: Array) -> None:
    reference = logits(fed(fresh_net(), images), images[:16])
    model = with_wrong_statistics(fed(fresh_net(), images))
    before = cosine(reference, logits(model, images[:16]))
    helped, told, after = reestimate(model, [images[16:40], images[40:]], images[:16], reference)
    assert helped
    assert told == before < after
    assert after == cosine(reference, logits(model, images[:16]))
    assert after > 0.99


def test_statistics_are_the_averages_over_the_batches(fresh_net: Callable[..., Any], images: Array) -> None:
    model = with_wrong_statistics(fed(fresh_net(), images))
    reference = logits(fed(fresh_net(), images), images)
    batches = [images[:16], images[16:32], images[32:48]]
    maps = [np.asarray(model.get_layer("stem")(x)) for x in batches]
    helped, *_ = reestimate(model, batches, images, reference)
    assert helped
    layer = model.get_layer("stem_norm")
    mean = np.mean([m.mean((0, 1, 2)) for m in maps], axis=0)
    variance = np.mean([m.var((0, 1, 2)) for m in maps], axis=0)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4)


def test_statistics_that_do_not_help_are_taken_back_to_the_bit(fresh_net: Callable[..., Any], images: Array) -> None:
    model = fed(fresh_net(), images)
    reference = logits(model, images)
    before = model.get_weights()
    helped, told, after = reestimate(model, [10 * images + 5], images, reference)
    assert not helped
    assert after <= told
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert np.array_equal(logits(model, images), reference)


def test_only_statistics_change_and_the_layers_are_as_before(fresh_net: Callable[..., Any], images: Array) -> None:
    model = with_wrong_statistics(fed(fresh_net(), images))
    reference = logits(fed(fresh_net(), images), images)
    trainable = [v.numpy() for v in model.trainable_variables]
    for layer, momentum in zip(norms_of(model), (0.9, 0.5), strict=True):
        layer.momentum = momentum
    reestimate(model, [images], images, reference)
    assert [layer.momentum for layer in norms_of(model)] == [0.9, 0.5]
    assert all("call" not in vars(layer) for layer in model.layers)
    assert all(np.array_equal(a, b) for a, b in zip(trainable, model.trainable_variables, strict=True))
    again = [layer.get_weights() for layer in norms_of(model)]
    model(images, training=False)
    assert all(np.array_equal(a, b) for a, b in zip(again[0], norms_of(model)[0].get_weights(), strict=True))


def test_other_layers_run_as_they_do_when_the_network_is_used(images: Array) -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GaussianNoise(1.0)(keras.layers.Dropout(0.9)(inputs))
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    model.get_layer("norm").set_weights([np.ones(3), np.zeros(3), np.full(3, 3.0), np.full(3, 20.0)])
    fair = images - images.mean((0, 1, 2))
    helped, *_ = reestimate(model, [images], images, fair.reshape(len(images), -1))
    assert helped
    np.testing.assert_allclose(model.get_layer("norm").moving_mean, images.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(model.get_layer("norm").moving_variance, images.var((0, 1, 2)), rtol=1e-4)


def test_a_network_without_batchnorm_is_left_alone(images: Array) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    reference = logits(model, images)
    helped, before, after = reestimate(model, [images], images, reference)
    assert (helped, before) == (False, after)
    assert np.array_equal(logits(model, images), reference)


def test_no_batches_change_nothing(fresh_net: Callable[..., Any], images: Array) -> None:
    model = with_wrong_statistics(fresh_net())
    before = model.get_weights()
    assert not reestimate(model, [], images, logits(fresh_net(), images))[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
