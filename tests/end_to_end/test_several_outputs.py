"""Networks of several inputs and outputs go through `compress`, with dicts of arrays and with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.compress import compress

FAST: dict[str, Any] = {
    "trials": 12,
    "methods": ("svd", "channel_svd"),
    "keep": (0.2, 0.5),
    "calibration": 128,
    "population": 6,
    "target": {"params": 0.7},
    "time_at_end": False,
}


@pytest.fixture(scope="module")
def arrays(digits: Data) -> dict[str, Any]:
    """Digits and the ink of their rows in; the digit and the ink of the whole out."""
    found = {}
    for part in ("train", "val", "test"):
        x, y = digits.preprocess(getattr(digits, part).pixels), getattr(digits, part).labels
        rows = x.sum(axis=(2, 3))
        found[f"x_{part}"] = {"picture": x, "rows": rows}
        found[f"y_{part}"] = {"digit": y, "ink": rows.sum(axis=1, keepdims=True) / 10}
    return found


@pytest.fixture(scope="module")
def model(arrays: dict[str, Any]) -> Any:
    """A trained network whose outputs are a dict; the layers behind the keys have other names."""
    keras.utils.set_random_seed(0)
    picture, rows = keras.Input((8, 8, 1), name="picture"), keras.Input((8,), name="rows")
    x = layers.Flatten()(layers.Conv2D(12, 3, activation="relu", name="conv")(picture))
    x = layers.Concatenate()([x, layers.Dense(12, activation="relu", name="sums")(rows)])
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    heads = {"digit": layers.Dense(10, activation="softmax", name="top")(x), "ink": layers.Dense(1, name="sum")(x)}
    found = keras.Model({"picture": picture, "rows": rows}, heads)
    found.compile(keras.optimizers.Adam(3e-3), {"digit": "sparse_categorical_crossentropy", "ink": "mse"})
    found.fit(arrays["x_train"], arrays["y_train"], epochs=6, batch_size=64, verbose=0)
    return found


def test_dicts_of_arrays_are_taken_and_every_output_has_its_metric(
    model: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    small, result = compress(model, arrays, tune=1, out=tmp_path, **FAST)
    assert result.metric == "mean of accuracy and R2"
    assert result.tuned is not None
    assert set(result.tuned.by_output) == {"accuracy, digit", "R2, ink"}
    assert result.tuned.test_metric == pytest.approx(np.mean(list(result.tuned.by_output.values())))
    assert result.original.test_metric > 0.9
    assert result.tuned.test_metric > 0.85
    outputs = small.predict(arrays["x_test"], verbose=0)
    right = np.mean(outputs["digit"].argmax(axis=1) == arrays["y_test"]["digit"])
    assert result.tuned.by_output["accuracy, digit"] == pytest.approx(right, abs=1e-9)


def test_a_file_with_the_names_of_inputs_and_outputs_is_taken_as_the_dicts_are(
    model: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    flat = {f"{part}.{name}": array for part, own in arrays.items() for name, array in own.items()}
    np.savez(tmp_path / "data.npz", **flat)
    model.save(tmp_path / "net.keras")
    _, one = compress(model, arrays, tune=False, out=tmp_path / "dicts", **FAST)
    paths = tmp_path / "net.keras", tmp_path / "data.npz"
    _, other = compress(*paths, tune=False, out=tmp_path / "files", **FAST)
    assert one.built is not None
    assert other.built is not None
    assert one.chosen.plan == other.chosen.plan
    assert one.built.by_output == pytest.approx(other.built.by_output, abs=1e-6)


def test_an_output_without_labels_is_compared_with_the_original(
    model: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    given = {part: {"digit": own["digit"]} if part[0] == "y" else own for part, own in arrays.items()}
    _, result = compress(model, given, tune=False, out=tmp_path, **FAST)
    assert result.metric == "mean of accuracy and explained by the original"
    assert result.original.by_output["explained by the original, ink"] == 1


def test_labels_of_an_unknown_output_are_refused_with_the_names_there_are(
    model: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    given = arrays | {"y_train": {"digit": arrays["y_train"]["digit"], "sum": arrays["y_train"]["ink"]}}
    with pytest.raises(LrfError, match="y_train has the unknown sum; the model's outputs: digit, ink"):
        compress(model, given, out=tmp_path / "out", **FAST)
    assert not (tmp_path / "out").exists()
