"""TensorFlow functions in the graph of a file of Keras 2 compute the same as operations of Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.old_files import Said, write_hdf5

from lrf_optuna.errors import LrfError
from lrf_optuna.models.load import load_model

INPUT = ["x", 0, 0]
CALLS: dict[str, tuple[str, list[Any], Any]] = {
    "scalar": ("math.multiply", [*INPUT, {"y": 2.5, "name": None}], lambda x: x * 2.5),
    "operator": ("__operators__.add", [*INPUT, {"y": -1.0, "name": None}], lambda x: x - 1.0),
    "tensor": ("math.add", [*INPUT, {"y": INPUT}], lambda x: x + x),
    "constant first": ("math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": INPUT}], lambda x: 1.0 - x),
    "array": ("math.truediv", [*INPUT, {"y": [0.2, 0.3, 0.5]}], lambda x: x / [0.2, 0.3, 0.5]),
    "power": ("math.pow", [*INPUT, {"y": 2}], lambda x: x**2),
    "maximum": ("math.maximum", [*INPUT, {"y": 0.5}], lambda x: tf.maximum(x, 0.5)),
    "relu": ("nn.relu", [*INPUT, {"name": None}], tf.nn.relu),
    "relu6": ("nn.relu6", [*INPUT, {}], tf.nn.relu6),
    "swish": ("nn.silu", [*INPUT, {}], tf.nn.silu),
    "leaky": ("nn.leaky_relu", [*INPUT, {"alpha": 0.3}], lambda x: tf.nn.leaky_relu(x, 0.3)),
    "leaky by default": ("nn.leaky_relu", [*INPUT, {}], tf.nn.leaky_relu),
    "gelu": ("nn.gelu", [*INPUT, {"approximate": True}], lambda x: tf.nn.gelu(x, True)),
    "softmax": ("nn.softmax", [*INPUT, {"axis": 1}], lambda x: tf.nn.softmax(x, 1)),
    "sigmoid": ("math.sigmoid", [*INPUT, {}], tf.sigmoid),
    "exp": ("math.exp", [*INPUT, {}], tf.exp),
    "mean": (
        "math.reduce_mean",
        [*INPUT, {"axis": [1, 2], "keepdims": True}],
        lambda x: tf.reduce_mean(x, [1, 2], True),
    ),
    "old mean": ("compat.v1.reduce_mean", [*INPUT, {"axis": 1, "keep_dims": False}], lambda x: tf.reduce_mean(x, 1)),
    "reshape": ("reshape", [*INPUT, {"shape": [-1, 96]}], lambda x: tf.reshape(x, [-1, 96])),
    "transpose": ("compat.v1.transpose", [*INPUT, {"perm": [0, 2, 1, 3]}], lambda x: tf.transpose(x, [0, 2, 1, 3])),
    "concat": ("concat", [[*INPUT, {"axis": -1}], [*INPUT, {"axis": -1}]], lambda x: tf.concat([x, x], -1)),
    "clip": (
        "clip_by_value",
        [*INPUT, {"clip_value_min": 0.2, "clip_value_max": 0.4}],
        lambda x: tf.clip_by_value(x, 0.2, 0.4),
    ),
    "pad": (
        "compat.v1.pad",
        [*INPUT, {"paddings": [[0, 0], [1, 2], [0, 1], [0, 0]], "mode": "CONSTANT", "constant_values": 0}],
        lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    ),
    "resize": ("image.resize", [*INPUT, {"size": [4, 6]}], lambda x: tf.image.resize(x, [4, 6])),
    "slice": (
        "__operators__.getitem",
        [*INPUT, {"slice_spec": [{"start": None, "stop": None, "step": None}, {"start": 1, "stop": None, "step": 2}]}],
        lambda x: x[:, 1::2],
    ),
}
"""A function, its call as Keras 2 writes it, and what it computes."""


def config_of(function: str, call: list[Any]) -> dict[str, Any]:
    """A model of Keras 2 that is one TensorFlow function."""
    name = f"tf.{function}"
    kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_input_shape": [None, 8, 4, 3], "dtype": "float32", "ragged": False, "name": "x"},
            "name": "x",
            "inbound_nodes": [],
        },
        {
            "class_name": kind,
            "config": {"name": name, "trainable": True, "dtype": "float32", "function": function},
            "name": name,
            "inbound_nodes": [call],
        },
    ]
    ends = {"input_layers": [INPUT], "output_layers": [[name, 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends}}


def read(path: Path, config: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model of one function, with a Dense layer beside it that makes it a model with weights."""
    name = config["config"]["layers"][1]["name"]
    inner = config["config"]
    inner["layers"] += [
        {"class_name": "Flatten", "config": {"name": "flat"}, "name": "flat", "inbound_nodes": [[[*INPUT, {}]]]},
        {
            "class_name": "Dense",
            "config": {"name": "dense", "units": 2},
            "name": "dense",
            "inbound_nodes": [[["flat", 0, 0, {}]]],
        },
    ]
    inner["output_layers"] = [[name, 0, 0], ["dense", 0, 0]]
    weights = [np.ones((96, 2), np.float32), np.zeros(2, np.float32)]
    said = Said()
    return load_model(str(write_hdf5(path, config, {"dense": weights}, "2.8.0")), progress=said), said.lines


