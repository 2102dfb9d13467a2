"""What a model was compiled with: its losses tell what its outputs are for. The model itself is loaded without them."""

from __future__ import annotations

import json
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrf_optuna.models.outputs import output_names

BINARY, NUMBERS, CLASSES = "binary", "numbers", "classes"
LOSS_FAMILIES = {
    BINARY: ("binary_crossentropy", "bce", "binary_focal_crossentropy", "hinge", "squared_hinge", "dice", "tversky"),
    CLASSES: (
        *("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy"),
        *("categorical_hinge", "kl_divergence", "kld", "kullback_leibler_divergence"),
    ),
    NUMBERS: (
        *("mean_squared_error", "mse", "mean_absolute_error", "mae", "huber", "huber_loss", "log_cosh", "logcosh"),
        *("mean_absolute_percentage_error", "mape", "mean_squared_logarithmic_error", "msle", "poisson"),
    ),
}
"""Family -> the losses of Keras, by their names in snake case, that outputs of this family are trained with."""
TUNED_WITH = ("mean_absolute_error", "mae", "huber", "huber_loss", "log_cosh", "logcosh")
"""Losses that a fine-tune takes over from `compile`; for others the task's own loss is the same or better behaved."""


def compiled_losses(model: Any, path: str = "") -> dict[str, str]:
    """Output -> the loss that the model was compiled with, in snake case; empty where it is not known.

    `path`: the model's file, which keeps the loss although the model is loaded without it.
    """
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if loss is None:
        with suppress(OSError, zipfile.BadZipFile, KeyError, ValueError):  # no such file, or one that is no model
            loss = loss_in_file(Path(path))
    names = output_names(model)
    if isinstance(loss, dict) and not {"class_name", "config"} & loss.keys():
        return {name: found for name, one in loss.items() if (found := loss_name(one))}
    each = loss if isinstance(loss, list | tuple) and len(loss) == len(names) else [loss] * len(names)
    return {name: found for name, one in zip(names, each, strict=True) if (found := loss_name(one))}


def loss_in_file(path: Path) -> Any:
    """The loss in a .keras or HDF5 file, as Keras wrote it; None where there is none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json")).get("compile_config") or {}
    else:
        import h5py

        with h5py.File(path) as file:
            text = file.attrs.get("training_config", "{}")
            config = json.loads(text) or {}
    return config.get("loss")


def loss_name(loss: Any) -> str:
    """The name of a loss in snake case: of a text, a Keras object, a function, or what Keras writes of these."""
    if isinstance(loss, dict):
        config = loss.get("config")
        loss = config if loss.get("class_name") == "function" else loss.get("class_name")
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__ if loss else "")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name).rpartition(">")[2]).lower()


def loss_family(name: str) -> str:
    """The family of a loss; empty for an unknown one."""
    return next((family for family, names in LOSS_FAMILIES.items() if name in names), "")
