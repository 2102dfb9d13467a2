"""A copy of a layer has the layer's functions, whether a configuration can hold them or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from support.fitting import fit
from support.old_files import random_inputs, randomized

from lrf_optuna.decompositions.registry import choice_of, saving_methods
from lrf_optuna.models.custom_objects import custom_objects_of, what_loading_needs
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.layer_copies import copy_layer, keras_class_name
from lrf_optuna.models.layer_kinds import read_kernel, walk_layers
from lrf_optuna.models.plain_layers import with_plain_layers
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan


def gelu(x: Any) -> Any:
    """A function with the name of one of Keras that computes something else."""
    return 3 * x


def bent(x: Any) -> Any:
    return keras.ops.where(x > 0, x, 0.1 * x)


FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "tf.nn.silu": (tf.nn.silu, ""),
    "tf.nn.relu6": (tf.nn.relu6, ""),
    "tf.nn.leaky_relu": (tf.nn.leaky_relu, ""),
    "keras.ops": (keras.ops.softplus, ""),
    "layer": (layers.LeakyReLU(negative_slope=0.3), ""),
    "own function": (bent, "bent"),
    "own function with a name of Keras": (gelu, "activation_of_one"),
    "lambda": (lambda x: 2 * x, "activation_of_one"),
    "partial": (partial(tf.nn.leaky_relu, alpha=0.1), "activation_of_one"),
}
"""An activation, and the name under which a file has it if it is not of Keras."""
MAKERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "Conv2D": (lambda act: layers.Conv2D(12, 3, activation=act, name="one"), (8, 8, 6)),
    "Dense": (lambda act: layers.Dense(12, activation=act, name="one"), (7, 16)),
    "SeparableConv2D": (lambda act: layers.SeparableConv2D(12, 3, activation=act, name="one"), (8, 8, 6)),
    "Activation": (lambda act: layers.Activation(act, name="one"), (7, 16)),
    "LSTM": (lambda act: layers.LSTM(8, recurrent_activation="sigmoid", activation=act, name="one"), (7, 16)),
    "TimeDistributed": (lambda act: layers.TimeDistributed(layers.Dense(8, activation=act, name="one")), (7, 16)),
}


def network(kind: str, function: Any) -> keras.Model:
    make, shape = MAKERS[kind]
    inputs = keras.Input(shape)
    return randomized(keras.Model(inputs, layers.Dense(3, name="top")(layers.Flatten()(make(function)(inputs)))))


def outputs(model: Any, images: Any) -> np.ndarray[Any, Any]:
    return np.asarray(model(images))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_copied_network_has_the_same_functions(tmp_path: Path, kind: str, name: str) -> None:
    function, custom = FUNCTIONS[name]
    model = network(kind, function)
    images, path = random_inputs(model), tmp_path / "net.keras"
    copy = materialize(model, Plan(()), {})
    np.testing.assert_allclose(outputs(copy, images), outputs(model, images), rtol=1e-5, atol=1e-5)
    plain = with_plain_layers(model)
    assert (plain is model) == (name == "layer")
    plain.save(path)
    names = list(custom_objects_of(plain))
    owner = "lstm_cell" if kind == "LSTM" else "one"
    assert names == ([custom.replace("one", owner)] if custom else [])
    assert what_loading_needs(path, plain) == (
        f"to load {path}, keras.models.load_model needs custom_objects={{{names[0]!r}: ...}}" if custom else ""
    )


@pytest.mark.parametrize("kind", ["Conv2D", "Dense"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_chain_ends_in_the_layers_function(kind: str, name: str) -> None:
    model = network(kind, FUNCTIONS[name][0])
    layer = model.get_layer("one")
    site = next(site for site in find_sites(model).sites if site.name == "one")
    for method in saving_methods(site.op):
        choice = choice_of(site.op, method, 0.9)
        stages = fit(site.op, choice, read_kernel(layer), None)
        built = materialize(model, Plan.of({"one": choice}), {"one": stages})
        with np.errstate(all="ignore"):
            x = np.random.default_rng(0).normal(size=(64,)).astype(np.float32)
        last = [inner for _, inner in walk_layers(built.get_layer("one")) if getattr(inner, "activation", None)][-1]
        values = [np.asarray(one(keras.ops.convert_to_tensor(x))) for one in (last.activation, layer.activation)]
        np.testing.assert_allclose(*values, atol=1e-6)


def initial(shape: Any, dtype: Any = None) -> Any:
    return keras.ops.ones(shape, dtype)


class Initial(keras.initializers.Initializer):
    """An initializer that cannot be made again."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return keras.ops.full(shape, self.value, dtype)


