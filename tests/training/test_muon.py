"""Muon steps as Keras' Muon and Adam do, along the orthogonal factor of what it has averaged."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.training.muon import LONGEST_SHORT_SIDE, STEP_SIZE, Muon, matrices_of, scaled_orthogonal


def trained(make: Any, shape: tuple[int, ...], steps: int = 5) -> Any:
    """A variable after some steps with gradients that follow from a seed."""
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.standard_normal(shape).astype("float32"))
    optimizer = make([variable])
    optimizer.build([variable])
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(rng.standard_normal(shape).astype("float32"))], [variable])
    return variable.numpy()


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
def test_a_matrix_moves_as_with_keras_own_muon(shape: tuple[int, int]) -> None:
    ours = trained(lambda kernels: Muon(0.01, kernels, weight_decay=0.1), shape)
    theirs = trained(lambda _: keras.optimizers.Muon(0.01, weight_decay=0.1), shape)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("shape", [(5,), (3, 3, 6, 1), (4, 5)])
def test_other_variables_move_as_with_adam(shape: tuple[int, ...]) -> None:
    ours = trained(lambda _: Muon(0.01, [], clipnorm=1.0), shape)
    theirs = trained(lambda _: keras.optimizers.Adam(0.01, clipnorm=1.0), shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 8, 20), (40, 6), (6, 40), (1, 1, 16, 16)])
def test_a_step_is_as_long_in_all_directions(shape: tuple[int, ...]) -> None:
    kernel = np.random.default_rng(0).standard_normal(shape).astype("float32") * np.geomspace(1, 100, shape[-1])
    step = np.asarray(scaled_orthogonal(kernel.astype("float32")))
    assert step.shape == shape
    matrix = step.reshape(-1, shape[-1]) / (STEP_SIZE * max(kernel.size // shape[-1], shape[-1]) ** 0.5)
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values[0] < 1.3
    assert values[len(values) // 2] > 0.5


def test_matrices_are_kernels_of_whole_layers_that_are_trained() -> None:
    x = inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, name="conv")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(6, 3, groups=2, name="grouped")(x)
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(LONGEST_SHORT_SIDE + 1, name="wide", trainable=False)(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="one")(keras.layers.Dense(5, name="dense")(x)))
    assert [id(kernel) for kernel in matrices_of(model)] == [id(model.get_layer(n).kernel) for n in ("conv", "dense")]