@pytest.mark.parametrize("name", CALLS)
def test_a_tensorflow_function_in_a_graph_becomes_the_same_operation(tmp_path: Path, name: str) -> None:
    function, call, computed = CALLS[name]
    model, lines = read(tmp_path / "net.h5", config_of(function, call))
    x = np.random.default_rng(0).random((2, 8, 4, 3)).astype(np.float32) * 8 - 2
    np.testing.assert_allclose(np.asarray(model(x)[0]), computed(x), rtol=1e-5, atol=1e-6)
    assert "TensorFlow functions as layers" in lines[0]
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(np.asarray(again(x)[0]), np.asarray(model(x)[0]))


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("nn.conv2d", [*INPUT, {"filters": [[1.0]], "strides": 1, "padding": "SAME"}]),
        ("nn.silu", [*INPUT, {"beta": 2.0}]),
        ("compat.v1.pad", [*INPUT, {"paddings": [[0, 0], [1, 1], [1, 1], [0, 0]], "mode": "REFLECT"}]),
        ("reshape", [*INPUT, {"shape": [-1, ["x", 0, 0]]}]),
        ("image.resize", [*INPUT, {"size": [4, 6], "method": "area"}]),
    ],
)
def test_a_function_without_an_exact_form_is_named(tmp_path: Path, function: str, call: list[Any]) -> None:
    with pytest.raises(
        LrfError, match=rf"it calls the TensorFlow function tf.{function} as a layer.*; build the model"
    ):
        read(tmp_path / "net.h5", config_of(function, call))


NODES: dict[str, tuple[str, list[list[Any]], dict[str, float], Any]] = {
    "scalar": ("RealDiv", [[*INPUT, {}]], {"1": 127.5}, lambda x: x / 127.5),
    "constant first": ("Sub", [[*INPUT, {}]], {"0": 1.0}, lambda x: 1.0 - x),
    "two tensors": ("AddV2", [[*INPUT, {}], [*INPUT, {}]], {}, lambda x: x + x),
    "one tensor": ("Relu6", [[*INPUT, {}]], {}, tf.nn.relu6),
}
"""An operation, its call, its constants, and what it computes."""


def node_config(operation: str, call: list[Any], constants: dict[str, float]) -> dict[str, Any]:
    config = config_of("node", call)
    layer = config["config"]["layers"][1]
    layer["class_name"] = "TensorFlowOpLayer"
    node = {"name": "node", "op": operation, "input": ["x", "y"], "attr": {"T": {"type": "DT_FLOAT"}}}
    layer["config"] = {"name": "tf.node", "trainable": True, "node_def": json.dumps(node), "constants": constants}
    return config


@pytest.mark.parametrize("name", NODES)
def test_a_node_of_a_graph_becomes_the_same_operation(tmp_path: Path, name: str) -> None:
    operation, call, constants, computed = NODES[name]
    model, _ = read(tmp_path / "net.h5", node_config(operation, call, constants))
    x = np.random.default_rng(0).random((2, 8, 4, 3)).astype(np.float32) * 8 - 2
    np.testing.assert_allclose(np.asarray(model(x)[0]), computed(x), rtol=1e-5, atol=1e-6)


def test_a_node_without_an_exact_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"it calls the TensorFlow function tf.Conv2D as a layer"):
        read(tmp_path / "net.h5", node_config("Conv2D", [[*INPUT, {}]], {"1": 2.0}))