@pytest.mark.parametrize("initializer", [initial, Initial(0.5), lambda shape, dtype=None: keras.ops.ones(shape, dtype)])
def test_initializers_have_no_part_in_a_trained_network(tmp_path: Path, initializer: Any) -> None:
    model = randomized(
        keras.Sequential(
            [
                keras.Input((8, 8, 6)),
                layers.Conv2D(12, 3, kernel_initializer=initializer, bias_initializer=initializer, name="one"),
                layers.BatchNormalization(gamma_initializer=initializer),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
    )
    plain, path = with_plain_layers(model), tmp_path / "net.keras"
    np.testing.assert_allclose(outputs(plain, random_inputs(model)), outputs(model, random_inputs(model)), atol=1e-6)
    plain.save(path)
    assert not custom_objects_of(plain)
    assert not what_loading_needs(path, plain)
    keras.models.load_model(path)


class Tolerant(layers.DepthwiseConv2D):
    """A layer that changes nothing but its from_config."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config.pop("groups", None)
        return super().from_config(config)


class Different(layers.Conv2D):
    """A layer that computes something else than its parent."""

    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


def test_a_subclass_that_changes_nothing_but_its_from_config_counts_as_its_layer(tmp_path: Path) -> None:
    parts = Tolerant(3, depth_multiplier=4, name="one"), Different(4, 3, name="two")
    model = randomized(keras.Sequential([keras.Input((8, 8, 6)), *parts, layers.Flatten(), layers.Dense(3)]))
    assert [keras_class_name(layer) for layer in model.layers[:2]] == ["DepthwiseConv2D", ""]
    rows = {row.path: row for row in find_sites(model).rows}
    assert "custom layer" not in rows["one"].reason
    assert rows["two"].reason == "custom layer Different: not known here"
    plain, path = with_plain_layers(model), tmp_path / "net.keras"
    assert [type(layer) for layer in plain.layers[:2]] == [layers.DepthwiseConv2D, Different]
    plain.save(path)
    assert "custom_objects={'Different': ...}" in what_loading_needs(path, plain)


def test_a_network_of_plain_layers_stays_the_same_object() -> None:
    model = network("Conv2D", "relu")
    assert with_plain_layers(model) is model


def test_a_copy_leaves_the_layer_as_it_was() -> None:
    function, layer = FUNCTIONS["partial"][0], MAKERS["Conv2D"][0](FUNCTIONS["partial"][0])
    copy = copy_layer(layer)
    assert layer.activation is function
    assert float(copy.activation(keras.ops.convert_to_tensor(-1.0))) == pytest.approx(-0.1)


class Offset(layers.Layer):
    """A layer with state that no file has."""

    offset = 0.0

    def call(self, inputs: Any) -> Any:
        return inputs + self.offset


def test_a_file_that_gives_other_outputs_is_told(tmp_path: Path) -> None:
    layer = Offset()
    layer.offset = 1.0
    model = keras.Sequential([keras.Input((8,)), layer, layers.Dense(3)])
    model.save(path := tmp_path / "net.keras")
    assert "gives other outputs when it is loaded" in what_loading_needs(path, model)
    path.write_text("hello")
    assert "cannot be loaded again" in what_loading_needs(path, model)


def test_a_lambda_layer_is_code_that_loading_has_to_allow(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((8,)), layers.Lambda(lambda x: 2 * x), layers.Dense(3)])
    model.save(path := tmp_path / "net.keras")
    assert what_loading_needs(path, model).endswith("load_model needs safe_mode=False, as it has Lambda layers")
