"""Trained networks by path or name, and the nets of the zoo, which are trained on first use.

A net of the zoo is cached under a name that says what it was trained on, so a cache is never taken for another's.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.data import Data, batches
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.sources import Array, Shape

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


def describe_input(model: keras.Model) -> tuple[Shape, int]:
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
        _save(model, file)
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


def _epochs(data: Data, epochs: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """The batches of all epochs, one after the other."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from batches(data.train, data.preprocess, BATCH, augment=data.augment, rng=rng)


def _check_fit(model: keras.Model, data: Data) -> None:
    shape, classes = describe_input(model)
    if (data.train.pixels.shape[1:], data.classes) != (shape, classes):
        have = f"the data are {data.train.pixels.shape[1:]} in {data.classes}"
        raise LrfError(f"this net of the zoo takes {shape} images in {classes} classes, but {have}")


def _save(model: keras.Model, file: Path) -> None:
    """The whole file or none, even if the process ends midway."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.stem}.{os.getpid()}.keras")
    model.save(partial)
    partial.replace(file)


def digits_cnn(seed: int = 0, name: str = "digits_cnn") -> keras.Model:
    """An untrained VGG-like net for the 8 x 8 digits: 83 k parameters."""
    import keras
    from keras import layers

    init = _initializers(seed)
    x = inputs = keras.Input((8, 8, 1))
    for width in (32, 64):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=next(init))(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu", kernel_initializer=next(init))(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def lenet5(seed: int = 0, name: str = "lenet5") -> keras.Model:
    """The untrained LeNet-5 of Caffe: 431,080 parameters."""
    import keras
    from keras import layers

    init = _initializers(seed)
    x = inputs = keras.Input((28, 28, 1))
    for width in (20, 50):
        x = layers.MaxPooling2D()(layers.Conv2D(width, 5, kernel_initializer=next(init))(x))
    x = layers.Dense(500, activation="relu", kernel_initializer=next(init))(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def lenet300100(seed: int = 0, name: str = "lenet300100") -> keras.Model:
    """The untrained LeNet-300-100: three Dense layers, 266,610 parameters."""
    import keras
    from keras import layers

    init = _initializers(seed)
    inputs = keras.Input((28, 28, 1))
    x = layers.Flatten()(inputs)
    for width in (300, 100):
        x = layers.Dense(width, activation="relu", kernel_initializer=next(init))(x)
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def alexnet(seed: int = 0, name: str = "alexnet") -> keras.Model:
    """The untrained AlexNet (Krizhevsky et al. 2012) with its two groups, for 227 x 227 pixels: 60,965,224 parameters.

    Without the local response normalisation, which has no weights and no Keras layer.
    """
    import keras
    from keras import layers

    init = _initializers(seed)
    x = inputs = keras.Input((227, 227, 3))
    x = layers.Conv2D(96, 11, strides=4, activation="relu", kernel_initializer=next(init))(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for width, window, groups, pooled in ((256, 5, 2, True), (384, 3, 1, False), (384, 3, 2, False), (256, 3, 2, True)):
        shape = {"padding": "same", "groups": groups, "activation": "relu"}
        x = layers.Conv2D(width, window, **shape, kernel_initializer=next(init))(x)
        x = layers.MaxPooling2D(3, strides=2)(x) if pooled else x
    x = layers.Flatten()(x)
    for i in range(2):
        x = layers.Dense(4096, activation="relu", kernel_initializer=next(init))(x)
        x = layers.Dropout(0.5, seed=100 * seed + i)(x)
    return keras.Model(inputs, layers.Dense(1000, kernel_initializer=next(init))(x), name=name)


def squeezenet(seed: int = 0, name: str = "squeezenet") -> keras.Model:
    """The untrained SqueezeNet 1.1 (Iandola et al. 2016) for 224 x 224 pixels: 1,235,496 parameters."""
    import keras
    from keras import layers

    init = _initializers(seed)
    x = inputs = keras.Input((224, 224, 3))
    x = layers.Conv2D(64, 3, strides=2, activation="relu", kernel_initializer=next(init))(x)
    for stage in (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192),) * 2 + ((64, 256),) * 2):
        x = layers.MaxPooling2D(3, strides=2)(x)
        for squeeze, expand in stage:
            x = _fire(x, squeeze, expand, init)
    x = layers.Dropout(0.5, seed=seed)(x)
    x = layers.Conv2D(1000, 1, activation="relu", kernel_initializer=next(init))(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name=name)


def _fire(x: Any, squeeze: int, expand: int, init: Iterator[keras.Initializer]) -> Any:
    """A fire module: 1 x 1 to a few channels, then 1 x 1 and 3 x 3 side by side."""
    from keras import layers

    x = layers.Conv2D(squeeze, 1, activation="relu", kernel_initializer=next(init))(x)
    wide = [layers.Conv2D(expand, k, padding="same", kernel_initializer=next(init))(x) for k in (1, 3)]
    return layers.ReLU()(layers.Concatenate()(wide))


def _initializers(seed: int) -> Iterator[keras.Initializer]:
    """A He initializer a layer, each with a seed of its own, so that no global seed is needed."""
    import keras

    return (keras.initializers.HeNormal(seed=100 * seed + layer) for layer in count())


ZOO: dict[str, Callable[[int, str], keras.Model]] = {
    "alexnet": alexnet,
    "digits_cnn": digits_cnn,
    "lenet300100": lenet300100,
    "lenet5": lenet5,
    "squeezenet": squeezenet,
}
