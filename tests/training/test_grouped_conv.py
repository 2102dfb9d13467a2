"""A grouped convolution is the same when each group is computed alone, and its layer stays as it is."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrf_optuna.training.grouped_conv import OPERATION, grouped_by_parts, is_grouped

LAYERS = {
    "same": (keras.layers.Conv2D(8, 3, groups=4, padding="same"), (6, 5, 8)),
    "strided": (keras.layers.Conv2D(6, 3, groups=2, strides=2), (7, 7, 4)),
    "dilated": (keras.layers.Conv2D(4, 3, groups=4, dilation_rate=2, activation="relu"), (7, 7, 4)),
    "volume": (keras.layers.Conv3D(4, 3, groups=2, padding="same"), (4, 4, 4, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_those_of_keras(name: str) -> None:
    layer, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), layer])
    x = tf.constant(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32))

    def found() -> list[Any]:
        @tf.function
        def step() -> Any:
            with tf.GradientTape() as tape:
                outputs = model(x)
                loss = tf.reduce_mean(tf.square(outputs))
            return [outputs, *tape.gradient(loss, model.trainable_variables)]

        return [array.numpy() for array in step()]

    plain = found()
    with grouped_by_parts(model):
        assert OPERATION in vars(layer)
        parts = found()
    assert OPERATION not in vars(layer)
    for one, other in zip(parts, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_layers_are_restored_after_an_error_and_others_are_left_alone() -> None:
    layer = keras.layers.Conv2D(4, 3, groups=2)
    model = keras.Sequential([keras.Input((5, 5, 4)), layer])
    with pytest.raises(ValueError, match="in a step"), grouped_by_parts(model, model):
        raise ValueError("in a step")
    assert OPERATION not in vars(layer)
    others = [keras.layers.Conv2D(4, 3), keras.layers.DepthwiseConv2D(3), keras.layers.Conv1D(4, 3, groups=2)]
    assert not any(map(is_grouped, others))
