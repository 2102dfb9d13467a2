"""A model file is known by its first bytes; what cannot be read says why in one line, and what to do."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from support.old_files import check_read, old_calls, randomized, write_old

from lrf_optuna.errors import LrfError
from lrf_optuna.models.load import load_model


def small() -> keras.Model:
    return randomized(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)]))


@pytest.mark.parametrize("name", ["net.hdf5", "net.H5", "net.HDF5", "net.model", "net", "net.keras", "a:b.h5"])
def test_a_file_of_hdf5_may_have_any_suffix(tmp_path: Path, name: str) -> None:
    model = small()
    model.save(tmp_path / "saved.h5")
    (tmp_path / "saved.h5").rename(tmp_path / name)
    assert not check_read(tmp_path / name, model)


@pytest.mark.parametrize("name", ["net.zip", "net.KERAS", "net", "net.h5"])
def test_a_keras_file_may_have_any_suffix(tmp_path: Path, name: str) -> None:
    model = small()
    model.save(tmp_path / "saved.keras")
    (tmp_path / "saved.keras").rename(tmp_path / name)
    assert not check_read(tmp_path / name, model)


def test_an_old_file_may_have_any_suffix(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 1))
    base = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)], name="base")
    model = randomized(keras.Model(inputs, layers.Dense(2)(base(inputs))))
    path = write_old(tmp_path / "net.h5", model, old_calls)
    assert check_read(path.rename(tmp_path / "net.weights.best.hdf5"), model)


def test_bytes_of_a_user_may_come_before_those_of_hdf5(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "net.h5"
    model.save(path)
    with h5py.File(path) as old, h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
        for key, value in old.attrs.items():
            new.attrs[key] = value
    assert not check_read(tmp_path / "block.h5", model)


def test_an_unzipped_keras_file_is_read(tmp_path: Path) -> None:
    model = small()
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as whole:
        whole.extractall(tmp_path / "folder")
    assert not check_read(tmp_path / "folder", model)


def legacy_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense")["kernel:0"] = np.zeros((3, 2))


def folder_with(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"")

    return write


def zip_with(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as whole:
            whole.writestr(name, b"")

    return write


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("hello"), "it is no Keras file but something else; give a .keras, .h5 or"),
    "empty": (lambda path: path.write_bytes(b""), "it is no Keras file but empty"),
    "json": (lambda path: path.write_text(json.dumps({"class_name": "Sequential"})), "JSON text, which has no weights"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickle of Python"),
    "litert": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(20)), "a LiteRT model, which keeps no layers"),
    "npz": (zip_with("x.npy"), "an .npz of arrays"),
    "zip": (zip_with("data.pkl"), "a zip archive without a model"),
    "weights": (lambda path: small().save_weights(path), "it has weights and no layers; build the model in a function"),
    "old weights": (legacy_weights, "it has weights and no layers; build the model in a function, load the weights"),
    "saved model": (
        folder_with("saved_model.pb", "keras_metadata.pb"),
        "a SavedModel folder, .* with tf_keras",
    ),
    "folder": (folder_with("a.txt"), "is a folder, but no model of Keras"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_file_says_what_it_is(tmp_path: Path, name: str) -> None:
    write, words = BAD[name]
    path = tmp_path / ("net.weights.h5" if "weights" in name else "net.keras")
    write(path)
    with pytest.raises(LrfError, match=words) as error:
        load_model(str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_file_that_is_cut_off_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    small().save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(LrfError, match=r"cannot load .*net") as error:
        load_model(str(path))
    assert "\n" not in str(error.value)


class Mine(layers.Layer):
    """A layer that Keras cannot know when it loads a file."""

    def call(self, inputs: Any) -> Any:
        return inputs


class Other(Mine):
    """Another one."""


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_all_custom_layers_of_a_file_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    keras.Sequential([keras.Input((8, 8, 1)), Mine(), Other(), layers.Flatten(), layers.Dense(3)]).save(path)
    with pytest.raises(LrfError, match="it uses the custom layers 'Mine', 'Other'; load it in a function"):
        load_model(str(path))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_layer_that_keras_3_has_no_more_is_named(tmp_path: Path, suffix: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["class_name"] = "LocallyConnected2D"

    path = write_old(tmp_path / f"net{suffix}", small(), change)
    with pytest.raises(LrfError, match="uses the layer 'LocallyConnected2D', which Keras 3 does not have any more"):
        load_model(str(path))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_layer_of_keras_2_is_told_as_one(tmp_path: Path, suffix: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][1] |= {"class_name": "Lambda"}
        config["config"]["layers"][1]["config"] = {
            "name": "double",
            "trainable": True,
            "dtype": "float32",
            "function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA", "defaults": None, "closure": None}},
            "function_type": "lambda",
            "module": "__main__",
            "output_shape_type": "raw",
        }

    path = write_old(tmp_path / f"net{suffix}", small(), change)
    with pytest.raises(LrfError, match="it has a Lambda layer, which is code that Keras does not run from a file"):
        load_model(str(path))


@pytest.mark.parametrize("repaired", [False, True])
def test_a_file_that_does_not_say_the_shape_of_its_input_says_so(tmp_path: Path, repaired: bool) -> None:
    def change(config: dict[str, Any]) -> None:
        del config["config"]["layers"][0]
        config["config"].pop("build_input_shape", None)
        if repaired:
            config["config"]["layers"][1]["config"]["groups"] = None

    path = write_old(tmp_path / "net.h5", small(), change, "2.2.4")
    with pytest.raises(LrfError, match="it does not say the shape of its input; build the model in a function"):
        load_model(str(path))
