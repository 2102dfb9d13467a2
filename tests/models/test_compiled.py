"""The losses that a model was compiled with are read from the model and from its file, which tell its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

from lrf_optuna.models.compiled import LOSS_FAMILIES, compiled_losses, loss_family

NUMBERS, BINARY = "mean_squared_error", "binary_crossentropy"
LOSSES: dict[str, tuple[Any, str]] = {
    "text": ("mse", "numbers"),
    "object": (keras.losses.BinaryCrossentropy(from_logits=True), "binary"),
    "function": (keras.losses.mean_absolute_error, "numbers"),
    "sparse": ("sparse_categorical_crossentropy", "classes"),
    "focal": (keras.losses.BinaryFocalCrossentropy(), "binary"),
}


def model_of(loss: Any, outputs: int = 1) -> Any:
    """A compiled model of one or two outputs."""
    inputs = keras.Input((6,))
    heads = [layers.Dense(1, name=name)(inputs) for name in ("one", "two")[:outputs]]
    model = keras.Model(inputs, heads[0] if outputs == 1 else heads)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("suffix", ["", ".keras", ".h5"])
def test_the_loss_tells_the_family_of_the_task(how: str, suffix: str, tmp_path: Path) -> None:
    loss, family = LOSSES[how]
    model, path = model_of(loss), tmp_path / f"net{suffix}"
    if suffix:
        model.save(path)
        model = keras.models.load_model(path, compile=False)
    (name,) = compiled_losses(model, str(path) if suffix else "").values()
    assert loss_family(name) == family


@pytest.mark.parametrize("suffix", ["", ".keras", ".h5"])
@pytest.mark.parametrize("losses", [["mse", BINARY], {"one": "mse", "two": keras.losses.BinaryCrossentropy()}])
def test_each_of_several_outputs_has_its_own_loss(losses: Any, suffix: str, tmp_path: Path) -> None:
    model, path = model_of(losses, 2), tmp_path / f"net{suffix}"
    if suffix:
        model.save(path)
        model = keras.models.load_model(path, compile=False)
    found = compiled_losses(model, str(path) if suffix else "")
    assert {name: loss_family(loss) for name, loss in found.items()} == {"one": "numbers", "two": "binary"}


def test_a_model_that_was_not_compiled_and_a_file_that_is_none_have_no_loss(tmp_path: Path) -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(1)(inputs))
    (tmp_path / "text.keras").write_text("no model")
    assert compiled_losses(model) == compiled_losses(model, str(tmp_path / "text.keras")) == {}
    assert compiled_losses(model, "zoo:digits") == {}


def test_an_unknown_loss_has_no_family() -> None:
    assert loss_family("my_loss") == ""
    names = [name for family in LOSS_FAMILIES.values() for name in family]
    assert len(names) == len(set(names))
