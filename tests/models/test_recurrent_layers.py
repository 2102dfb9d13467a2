"""A factorized recurrent layer is the layer with the composed input kernel, with masks, directions and dropout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.fitting import fit
from support.sequences import SEQUENCE_KINDS

from lrf_optuna.decompositions.registry import applicable_methods, choice_of, compose
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.models.layer_kinds import LAYERS, assign_kernel, read_kernel, walk_layers
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy

L = layers
STEPS, SIZE = 7, 24
CASES: dict[str, Callable[[], Any]] = {
    "SimpleRNN": lambda: L.SimpleRNN(12, name="one"),
    "GRU": lambda: L.GRU(10, name="one"),
    "GRU reset before": lambda: L.GRU(10, reset_after=False, return_sequences=True, name="one"),
    "LSTM": lambda: L.LSTM(10, name="one"),
    "LSTM of sequences": lambda: L.LSTM(10, return_sequences=True, name="one"),
    "LSTM backwards": lambda: L.LSTM(10, go_backwards=True, return_sequences=True, name="one"),
    "LSTM without bias": lambda: L.LSTM(10, use_bias=False, activation="relu", name="one"),
    "LSTM with dropout": lambda: L.LSTM(10, dropout=0.3, recurrent_dropout=0.2, name="one"),
    "LSTM unrolled": lambda: L.LSTM(10, unroll=True, name="one"),
    "LSTM frozen": lambda: L.LSTM(10, trainable=False, name="one"),
    "Bidirectional": lambda: L.Bidirectional(L.LSTM(9, return_sequences=True), name="one"),
    "Bidirectional sum": lambda: L.Bidirectional(L.GRU(9, dropout=0.2), merge_mode="sum", name="one"),
    "Bidirectional of two kinds": lambda: L.Bidirectional(
        L.LSTM(9), backward_layer=L.GRU(8, go_backwards=True), name="one"
    ),
    "TimeDistributed": lambda: L.TimeDistributed(L.Dense(20, activation="softmax"), name="one"),
    "TimeDistributed without bias": lambda: L.TimeDistributed(L.Dense(20, use_bias=False), name="one"),
}


def model_of(case: str, masked: bool = False) -> Any:
    """A model of one layer with random weights, after a Masking layer if it is masked."""
    inputs = keras.Input((STEPS, SIZE))
    model = keras.Model(inputs, CASES[case]()(layers.Masking()(inputs) if masked else inputs))
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(w.shape) / 3 for w in model.get_weights()])
    return model


def sequences(masked: bool = False) -> Any:
    x = np.random.default_rng(2).standard_normal((6, STEPS, SIZE)).astype(np.float32)
    if masked:
        x[1, 4:] = x[2, 2:] = 0
    return x


def factorized(model: Any, method: str) -> tuple[Any, Plan, Any]:
    """The built model, its plan, and a copy of the model with the composed kernels."""
    held, copy = dict(walk_layers(model)), keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copied, choices, kernels = dict(walk_layers(copy)), {}, {}
    for site in find_sites(model).sites:
        choices[site.name] = choice_of(site.op, method, 0.6)
        kernels[site.name] = fit(site.op, choices[site.name], read_kernel(held[site.name]), None)
        assign_kernel(copied[site.name], compose(site.op, choices[site.name], kernels[site.name]))
    plan = Plan.of(choices)
    return materialize(model, plan, kernels), plan, copy


def methods_of(case: str) -> list[str]:
    (site,) = find_sites(model_of(case)).sites
    return [name for name in applicable_methods(site.op) if choice_of(site.op, name, 0.6) != INTACT]


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-5)


def test_every_kind_of_sequences_has_a_case() -> None:
    assert {type(make()).__name__ for make in CASES.values()} == set(SEQUENCE_KINDS) <= set(LAYERS)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("case", CASES)
def test_the_built_layer_is_the_layer_with_the_composed_kernel(case: str, masked: bool) -> None:
    model, x = model_of(case, masked), sequences(masked)
    methods = methods_of(case)
    assert "svd" in methods
    for method in methods:
        built, plan, composed = factorized(model, method)
        close(built(x, training=False), composed(x, training=False))
        assert (built.count_params(), find_sites(built).macs) == plan_counts(find_sites(model), plan)
        assert built.output_shape == model.output_shape
        assert len(built.trainable_weights) == 0 if "frozen" in case else len(built.trainable_weights) > 0


@pytest.mark.parametrize("case", CASES)
def test_what_is_scored_is_what_is_built(case: str) -> None:
    model = model_of(case)
    x = np.random.default_rng(3).standard_normal((40, STEPS, SIZE)).astype(np.float32)
    proxy = Proxy(model, x)
    plan = Plan.of({name: proxy.choice(name, "svd", 0.5) for name in proxy.sites})
    built = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    found = np.asarray(proxy.network.heads["logits"].logits(built(x, training=False)))
    np.testing.assert_allclose(proxy.logits(plan, x), found, rtol=0, atol=1e-4 * np.abs(found).max())


def test_a_built_model_trains_and_loads_as_plain_keras(tmp_path: Path) -> None:
    model, x = model_of("Bidirectional sum"), sequences()
    built, _, _ = factorized(model, "svd")
    built.compile("sgd", "mse")
    assert np.isfinite(built.train_on_batch(x, np.asarray(model(x))))
    built.save(tmp_path / "model.keras")
    close(keras.models.load_model(tmp_path / "model.keras")(x), built(x))


def test_dropout_of_inputs_stands_before_the_first_stage() -> None:
    built, _, _ = factorized(model_of("LSTM with dropout"), "svd")
    dropout, dense, last = built.get_layer("one").layers
    assert (type(dropout).__name__, dropout.rate) == ("SpatialDropout1D", 0.3)
    assert (type(dense).__name__, dense.use_bias) == ("Dense", False)
    assert (last.dropout, last.recurrent_dropout) == (0.0, 0.2)
    ones = np.ones((400, STEPS, SIZE), np.float32)
    kept = np.asarray(dropout(ones, training=True))
    assert (kept == kept[:, :1]).all()
    assert (kept > 0).mean() == pytest.approx(0.7, abs=0.02)


def test_several_recurrent_layers_are_factorized_together() -> None:
    inputs = keras.Input((STEPS, SIZE))
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True), name="both")(inputs)
    x = layers.GRU(12, return_sequences=True, name="gru")(x)
    x = layers.TimeDistributed(layers.Dense(20, activation="relu"), name="each")(x)
    model = keras.Model(inputs, layers.Dense(4, name="top")(layers.SimpleRNN(10, name="last")(x)))
    assert [site.name for site in find_sites(model).sites] == ["both", "gru", "each", "last", "top"][:5]
    built, plan, composed = factorized(model, "svd")
    close(built(sequences()), composed(sequences()))
    assert built.count_params() == plan_counts(find_sites(model), plan)[0] < model.count_params()


@pytest.mark.parametrize("sequential", [False, True])
def test_masks_reach_what_follows_a_factorized_layer(sequential: bool, tmp_path: Path) -> None:
    parts = [
        layers.Masking(),
        layers.LSTM(20, return_sequences=True),
        layers.Dense(24, activation="relu"),
        layers.Bidirectional(layers.GRU(10, return_sequences=True)),
        layers.GlobalAveragePooling1D(),
    ]
    inputs = keras.Input((STEPS, SIZE))
    model = keras.Sequential([inputs, *parts])
    if not sequential:
        model = keras.Model(model.inputs, model.outputs)
    built, plan, composed = factorized(model, "svd")
    assert len(plan.choices) == 3
    x = sequences(masked=True)
    close(built(x), composed(x))
    built.save(tmp_path / "model.keras")
    close(keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), composed(x))
    assert np.abs(np.asarray(composed(x)) - np.asarray(composed(np.where(x == 0, 1e-6, x)))).max() > 1e-3


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "state": (
        lambda x: layers.LSTM(10, return_state=True, name="one")(x)[0],
        "a recurrent layer that gives its state beside its output, and a Sequential gives one array",
    ),
    "initial state": (
        lambda x: layers.GRU(10, name="one")(x, initial_state=layers.Dense(10)(x[:, 0])),
        "a recurrent layer that is called with an initial state, which a Sequential does not take",
    ),
    "both directions": (
        lambda x: layers.Add()(layers.Bidirectional(layers.GRU(10), merge_mode=None, name="one")(x)),
        "a recurrent layer that gives two outputs, and a Sequential gives one array",
    ),
    "other in both directions": (
        lambda x: layers.Bidirectional(layers.RNN(layers.LSTMCell(5)), name="one")(x),
        "a recurrent layer that wraps another layer than SimpleRNN, GRU or LSTM",
    ),
    "cells": (
        lambda x: layers.RNN(layers.LSTMCell(5), name="one")(x),
        "runs cells of its own: SimpleRNN, GRU and LSTM layers are factorized",
    ),
    "convolution at every step": (
        lambda x: layers.Flatten()(
            layers.TimeDistributed(layers.Conv1D(4, 3), name="one")(layers.Reshape((STEPS, 6, 4))(x))
        ),
        "applies a Conv1D at every step, and only Dense layers are factorized there",
    ),
    "spectral norm": (
        lambda x: layers.SpectralNormalization(layers.Dense(20), name="one")(x),
        "divides the kernel of the layer in it by its norm: take the layer out, with that kernel",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layer_that_cannot_be_replaced_says_why(case: str) -> None:
    make, reason = REFUSED[case]
    inputs = keras.Input((STEPS, SIZE))
    model = keras.Model(inputs, layers.Dense(5)(make(inputs)))
    (row,) = [row for row in find_sites(model).rows if row.path == "one"]
    assert (row.site, row.reason) == (None, reason)
    assert row.macs


def test_a_stateful_layer_says_why() -> None:
    model = keras.Sequential([keras.Input(batch_shape=(1, STEPS, SIZE)), layers.LSTM(10, stateful=True, name="one")])
    (row,) = find_sites(model).rows
    assert (row.site, row.reason) == (None, "a recurrent layer that is stateful: its batch has a fixed size")


def test_the_recurrent_kernel_stays_for_a_reason_that_is_said() -> None:
    assert "Keras has no layer for a factorized recurrent kernel" in find_sites(model_of("Bidirectional")).remark
    assert find_sites(model_of("TimeDistributed")).remark == ""
