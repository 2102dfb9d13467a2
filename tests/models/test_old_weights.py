"""Weights of Keras 1, of Theano and of cuDNN are put where they belong; the old hard_sigmoid stays what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.old_files import check_read, random_inputs, randomized, write_hdf5, write_old

from lrf_optuna.errors import LrfError
from lrf_optuna.models.load import load_model

Array = np.ndarray[Any, Any]
Config = dict[str, Any]


def weights_of(model: keras.Model) -> dict[str, list[Array]]:
    return {layer.name: [np.asarray(w) for w in layer.get_weights()] for layer in model.layers}


def sequential(*parts: tuple[str, Config]) -> Config:
    """A Sequential model of Keras 1: a list of layers, the first of which says what it takes."""
    return {"class_name": "Sequential", "config": [{"class_name": name, "config": config} for name, config in parts]}


def test_a_convolutional_network_of_keras_1_is_read(tmp_path: Path) -> None:
    model = randomized(
        keras.Sequential(
            [
                keras.Input((9, 9, 2)),
                layers.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu", name="one"),
                layers.MaxPooling2D((2, 2), name="pool"),
                layers.BatchNormalization(epsilon=1e-5, name="norm"),
                layers.Dropout(0.5, name="drop"),
                layers.Flatten(name="flat"),
                layers.Dense(5, use_bias=False, name="two"),
            ]
        )
    )
    old = {"border_mode": "same", "dim_ordering": "tf", "init": "glorot_uniform", "subsample": [2, 2], "bias": True}
    shape = {"batch_input_shape": [None, 9, 9, 2], "input_dtype": "float32"}
    decay = {"name": "WeightRegularizer", "l1": 0.0, "l2": 1e-4}
    window = {"nb_filter": 4, "nb_row": 3, "nb_col": 2, "activation": "relu", "W_regularizer": decay, "name": "one"}
    dense = {"output_dim": 5, "input_dim": None, "bias": False, "activation": "linear", "init": "zero", "name": "two"}
    config = sequential(
        ("Convolution2D", old | shape | window | {"trainable": True, "b_constraint": None}),
        ("MaxPooling2D", {"pool_size": [2, 2], "border_mode": "valid", "dim_ordering": "tf", "name": "pool"}),
        ("BatchNormalization", {"mode": 0, "axis": -1, "epsilon": 1e-5, "gamma_init": "one", "name": "norm"}),
        ("Dropout", {"p": 0.5, "name": "drop"}),
        ("Flatten", {"name": "flat"}),
        ("Dense", dense | {"W_constraint": None}),
    )
    lines = check_read(write_hdf5(tmp_path / "net.h5", config, weights_of(model)), model)
    assert "of Keras 1, read as Keras 3 writes it: " in lines[0]
    assert "names of Keras 1" in lines[0]
    read = load_model(str(tmp_path / "net.h5"))
    assert float(read.get_layer("one").kernel_regularizer.l2) == pytest.approx(1e-4)


def test_gates_that_keras_1_keeps_apart_are_joined(tmp_path: Path) -> None:
    cell = layers.LSTM(4, recurrent_activation="sigmoid", name="cell")
    model = randomized(keras.Sequential([keras.Input((7, 3)), cell, layers.Dense(2, name="top")]))
    saved = weights_of(model)
    i, f, c, o = ([part[..., 4 * gate : 4 * gate + 4] for part in saved["cell"]] for gate in range(4))
    saved["cell"] = [*i, *c, *f, *o]  # as Keras 1 orders them
    old = {"inner_activation": "sigmoid", "inner_init": "orthogonal", "forget_bias_init": "one", "dropout_W": 0.0}
    more = {"consume_less": "cpu", "dropout_U": 0.0, "U_regularizer": None, "batch_input_shape": [None, 7, 3]}
    config = sequential(
        ("LSTM", {"output_dim": 4, "name": "cell"} | old | more), ("Dense", {"output_dim": 2, "name": "top"})
    )
    check_read(write_hdf5(tmp_path / "net.h5", config, saved), model)


def test_a_one_dimensional_kernel_of_keras_1_loses_its_second_axis(tmp_path: Path) -> None:
    conv = layers.Conv1D(4, 3, name="conv")
    model = randomized(keras.Sequential([keras.Input((9, 2)), conv, layers.Flatten(), layers.Dense(2, name="top")]))
    saved = {name: values for name, values in weights_of(model).items() if values}
    saved["conv"][0] = saved["conv"][0][:, None]
    old = {"nb_filter": 4, "filter_length": 3, "border_mode": "valid", "subsample_length": 1}
    config = sequential(
        ("Convolution1D", old | {"batch_input_shape": [None, 9, 2], "name": "conv"}),
        ("Flatten", {"name": "flat"}),
        ("Dense", {"output_dim": 2, "name": "top"}),
    )
    check_read(write_hdf5(tmp_path / "net.h5", config, saved), model)


def test_kernels_that_theano_wrote_are_turned_around(tmp_path: Path) -> None:
    conv = layers.Conv2D(4, 3, name="conv")
    model = randomized(keras.Sequential([keras.Input((9, 9, 2)), conv, layers.Flatten(), layers.Dense(2, name="top")]))
    saved = {name: values for name, values in weights_of(model).items() if values}
    saved["conv"][0] = saved["conv"][0][::-1, ::-1]
    config = sequential(
        ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "batch_input_shape": [None, 9, 9, 2], "name": "conv"}),
        ("Flatten", {"name": "flat"}),
        ("Dense", {"units": 2, "name": "top"}),
    )
    check_read(write_hdf5(tmp_path / "net.h5", config, saved, "2.0.8", "theano"), model)


def test_a_merge_of_keras_1_is_the_layer_of_its_mode(tmp_path: Path) -> None:
    inputs = keras.Input((5,), name="x")
    one, two = (layers.Dense(4, name=name)(inputs) for name in ("one", "two"))
    model = randomized(keras.Model(inputs, layers.Dense(2, name="top")(layers.Concatenate(name="both")([one, two]))))

    def layer(kind: str, name: str, inbound: list[str], **config: Any) -> Config:
        nodes = [[[before, 0, 0] for before in inbound]] if inbound else []
        return {"class_name": kind, "config": {"name": name} | config, "name": name, "inbound_nodes": nodes}

    shape = {"batch_input_shape": [None, 5], "input_dtype": "float32", "sparse": False}
    config = {
        "class_name": "Model",
        "config": {
            "name": "net",
            "layers": [
                layer("InputLayer", "x", [], **shape),
                layer("Dense", "one", ["x"], output_dim=4),
                layer("Dense", "two", ["x"], output_dim=4),
                layer("Merge", "both", ["one", "two"], mode="concat", concat_axis=-1, mode_type="raw"),
                layer("Dense", "top", ["both"], output_dim=2),
            ],
            "input_layers": [["x", 0, 0]],
            "output_layers": [["top", 0, 0]],
        },
    }
    check_read(write_hdf5(tmp_path / "net.h5", config, weights_of(model)), model)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_cudnn_layer_is_the_layer_of_keras(tmp_path: Path, kind: str) -> None:
    gates = 4 if kind == "LSTM" else 3
    cell = getattr(layers, kind)(4, name="cell")
    model = randomized(keras.Sequential([keras.Input((7, 3)), cell, layers.Dense(2, name="top")]))
    saved = weights_of(model)
    kernel, recurrent, bias = saved["cell"]
    kernel = np.hstack([part.reshape(part.shape[::-1], order="F").T for part in np.hsplit(kernel, gates)])
    recurrent = np.hstack([part.T for part in np.hsplit(recurrent, gates)])
    saved["cell"] = [kernel, recurrent, np.tile(bias / 2, 2) if kind == "LSTM" else bias.reshape(-1)]
    config = sequential(
        (f"CuDNN{kind}", {"units": 4, "name": "cell", "batch_input_shape": [None, 7, 3]}),
        ("Dense", {"units": 2, "name": "top"}),
    )
    config["config"][0]["config"] |= {"kernel_initializer": "glorot_uniform", "return_sequences": False}
    if kind == "GRU":
        config["config"][0]["config"]["reset_after"] = True
    lines = check_read(write_hdf5(tmp_path / "net.h5", config, saved, "2.1.6"), model)
    assert f"CuDNN{kind} read as {kind}" in lines[0]


def test_a_gru_of_before_reset_after_has_one_bias(tmp_path: Path) -> None:
    cell = layers.GRU(4, reset_after=False, name="cell")
    model = randomized(keras.Sequential([keras.Input((7, 3)), cell, layers.Dense(2, name="top")]))
    config = sequential(
        ("GRU", {"units": 4, "name": "cell", "batch_input_shape": [None, 7, 3], "implementation": 1}),
        ("Dense", {"units": 2, "name": "top"}),
    )
    config["config"][0]["config"]["recurrent_activation"] = "sigmoid"
    check_read(write_hdf5(tmp_path / "net.h5", config, weights_of(model), "2.0.6"), model)


def old_hard_sigmoid(x: Any) -> Any:
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


HARD: dict[str, Any] = {
    "dense": lambda act: [layers.Dense(6, activation=act)],
    "convolution": lambda act: [layers.Reshape((7, 3, 1)), layers.SeparableConv2D(4, 2, activation=act)],
    "activation": lambda act: [layers.Activation(act, name="act")],
    "lstm": lambda act: [layers.LSTM(4, recurrent_activation=act)],
    "gru": lambda act: [layers.Bidirectional(layers.GRU(4, recurrent_activation=act))],
    "simple": lambda act: [layers.SimpleRNN(4, activation=act)],
    "convlstm": lambda act: [layers.Reshape((7, 3, 1, 1)), layers.ConvLSTM2D(3, 1, recurrent_activation=act)],
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", HARD)
def test_the_hard_sigmoid_of_keras_2_keeps_its_values(tmp_path: Path, name: str, suffix: str) -> None:
    def build(act: Any) -> keras.Model:
        with keras.saving.custom_object_scope({"old_hard_sigmoid": old_hard_sigmoid}):  # Bidirectional copies its layer
            parts = HARD[name](act)
        return randomized(keras.Sequential([keras.Input((7, 3)), *parts, layers.Flatten(), layers.Dense(2)]))

    model, today = build(old_hard_sigmoid), build("hard_sigmoid")
    inputs = random_inputs(model)
    assert np.abs(np.asarray(model(inputs)) - np.asarray(today(inputs))).max() > 1e-3
    path = write_old(tmp_path / f"net{suffix}", today, lambda config: None, "2.2.4")
    assert "the hard_sigmoid of Keras 2" in check_read(path, model)[0]
    assert not check_read(write_old(tmp_path / f"new{suffix}", today, lambda config: None, "3.1.0"), today)


def test_weights_of_other_layers_are_refused(tmp_path: Path) -> None:
    config = sequential(("Dense", {"output_dim": 2, "name": "top", "batch_input_shape": [None, 5]}))
    saved = {"top": [np.zeros((4, 2), np.float32), np.zeros(2, np.float32)]}
    with pytest.raises(LrfError, match=r"cannot load .*: the weights of 'top' have the shapes .*, but should have"):
        load_model(str(write_hdf5(tmp_path / "net.h5", config, saved)))
    saved["other"] = saved["top"]
    with pytest.raises(LrfError, match="it has weights of 2 layers, but its configuration has 1 with weights"):
        load_model(str(write_hdf5(tmp_path / "net.h5", config, saved)))
