"""Trained networks by path or name, and the nets of the zoo, which are trained on first use.

A net of the zoo is cached under a name that says what it was trained on, so a cache is never taken for another's.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.data.dataset import Data, batches
from lrf_optuna.data.sources import OpenShape, Pixels
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import write_whole
from lrf_optuna.models.zoo import ZOO

if TYPE_CHECKING:
    import keras

Progress = Callable[[int, int, float], None]  # epoch, epochs, accuracy on what was trained on in 0..1

BATCH = 64
RATE = 2e-3
IMAGES_SEEN = 400_000  # by a net of the zoo, in 5 to 8 epochs


def load_model(
    path: str,
    *,
    cache: Path | None = None,
    data: Data | None = None,
    seed: int = 0,
    fit_progress: Progress | None = None,
) -> keras.Model:
    """The trained network that `path` means: a .keras or .h5 file, zoo:NAME, keras:NAME or package.module:function.

    A net of the zoo is trained on `data.train` and kept in the folder `cache`; `fit_progress` hears of every epoch.
    Raises an LrfError in one line for what is missing, unreadable or untrained.
    """
    if path.startswith("zoo:"):
        return _from_zoo(path.removeprefix("zoo:"), cache, data, seed, fit_progress)
    if path.startswith("keras:"):
        model = _from_applications(path.removeprefix("keras:"))
    elif Path(path).suffix in (".keras", ".h5"):
        model = _from_file(Path(path))
    elif ":" in path:
        model = _from_function(path)
    else:
        raise LrfError(
            f"{path} is no model: give a .keras or .h5 file, zoo:NAME, keras:NAME or package.module:function"
        )
    if not model.built or not model.weights:
        raise LrfError(f"the model of {path} has no weights yet: build and train it first")
    return model


def describe_input(model: keras.Model) -> tuple[OpenShape, int]:
    """The shape (H, W, C) of the images that the model takes, None for any, and the number of its outputs.

    Raises an LrfError for several inputs or outputs, and for other things than images in and classes out.
    """
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        found = f"{len(inputs)} inputs and {len(outputs)} outputs"
        raise LrfError(f"the model should be functional or Sequential with one input and one output, but has {found}")
    taken, given = tuple(inputs[0].shape), tuple(outputs[0].shape)
    if len(taken) < 2:
        raise LrfError(f"the model should take images (N, H, W, C) or other arrays, but takes {taken}")
    if len(given) != 2 or given[1] is None:
        raise LrfError(f"the model should give one number a class (N, classes), but gives {given}")
    return taken[1:], given[1]


def _from_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise LrfError(f"no such model file: {path}")
    import keras

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever broke inside: ValueError, TypeError, KeyError, OSError
        raise LrfError(f"cannot load {path}: {_reason(str(error))}") from error


def load_like(path: Path, model: keras.Model) -> keras.Model:
    """The model in a file whose custom layers and activations are those of `model`, registered or not."""
    import keras

    with keras.saving.custom_object_scope(custom_objects(model)):
        return _from_file(path)


def custom_objects(model: keras.Model) -> dict[str, Any]:
    """Name -> class or function, for all in the layers of a model that Keras does not know by itself."""
    values = [value for layer in model._flatten_layers() for value in (type(layer), getattr(layer, "activation", None))]
    found = [value for value in values if isinstance(value, type) or inspect.isfunction(value)]
    return {value.__name__: value for value in found if not value.__module__.startswith("keras.")}


def _reason(message: str) -> str:
    """What Keras says at length, in one line."""
    function = "load it in a function and give package.module:function as the model"
    custom = re.search(r"Could not locate class '([^']+)'|Unknown layer: '([^']+)'", message)
    if custom:
        name = (custom[1] or custom[2]).rpartition(">")[2]
        return f"it uses the custom layer {name!r}; {function}"
    if "`Lambda` layer" in message:
        return f"it has a Lambda layer, which is code that Keras does not run from a file; {function}"
    return message.strip().splitlines()[0].removesuffix(".")[:200] if message.strip() else "the file is broken"


def _from_applications(name: str) -> keras.Model:
    from keras import applications

    known = {key: make for key, make in vars(applications).items() if key[0].isupper()}
    make = lookup(known, name, "network of keras.applications")
    try:
        return make(weights="imagenet")
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise LrfError(
            f"could not download keras:{name} ({_reason(str(error))}); give a .keras file instead"
        ) from error


def _from_function(path: str) -> keras.Model:
    """What the user's function returns; the current directory is importable, as with `python -m`."""
    import keras

    module_name, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LrfError(f"cannot import {path} (package.module:function): {error}") from error
    model = function()
    if not isinstance(model, keras.Model):
        raise LrfError(f"{path} should return a keras.Model, but returned {type(model).__name__}")
    return model


def _from_zoo(
    name: str, cache: Path | None, data: Data | None, seed: int, fit_progress: Progress | None
) -> keras.Model:
    """The net from the cache if it was trained on the same images with the same seed, else trained now."""
    build = lookup(ZOO, name, "net of the zoo")
    if data is None:
        raise LrfError(f"zoo:{name} is trained on first use: give it data")
    identity = f"{name}_seed{seed}_{_fingerprint(data):08x}"
    file = cache / "original.keras" if cache else None
    if file and file.is_file():
        cached = _from_file(file)
        if cached.name == identity:
            return cached
    model = build(seed, identity)
    _fit(model, data, seed, fit_progress)
    if file:
        write_whole(file, model.save)
    return model


def _fingerprint(data: Data) -> int:
    """A checksum of all that training sees."""
    seen = (data.train.pixels.tobytes(), data.train.labels.tobytes(), f"{data.preprocess} {data.augment}".encode())
    return zlib.crc32(b"".join(seen))


def _fit(model: keras.Model, data: Data, seed: int, fit_progress: Progress | None) -> None:
    """Adam with a cosine schedule, on training images alone; `model` stays uncompiled."""
    import keras

    _check_fit(model, data)
    steps = -(-len(data.train) // BATCH)
    epochs = max(5, min(8, IMAGES_SEEN // len(data.train)))
    trainer = keras.Model(model.inputs, model.outputs)  # shares the layers
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * steps)
    trainer.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    report: dict[str, Any] = {}
    if fit_progress:
        after = lambda epoch, logs: fit_progress(epoch + 1, epochs, logs["accuracy"])  # noqa: E731
        report["callbacks"] = [keras.callbacks.LambdaCallback(on_epoch_end=after)]
    trainer.fit(_epochs(data, epochs, seed), epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0, **report)


def _epochs(data: Data, epochs: int, seed: int) -> Iterator[tuple[Pixels, Pixels]]:
    """The batches of all epochs, one after the other."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from batches(data.train, data.preprocess, BATCH, augment=data.augment, rng=rng)


def _check_fit(model: keras.Model, data: Data) -> None:
    shape, classes = describe_input(model)
    if (data.train.pixels.shape[1:], data.classes) != (shape, classes):
        have = f"the data are {data.train.pixels.shape[1:]} in {data.classes}"
        raise LrfError(f"this net of the zoo takes {shape} images in {classes} classes, but {have}")
