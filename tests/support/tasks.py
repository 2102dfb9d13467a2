"""A tiny trained network of every kind of task, with arrays of the digits that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from lrf_optuna.data.dataset import Data

Arrays = dict[str, Any]
Array = np.ndarray[Any, Any]
CROSS_ENTROPY, YES_OR_NO = "sparse_categorical_crossentropy", "binary_crossentropy"


@dataclass(frozen=True)
class Trained:
    """How a network of a kind of task is made.

    `labels`: (preprocessed images, digits) -> labels; None where there are none. `maps`: whether the head sees maps
    rather than features. `least`: what the metric of the trained network is at least.
    """

    head: Callable[[], Any]
    loss: Any
    labels: Callable[[Array, Array], Array] | None
    least: float
    maps: bool = False


def several_facts(images: Array, digits: Array) -> Array:
    """Whether a digit is even, is above 4, and has a closed loop."""
    return np.stack([digits % 2 == 0, digits > 4, np.isin(digits, (0, 6, 8, 9))], axis=1).astype(np.int64)


def to_the_right(images: Array, digits: Array) -> Array:
    """By how much more ink the right half has than the left one, in pixels."""
    return (images[:, :, 4:].sum(axis=(1, 2, 3)) - images[:, :, :4].sum(axis=(1, 2, 3))).astype(np.float32)


TRAINED = {
    "classes": Trained(lambda: layers.Dense(10, activation="softmax"), CROSS_ENTROPY, lambda x, y: y, 0.9),
    "binary": Trained(lambda: layers.Dense(1, activation="sigmoid"), YES_OR_NO, lambda x, y: y % 2, 0.9),
    "labels": Trained(lambda: layers.Dense(3, activation="sigmoid"), YES_OR_NO, several_facts, 0.85),
    "numbers": Trained(lambda: layers.Dense(1), "mse", to_the_right, 0.9),
    "map": Trained(
        lambda: layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        YES_OR_NO,
        lambda x, y: (x > 0.5).astype(np.int64),
        0.8,
        maps=True,
    ),
    "copy": Trained(lambda: layers.Conv2D(1, 3, padding="same"), "mse", lambda x, y: 16 * x, 0.7, maps=True),
    "embedding": Trained(lambda: layers.Dense(6), "mse", None, 1.0),
}
"""Kind of task -> its network."""


def arrays_for(kind: str, digits: Data) -> Arrays:
    """Raw images and labels of a kind; images of maps and copies are noisy."""
    trained, rng, found = TRAINED[kind], np.random.default_rng(0), {}
    for part in ("train", "val", "test"):
        images = getattr(digits, part)
        x, clean = images.pixels, digits.preprocess(images.pixels)
        found[f"x_{part}"] = np.clip(x + rng.normal(0, 2, x.shape), 0, 16).astype(np.float32) if trained.maps else x
        if trained.labels is not None:
            found[f"y_{part}"] = trained.labels(clean, images.labels)
    return found


def network_for(kind: str, arrays: Arrays, epochs: int = 8) -> Any:
    """The trained network of a kind; an embedding learns the means of random parts of its images."""
    trained, x = TRAINED[kind], (arrays["x_train"] / 16).astype(np.float32)
    keras.utils.set_random_seed(0)
    maps = inputs = keras.Input((8, 8, 1))
    for name in ("first", "second"):
        maps = layers.Conv2D(12, 3, padding="same", activation="relu", name=name)(maps)
    features = maps if trained.maps else layers.Dense(24, activation="relu", name="hidden")(layers.Flatten()(maps))
    model = keras.Model(inputs, trained.head()(features))
    model.compile(keras.optimizers.Adam(3e-3), trained.loss)
    goals = arrays.get("y_train", x.reshape(len(x), -1) @ np.random.default_rng(1).random((64, 6)) / 8)
    model.fit(x, goals / 16 if kind == "copy" else goals, epochs=epochs, batch_size=64, verbose=0)
    return model
