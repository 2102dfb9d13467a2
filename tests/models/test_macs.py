"""MACs are those of closed forms, or not known; never 0 where a layer multiplies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna.models.inventory import find_sites, inventory_rows
from lrf_optuna.models.macs import ELEMENTWISE, FORMULAS, UNKNOWN, call_macs

L = layers


class Twice(keras.layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own, without weights."""

    def call(self, inputs: Any) -> Any:
        return inputs * 2

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def small_cnn() -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(5, 3), L.Flatten(), L.Dense(7)])


CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], int | None]] = {
    "LSTM": (lambda: L.LSTM(64), (300, 6), 300 * 4 * 64 * (6 + 64)),
    "LSTM of sequences": (lambda: L.LSTM(8, return_sequences=True), (5, 6), 5 * 4 * 8 * (6 + 8)),
    "LSTM with its state": (lambda: L.LSTM(8, return_state=True), (5, 6), 5 * 4 * 8 * (6 + 8)),
    "GRU": (lambda: L.GRU(8), (5, 6), 5 * 3 * 8 * (6 + 8)),
    "GRU reset before": (lambda: L.GRU(8, reset_after=False), (5, 6), 5 * 3 * 8 * (6 + 8)),
    "SimpleRNN": (lambda: L.SimpleRNN(8), (5, 6), 5 * 8 * (6 + 8)),
    "RNN": (lambda: L.RNN([L.LSTMCell(8), L.GRUCell(4)]), (5, 6), 5 * (4 * 8 * (6 + 8) + 3 * 4 * (8 + 4))),
    "Bidirectional": (lambda: L.Bidirectional(L.LSTM(8)), (5, 6), 2 * 5 * 4 * 8 * (6 + 8)),
    "Bidirectional of two": (
        lambda: L.Bidirectional(L.LSTM(8), backward_layer=L.GRU(8, go_backwards=True)),
        (5, 6),
        5 * (4 + 3) * 8 * (6 + 8),
    ),
    "TimeDistributed Dense": (lambda: L.TimeDistributed(L.Dense(7)), (5, 6), 5 * 6 * 7),
    "TimeDistributed Conv": (lambda: L.TimeDistributed(L.Conv2D(4, 3)), (5, 8, 8, 3), 5 * 36 * 9 * 3 * 4),
    "TimeDistributed pooling": (lambda: L.TimeDistributed(L.MaxPooling2D()), (5, 8, 8, 3), 0),
    "TimeDistributed model": (lambda: L.TimeDistributed(small_cnn()), (5, 8, 8, 3), 5 * (36 * 27 * 5 + 180 * 7)),
    "TimeDistributed of one's own": (lambda: L.TimeDistributed(Twice()), (5, 6), None),
    "ConvLSTM1D": (lambda: L.ConvLSTM1D(4, 3), (5, 8, 3), 5 * 6 * 3 * 16 * (3 + 4)),
    "ConvLSTM2D": (
        lambda: L.ConvLSTM2D(4, 3, strides=2, padding="same", return_sequences=True),
        (5, 8, 8, 3),
        5 * 16 * 9 * 16 * (3 + 4),
    ),
    "SpectralNormalization": (lambda: L.SpectralNormalization(L.Conv2D(4, 3)), (8, 8, 3), 36 * 27 * 4),
    "transposed with gaps": (lambda: L.Conv2DTranspose(4, 1, strides=2), (5, 5, 3), 25 * 3 * 4),
    "own": (Twice, (5, 6), None),
    "Lambda": (lambda: L.Lambda(lambda x: x / 255), (5, 6), None),
    "Attention": (lambda: TakesTwo(L.Attention()), (5, 6), None),
    "BatchNormalization": (L.BatchNormalization, (5, 6), 0),
    "LayerNormalization": (L.LayerNormalization, (5, 6), 0),
    "Embedding": (lambda: L.Embedding(9, 4), (5,), 0),
    "ReLU": (L.ReLU, (5, 6), 0),
    "GlobalAveragePooling1D": (L.GlobalAveragePooling1D, (5, 6), 0),
    "Rescaling": (lambda: L.Rescaling(1 / 255), (5, 6), 0),
    "Dropout": (lambda: L.Dropout(0.5), (5, 6), 0),
    "ZeroPadding1D": (L.ZeroPadding1D, (5, 6), 0),
}


class TakesTwo:
    """A layer that is called with a list of its input, twice."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Any) -> Any:
        return self.layer([x, x])


@pytest.mark.parametrize("case", CASES)
def test_macs_are_those_of_the_closed_form_or_not_known(case: str) -> None:
    make, shape, macs = CASES[case]
    inputs = keras.Input(shape)
    outputs = keras.tree.flatten(make()(inputs))[0]
    inventory = find_sites(keras.Model(inputs, outputs))
    row = inventory.rows[-1]
    assert row.macs == macs
    assert inventory.macs == (macs or 0)
    assert inventory.uncounted == (() if macs is not None else (row.path,))
    assert inventory_rows(inventory)[-1]["macs_share"] == (None if macs is None else macs / max(macs, 1))


def test_products_in_the_graph_are_not_counted_and_named() -> None:
    inputs = keras.Input((5, 6))
    x = keras.ops.matmul(L.Dense(6, name="top")(inputs), keras.ops.transpose(inputs, (0, 2, 1)))
    inner = keras.Model(y := keras.Input((5, 5)), keras.ops.einsum("btc,bsc->bts", y, y))
    inventory = find_sites(keras.Model(inputs, inner(keras.ops.relu(x))))
    assert len(inventory.uncounted) == 2
    assert inventory.uncounted[0].startswith("matmul")
    assert inventory.uncounted[1].startswith("einsum")
    assert inventory.macs == 5 * 6 * 6


def test_every_layer_class_of_keras_is_counted_elementwise_or_not_known() -> None:
    """A new layer of Keras in a folder that is known here is looked at before it counts as 0."""
    weighty = {"Dense", "EinsumDense", *FORMULAS, *UNKNOWN}
    kinds = {name: value for name, value in vars(layers).items() if isinstance(value, type)}
    multiplying = {name for name in kinds if any(word in name for word in ("Conv", "RNN", "LSTM", "GRU", "Dense"))}
    elementwise = {n for n, kind in kinds.items() if set(kind.__module__.split(".")) & ELEMENTWISE} - weighty
    assert not multiplying & elementwise


def test_a_layer_that_never_runs_has_no_macs_and_a_list_of_inputs_is_not_known() -> None:
    assert call_macs(L.Attention(), None, (5, 6)) is None
    assert call_macs(L.Add(), None, (5, 6)) == 0


def test_a_subclassed_model_names_its_own_computations() -> None:
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.top = L.Dense(3, name="top")

        def call(self, x: Any) -> Any:
            return self.top(x) @ np.ones((3, 2), np.float32)

    model = Net()
    model(np.zeros((1, 6), np.float32))
    inventory = find_sites(model, (6,))
    assert (inventory.macs, inventory.uncounted) == (18, ("what Net computes itself",))
