"""A run takes an old model file and networks with functions of their own, and says what its model needs to load."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from support.old_files import Config, Said, of_class, old_calls, randomized, write_old
from typer.testing import CliRunner

import lrf_optuna
from lrf_optuna.cli.app import app
from lrf_optuna.models.load import load_model

FAST: dict[str, Any] = {
    "trials": 4,
    "methods": ("svd", "tucker2"),
    "keep": (0.3, 0.6),
    "calibration": 16,
    "time_at_end": False,
}


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        f"{kind}_{part}": rng.random((n, 8, 8, 3), np.float32) if kind == "x" else np.arange(n) % 4
        for part, n in (("train", 96), ("test", 48))
        for kind in "xy"
    }


def network(activation: Any = "relu", **options: Any) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3), layers.BatchNormalization()], name="base"
    )
    x = layers.Conv2D(16, 3, activation=activation, name="conv", **options)(base(inputs))
    return randomized(keras.Model(inputs, layers.Dense(4, name="top")(layers.Flatten()(x))))


def keras_2(config: Config) -> None:
    old_calls(config)
    for layer in of_class(config, "DepthwiseConv2D"):
        layer["groups"] = 1


def test_an_old_file_is_listed_and_compressed(tmp_path: Path) -> None:
    path = write_old(tmp_path / "net.h5", network(), keras_2).rename(tmp_path / "net.hdf5")
    listed = CliRunner().invoke(app, ["layers", str(path)])
    assert listed.exit_code == 0, listed.output
    assert "conv" in listed.output
    assert "of Keras 2.15.0, read as Keras 3 writes it" in " ".join(listed.stderr.split())
    said = Said()
    small, result = lrf_optuna.compress(str(path), arrays(), tune=False, out=tmp_path / "out", progress=said, **FAST)
    assert len([line for line in said.lines if "of Keras 2.15.0, read as Keras 3 writes it: " in line]) == 1
    assert not [line for line in said.lines if "load_model needs" in line]
    assert small.count_params() == result.built.params < network().count_params()
    assert keras.models.load_model(tmp_path / "out" / "model.keras").count_params() == small.count_params()
    whole = {layer.name: layer.output.shape for layer in load_model(str(path)).layers}
    assert {layer.name: layer.output.shape for layer in small.layers if layer.name in whole}.items() <= whole.items()


def test_a_run_says_what_its_model_needs_to_load(tmp_path: Path) -> None:
    model = network(partial(tf.nn.leaky_relu, alpha=0.1), kernel_initializer=lambda shape, dtype=None: tf.ones(shape))
    said = Said()
    small, result = lrf_optuna.compress(model, arrays(), tune=False, out=tmp_path / "out", progress=said, **FAST)
    path = tmp_path / "out" / "models" / f"{result.chosen.trial}.keras"
    line = f"to load {path}, keras.models.load_model needs custom_objects={{'activation_of_conv': ...}}"
    assert line in said.lines
    loaded = keras.models.load_model(path, {"activation_of_conv": partial(tf.nn.leaky_relu, alpha=0.1)})
    x = arrays()["x_test"]
    np.testing.assert_allclose(np.asarray(loaded(x)), np.asarray(small(x)), atol=1e-6)
    again, _ = lrf_optuna.compress(model, arrays(), tune=False, out=tmp_path / "out", **FAST)
    np.testing.assert_allclose(np.asarray(again(x)), np.asarray(small(x)), atol=1e-6)


def test_a_file_that_is_no_model_ends_a_run_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    path.write_text("hello")
    np.savez(tmp_path / "data.npz", **arrays())
    given = ["run", "--model", str(path), "--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 2
    assert "it is no Keras file but something else" in " ".join(ran.output.split())
    assert not (tmp_path / "out").exists()
