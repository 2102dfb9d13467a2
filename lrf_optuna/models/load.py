"""Trained networks by path or name, and the nets of the zoo, which are trained on first use.

The name of a cached net of the zoo has a checksum of what it was trained on, so a net of other images is not used.
Keras is imported only where a model is there to load: a wrong path is refused at once.
"""

from __future__ import annotations

import importlib
import math
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.data.dataset import Data
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import write_whole
from lrf_optuna.models.load_errors import reason_of
from lrf_optuna.models.model_files import MODEL_FILES, from_file
from lrf_optuna.progress import SILENT, Progress

if TYPE_CHECKING:
    import keras

SUFFIXES = (".keras", ".h5", ".hdf5")
"""Suffixes of model files, in small letters: such a path that is not there is a missing file."""
ZOO_BATCH = 64
"""Images of a training step of a net of the zoo; the digits net reaches 98 % with it in eight epochs."""
ZOO_RATE = 2e-3
"""The first learning rate of a net of the zoo, for Adam; it falls to 0 by a cosine."""
ZOO_IMAGES = 400_000
"""Images that a net of the zoo is trained on, counted again in every epoch."""
ZOO_EPOCHS = (5, 8)
"""Epochs of a net of the zoo, at least and at most."""


def load_model(
    path: str,
    *,
    cache: Path | None = None,
    data: Data | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> keras.Model:
    """The trained network that `path` means: a file of Keras, zoo:NAME, keras:NAME or package.module:function.

    A file may have any suffix; one of Keras 1 or 2 is repaired in memory, which `progress` is told in one line. A net
    of the zoo is trained on `data.train` and kept in the folder `cache`. Raises LrfError where the model is missing,
    unreadable or untrained.
    """
    if path.startswith("zoo:"):
        return from_zoo(path.removeprefix("zoo:"), cache, data, seed, progress)
    if path.startswith("keras:"):
        model = from_applications(path.removeprefix("keras:"))
    elif Path(path).exists() or Path(path).suffix.lower() in SUFFIXES:
        model = from_file(Path(path), progress)
    elif ":" in path:
        model = from_function(path)
    else:
        raise LrfError(f"{path} is no model: give {MODEL_FILES}, zoo:NAME, keras:NAME or package.module:function")
    if not model.built or not model.weights:
        raise LrfError(f"the model of {path} has no weights yet: build and train it first")
    return model


def load_to_list(path: str, progress: Progress = SILENT) -> keras.Model:
    """The network that `path` means, where only its layers are of interest: a net of the zoo stays untrained."""
    if not path.startswith("zoo:"):
        return load_model(path, progress=progress)
    from lrf_optuna.models.zoo import ZOO

    name = path.removeprefix("zoo:")
    return lookup(ZOO, name, "net of the zoo")(0, name)


def describe_input(model: keras.Model) -> tuple[OpenShape, int]:
    """The shape (H, W, C) of the images that the model takes, with None for any size, and its number of classes.

    Raises LrfError for several inputs or outputs, and where the output is not one number for each class.
    """
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        given = f"{len(inputs)} inputs and {len(outputs)} outputs"
        raise LrfError(f"the model should be functional or Sequential with one input and one output, but has {given}")
    before, after = tuple(inputs[0].shape), tuple(outputs[0].shape)
    if len(before) < 2:
        raise LrfError(f"the model should take images (N, H, W, C) or other arrays, but takes {before}")
    if len(after) != 2 or after[1] is None:
        raise LrfError(f"the model should give one number a class (N, classes), but gives {after}")
    return before[1:], after[1]


def from_applications(name: str) -> keras.Model:
    """A network of keras.applications with its ImageNet weights, which Keras downloads on first use."""
    from keras import applications

    networks = {key: network for key, network in vars(applications).items() if key[0].isupper()}
    network = lookup(networks, name, "network of keras.applications")
    try:
        return network(weights="imagenet")
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise LrfError(
            f"could not download keras:{name} ({reason_of(str(error))}); give a .keras file instead"
        ) from error


def from_function(path: str) -> keras.Model:
    """The model that a user's function returns. Raises LrfError where it returns none."""
    import keras

    model = import_function(path)()
    if not isinstance(model, keras.Model):
        raise LrfError(f"{path} should return a keras.Model, but returned {type(model).__name__}")
    return model


def import_function(path: str) -> Any:
    """A user's `package.module:function`; the current directory can be imported, as with `python -m`."""
    module_name, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LrfError(f"cannot import {path} (package.module:function): {error}") from error


def from_zoo(name: str, cache: Path | None, data: Data | None, seed: int, progress: Progress) -> keras.Model:
    """A net from the cache if it was trained on the same images with the same seed, or else trained now."""
    from lrf_optuna.models.zoo import ZOO

    build = lookup(ZOO, name, "net of the zoo")
    if data is None:
        raise LrfError(f"zoo:{name} is trained on first use: give it data")
    settings = f"{data.preprocess} {data.augment}".encode()
    train = (np.asarray(data.train.pixels).tobytes(), data.train.labels.tobytes(), settings)
    identity = f"{name}_seed{seed}_{zlib.crc32(b''.join(train)):08x}"
    file = cache / "original.keras" if cache else None
    if file and file.is_file():
        cached = from_file(file)
        if cached.name == identity:
            return cached
    model = build(seed, identity)
    given, wanted = (data.train.pixels.shape[1:], data.classes), describe_input(model)
    if given != wanted:
        net = f"{wanted[0]} images in {wanted[1]} classes"
        raise LrfError(f"this net of the zoo takes {net}, but the data are {given[0]} in {given[1]}")
    fit_classifier(model, data, seed, progress)
    if file:
        write_whole(file, model.save)
    return model


def fit_classifier(model: keras.Model, data: Data, seed: int, progress: Progress) -> None:
    """Train with Adam and a cosine schedule on the training images; `model` stays uncompiled."""
    import keras

    rng = np.random.default_rng(seed)
    epochs = int(np.clip(ZOO_IMAGES // len(data.train), *ZOO_EPOCHS))
    trainer = keras.Model(model.inputs, model.outputs)  # shares the layers
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(ZOO_RATE, epochs * math.ceil(len(data.train) / ZOO_BATCH))
    trainer.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    label = f"training zoo:{model.name.partition('_seed')[0]}"
    with progress.task(label, epochs) as step:
        for _ in range(epochs):
            for x, y in data.epoch(ZOO_BATCH, rng):
                accuracy = trainer.train_on_batch(x, y[OUTPUT], return_dict=True)["accuracy"]
            step(1, f"training accuracy {accuracy:.1%}")
            trainer.reset_metrics()
