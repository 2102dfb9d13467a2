"""The arrays of a data set: what all sources give, and the sources that need no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.errors import LrfError, lookup

Pixels = NDArray[Any]
"""Raw images `(N, H, W, C)` of any type of number, or other inputs `(N, ...)`; labels before they are checked."""
Labels = NDArray[np.int64]
OpenShape = tuple[int | None, ...]
"""A shape without the batch axis, such as (H, W, C); None for any size."""
Arrays = dict[str, Pixels]
"""`x_train`, `y_train`, `x_test`, `y_test`, and perhaps `x_val` and `y_val`."""

PARTS = ("train", "test", "val")


@dataclass(frozen=True)
class LoadedArrays:
    """The arrays of a data set by name, and `notes` on what was done to them that the user should read."""

    arrays: dict[str, Any]
    notes: tuple[str, ...] = ()


def stratified_order(labels: Labels, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of the indices, such that every prefix holds the classes in about their shares.

    The k-th image of a class with n images, in random order, has a random place in [k / n, (k + 1) / n).
    """
    shuffled = rng.permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = (rank + rng.random(len(labels))) / np.repeat(sizes, sizes)
    return grouped[np.argsort(place)]


def load_digits(seed: int) -> Arrays:
    """scikit-learn's 1,797 digits, 8 x 8 pixels of 0..16: 70 % train, 15 % validation, 15 % test."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    labels = bunch.target.astype(np.int64)
    order = stratified_order(labels, np.random.default_rng(seed))
    cuts = round(0.15 * len(order)), round(0.3 * len(order))
    parts = zip(("test", "val", "train"), np.split(order, cuts), strict=True)
    index = {part: np.sort(chosen) for part, chosen in parts}
    pixels = {f"x_{part}": bunch.images[at][..., None].astype(np.float32) for part, at in index.items()}
    return pixels | {f"y_{part}": labels[at] for part, at in index.items()}


def load_keras_dataset(name: str) -> Arrays:
    """A data set of keras.datasets, which Keras downloads on first use. Raises LrfError where it cannot."""
    from keras import datasets

    modules = {n: getattr(datasets, n) for n in ("mnist", "fashion_mnist", "cifar10", "cifar100")}
    module = lookup(modules, name, "Keras data set")
    try:
        (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise LrfError(f"could not download keras:{name} ({error}); give an .npz file instead") from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
