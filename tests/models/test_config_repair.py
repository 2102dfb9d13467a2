"""A file of Keras 2 whose configuration Keras 3 refuses gives the network that was saved, and one line says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers
from support.old_files import check_read, entries, of_class, old_calls, randomized, rename_weights, write_old

from lrf_optuna.errors import LrfError
from lrf_optuna.models.load import load_model

Config = dict[str, Any]
SUFFIXES = (".h5", ".keras")


def sequence(*parts: Any, shape: tuple[int, ...] = (8, 8, 3)) -> keras.Model:
    return randomized(keras.Sequential([keras.Input(shape), *parts, layers.Flatten(), layers.Dense(3)]))


def graph(function: Callable[[Any], Any], shape: tuple[int, ...] = (8, 8, 3)) -> keras.Model:
    inputs = keras.Input(shape)
    return randomized(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(function(inputs)))))


def convolutions() -> keras.Model:
    parts = layers.DepthwiseConv2D(3), layers.SeparableConv2D(5, 3), layers.Conv2DTranspose(4, 3)
    return sequence(*parts, layers.BatchNormalization())


def recurrent() -> keras.Model:
    parts = layers.LSTM(5, return_sequences=True), layers.Bidirectional(layers.GRU(4, return_sequences=True))
    return sequence(*parts, layers.SimpleRNN(4), shape=(7, 6))


def noisy() -> keras.Model:
    return sequence(layers.Conv2D(4, 3), layers.Dropout(0.2), layers.SpatialDropout2D(0.2))


def nested() -> keras.Model:
    base_input = keras.Input((8, 8, 3))
    base = keras.Model(base_input, layers.Conv2D(4, 3, name="inner")(base_input), name="base")
    top = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(5, 3), layers.ReLU()], name="top")
    return graph(lambda x: top(base(x)))


def attention() -> keras.Model:
    def function(x: Any) -> Any:
        return layers.Attention()([layers.MultiHeadAttention(2, 4)(x, x), x])

    return graph(function, (6, 5))


def nested_output() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    head = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)], name="head")
    return randomized(keras.Model(inputs, head(inputs)))


def states() -> keras.Model:
    def function(x: Any) -> Any:
        outputs, *inner = layers.LSTM(5, return_state=True)(x)
        return layers.Add()([outputs, layers.LSTM(5)(x, initial_state=inner)])

    return graph(function, (7, 4))


def sequential_outputs(config: Config) -> None:
    old_calls(config)
    for model in [entry["config"] for entry in entries(config) if "output_layers" in entry["config"]]:
        for end in model["output_layers"]:
            end[1] += end[0] == "head"


def set_all(names: tuple[str, ...], **options: Any) -> Callable[[Config], None]:
    """A change that gives all layers of some classes more options."""

    def change(config: Config) -> None:
        for layer in of_class(config, *names):
            layer.update(options)

    return change


def without_input_layer(config: Config) -> None:
    model = config["config"]
    first = model["layers"].pop(0)["config"]
    shape = {"batch_input_shape": first["batch_shape"], "input_dtype": first["dtype"]}
    model["layers"][0]["config"].update(shape)


def policies(config: Config) -> None:
    for layer in of_class(config, "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"):
        layer["dtype"] = {"class_name": "Policy", "config": {"name": "float32"}}


def slashes(config: Config) -> None:
    config.update({"config": eval(repr(config["config"]).replace("'inner'", "'block/inner'"))})


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Config], Any], str]] = {
    "groups": (
        convolutions,
        set_all(("DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"), groups=1),
        "groups of DepthwiseConv2D, groups of SeparableConv2D, groups of Conv2DTranspose",
    ),
    "initializers of other layers": (
        convolutions,
        set_all(("SeparableConv2D",), kernel_initializer="zeros", kernel_regularizer=None),
        "kernel_initializer of SeparableConv2D, kernel_regularizer of SeparableConv2D",
    ),
    "policies": (convolutions, policies, "a dtype policy of Keras 2 (3 times)"),
    "no input layer": (convolutions, without_input_layer, "an input layer from batch_input_shape"),
    "recurrent": (
        recurrent,
        set_all(("LSTM", "GRU", "SimpleRNN"), time_major=False, implementation=2),
        "time_major of LSTM, implementation of LSTM, time_major of GRU",
    ),
    "noise": (noisy, set_all(("Dropout",), noise_shape=2), "noise_shape that is a number"),
    "trainable": (noisy, set_all(("SpatialDropout2D",), trainable=True), "trainable of SpatialDropout2D"),
    "nested": (nested, old_calls, "calls of nested models (2 times)"),
    "nested output": (nested_output, sequential_outputs, "calls of nested models"),
    "states": (states, old_calls, "initial states of recurrent layers"),
    "attention": (attention, old_calls, "tensors among the options of calls"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_configuration_of_keras_2_gives_the_network_that_was_saved(tmp_path: Path, name: str, suffix: str) -> None:
    build, change, words = CHANGES[name]
    model = build()
    lines = check_read(write_old(tmp_path / f"net{suffix}", model, change), model)
    assert len(lines) == 1
    assert f"net{suffix} of Keras 2.15.0, read as Keras 3 writes it: " in lines[0]
    assert words in lines[0]


@pytest.mark.parametrize("axis", [[3], "ListWrapper([3])", {"class_name": "ListWrapper", "items": [3]}], ids=str)
def test_an_axis_in_a_list_is_that_axis(tmp_path: Path, axis: Any) -> None:
    model = convolutions()
    path = write_old(tmp_path / "net.keras", model, set_all(("BatchNormalization",), axis=axis))
    assert "an axis in a list" in check_read(path, model)[0]


def test_a_sequential_configuration_may_be_a_list(tmp_path: Path) -> None:
    model = convolutions()

    def change(config: Config) -> None:
        without_input_layer(config)
        config["config"] = config["config"]["layers"]

    assert "a list" in check_read(write_old(tmp_path / "net.h5", model, change, "2.0.8"), model)[0]


MODULES = (
    ("keras.src.engine.functional", "keras.src.layers.convolutional.conv2d"),
    ("keras.engine.functional", "keras.layers.convolutional"),
    ("tensorflow.python.keras.engine.functional", "tensorflow.python.keras.layers"),
    ("tf_keras.src.engine.functional", "tf_keras.layers"),
)


@pytest.mark.parametrize(("of_model", "of_layers"), MODULES)
def test_classes_of_old_modules_are_those_of_keras(tmp_path: Path, of_model: str, of_layers: str) -> None:
    model = nested()

    def change(config: Config) -> None:
        for entry in entries(config):
            if entry["class_name"] == "Functional":
                entry["module"] = of_model
            elif entry.get("module") == "keras.layers":
                entry["module"] = of_layers

    assert "old module paths" in check_read(write_old(tmp_path / "net.keras", model, change), model)[0]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_with_a_list_of_one_output_has_one_output(tmp_path: Path, suffix: str) -> None:
    model = nested()
    read = load_model(str(write_old(tmp_path / f"net{suffix}", model, old_calls)))
    assert read.get_layer("base").output.shape == (None, 6, 6, 4)
    assert read.output.shape == (None, 3)


def test_a_layer_whose_name_has_a_slash_gets_a_name_without(tmp_path: Path) -> None:
    model = nested()
    path = write_old(tmp_path / "net.keras", model, slashes)
    assert "slashes in names of layers" in check_read(path, model)[0]
    assert load_model(str(path)).get_layer("base").get_layer("block_inner")


def test_the_paths_of_weights_may_be_those_of_windows(tmp_path: Path) -> None:
    model = nested()
    model.save(path := tmp_path / "net.keras")
    rename_weights(path, lambda name: name.replace("/", "\\"))
    with pytest.raises(ValueError, match=r"could not be loaded|expected"):
        keras.models.load_model(path)
    assert "paths of its weights" in check_read(path, model)[0]


def test_a_file_of_today_is_read_without_a_word(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for build in (convolutions, recurrent, noisy, nested):
            model = build()
            model.save(path := tmp_path / f"net{suffix}")
            assert not check_read(path, model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": 3}, "Unrecognized keyword arguments passed to DepthwiseConv2D: {'groups': 3}"),
        ({"colour": 7}, "Unrecognized keyword arguments passed to DepthwiseConv2D: {'colour': 7}"),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_option_that_means_something_else_is_refused_by_its_name(
    tmp_path: Path, options: Config, words: str, suffix: str
) -> None:
    path = write_old(tmp_path / f"net{suffix}", convolutions(), set_all(("DepthwiseConv2D",), **options))
    with pytest.raises(LrfError) as error:
        load_model(str(path))
    assert str(error.value).startswith(f"cannot load {path}: {words}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_class_of_another_package_is_not_taken_for_the_layer_of_that_name(tmp_path: Path, suffix: str) -> None:
    def change(config: Config) -> None:
        for entry in entries(config):
            if entry["class_name"] == "DepthwiseConv2D":
                entry["class_name" if suffix == ".h5" else "registered_name"] = "Mine>DepthwiseConv2D"
                entry["module"] = entry.get("module") and "my_layers"

    def plain(config: Config) -> None:
        change(config)
        for entry in entries(config):
            if entry.get("module", "") is None:
                del entry["module"]

    with pytest.raises(LrfError, match="it uses the custom layer 'DepthwiseConv2D'; load it in a function"):
        load_model(str(write_old(tmp_path / f"net{suffix}", convolutions(), plain)))
