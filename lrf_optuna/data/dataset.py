"""Images and labels: digits, keras.datasets, an .npz or a folder of class folders -> train, validation and test.

Pixels stay raw (uint8 where they were) until a batch is made, so that a data set is held once and in little memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.config import DataSpec
from lrf_optuna.data.augment import augmented
from lrf_optuna.data.sources import (
    PARTS,
    Arrays,
    OpenShape,
    Pixels,
    digits,
    folder,
    keras_dataset,
    npz,
    stratified_order,
)
from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


TEST_SHARE = 0.2  # of a folder without test images
NO_TEST = "There were no test images: {share:.0%} of the training images were split off as test images."
NO_VALIDATION = (
    "Validation images were split off the training images ({share:.0%} of them): "
    "a network that was trained on them looks better on them than it is."
)


FEW_VALIDATION_IMAGES = 200
"""Validation images below which the points of a front are compared on training images as well."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImages:
    """One part of a data set: raw `pixels` (N, H, W, C) and integer `labels` (N,)."""

    pixels: Pixels
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Pixels | slice) -> LabeledImages:
        """The images at `index`, in its order."""
        return LabeledImages(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Preprocess:
    """(x / divide - mean) / std, channel by channel, as float32: what the network expects of a pixel."""

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """The network's input, float32, of raw `pixels`: (N, H, W, C), or any other shape with channels last."""
        wide = pixels.shape[-1] * (pixels.shape[-2] if pixels.ndim > 2 else 1)  # rows are 5 times faster than pixels
        mean, std = np.resize(self.mean, wide), np.resize(self.std, wide)
        rows = pixels.astype(np.float32).reshape(-1, wide)
        rows *= (1 / (self.divide * std)).astype(np.float32)
        rows -= (mean / std).astype(np.float32)
        return rows.reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set, what the network expects of a pixel, and what a reader should know (`notes`)."""

    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    preprocess: Preprocess
    augment: str
    classes: int
    notes: tuple[str, ...]
    source: str

    def calibration(self, count: int, seed: int) -> LabeledImages:
        """`count` training images, or all if there are fewer; every prefix holds the classes in about their shares."""
        return self.train.take(stratified_order(self.train.labels, np.random.default_rng(seed))[:count])

    def validation_sample(self, count: int, seed: int) -> LabeledImages:
        """A random sample of `count` validation images, or all if there are fewer, in their order.

        The sample holds the classes in about their shares. Training images join a validation set of fewer than
        `FEW_VALIDATION_IMAGES`, because a choice by a handful of images is chance.
        """
        pool = joined(self.val, self.train) if self.validation_is_small else self.val
        return pool.take(np.sort(stratified_order(pool.labels, np.random.default_rng(seed))[:count]))

    @property
    def validation_is_small(self) -> bool:
        """Whether there are too few validation images to choose a point by them alone."""
        return len(self.val) < FEW_VALIDATION_IMAGES


def joined(one: LabeledImages, other: LabeledImages) -> LabeledImages:
    """All images of both."""
    return LabeledImages(np.concatenate([one.pixels, other.pixels]), np.concatenate([one.labels, other.labels]))


def batches(
    images: LabeledImages,
    preprocess: Callable[[Pixels], NDArray[np.float32]],
    size: int,
    *,
    augment: str = "none",
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """One epoch as (x, y) of up to `size` images: shuffled and augmented by `rng`, or plain and in order without it."""
    order = None if rng is None else rng.permutation(len(images))
    for start in range(0, len(images), size):
        stop = start + size
        part = images.take(slice(start, stop) if order is None else order[start:stop])
        pixels = part.pixels if rng is None else augmented(part.pixels, augment, rng)
        yield preprocess(pixels), part.labels


def load_data(spec: DataSpec, seed: int, input_shape: OpenShape | None = None, classes: int | None = None) -> Data:
    """The data of `spec`, checked against a model that takes `input_shape` (H, W, C) and has `classes` outputs.

    Raises an LrfError for files that are missing or broken and for images and labels that do not fit.
    """
    if spec.path == "digits":
        arrays = digits(seed)
    elif spec.path.startswith("keras:"):
        arrays = keras_dataset(spec.path.removeprefix("keras:"))
    elif Path(spec.path).is_dir():
        arrays = folder(Path(spec.path), input_shape, classes)
    else:
        arrays = npz(Path(spec.path))
    return _assembled(arrays, spec, seed, input_shape, classes)


def data_from_arrays(
    x_train: Pixels,
    y_train: Pixels,
    x_test: Pixels,
    y_test: Pixels,
    x_val: Pixels | None = None,
    y_val: Pixels | None = None,
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    input_shape: OpenShape | None = None,
    classes: int | None = None,
) -> Data:
    """The data of arrays: images (N, H, W, C) or (N, H, W), labels as integers (N,), (N, 1) or one-hot (N, K).

    Raises LrfError where they do not fit each other or the model.
    """
    given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "x_val": x_val, "y_val": y_val}
    arrays = {name: np.asarray(array) for name, array in given.items() if array is not None}
    return _assembled(arrays, spec or DataSpec(path="arrays"), seed, input_shape, classes)


def _assembled(arrays: Arrays, spec: DataSpec, seed: int, input_shape: OpenShape | None, classes: int | None) -> Data:
    """The checked parts; validation, and test for a folder without one, are split off the training images."""
    parts = {part: _images(arrays, part, input_shape) for part in PARTS if {f"x_{part}", f"y_{part}"} & arrays.keys()}
    shapes = {images.pixels.shape[1:] for images in parts.values()}
    if len(shapes) > 1:
        raise LrfError(f"{spec.path}: the parts have images of different shapes: {sorted(shapes)}")
    classes = classes or 1 + max(int(images.labels.max()) for images in parts.values())
    for part, images in parts.items():
        _check_range(images.labels, part, classes)
    notes = []
    for part, share, note in (("test", TEST_SHARE, NO_TEST), ("val", spec.validation, NO_VALIDATION)):
        if part not in parts:
            parts["train"], parts[part] = _split(parts["train"], share, seed)
            notes.append(note.format(share=share))
    preprocess = _preprocess(spec, parts["train"].pixels.shape[-1])
    source = spec.path if spec.path.startswith("keras:") else Path(spec.path).name
    return Data(
        **parts, preprocess=preprocess, augment=spec.augment, classes=classes, notes=tuple(notes), source=source
    )


def _images(arrays: Arrays, part: str, input_shape: OpenShape | None) -> LabeledImages:
    """The part's images and labels, checked against each other and the model's input."""
    if f"x_{part}" not in arrays or f"y_{part}" not in arrays:
        raise LrfError(f"x_{part} and y_{part} go together, but there is only one: give both or neither")
    pixels, labels = arrays[f"x_{part}"], _whole_labels(arrays[f"y_{part}"], part)
    rank = 4 if input_shape is None else len(input_shape) + 1
    if pixels.ndim == rank - 1 and (rank == 4 or (input_shape and input_shape[-1] == 1)):
        pixels = pixels[..., None]
    if pixels.ndim != rank or not pixels.size:
        plain = str(("N", *(input_shape or ()))).replace("'", "")
        wanted = "images of the shape (N, H, W, C) or (N, H, W)" if rank == 4 else f"the shape {plain}"
        raise LrfError(f"x_{part} should have {wanted}, but got {pixels.shape}")
    if any(want not in (None, have) for want, have in zip(input_shape or (), pixels.shape[1:], strict=False)):
        raise LrfError(f"the model takes {input_shape}, the images of x_{part} are {pixels.shape[1:]}")
    if len(pixels) != len(labels):
        raise LrfError(f"x_{part} has {len(pixels)} images, but y_{part} has {len(labels)} labels")
    if pixels.dtype.kind not in "buif":
        raise LrfError(f"x_{part} should hold numbers, but got {pixels.dtype}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise LrfError(f"x_{part} holds NaN or infinite pixels: clean the images first")
    return LabeledImages(pixels, labels)


def _whole_labels(labels: Pixels, part: str) -> NDArray[np.int64]:
    """(N,) integers of labels that are integers (N,) or (N, 1), or one-hot (N, K)."""
    if labels.dtype.kind not in "buif" or not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise LrfError(
            f"y_{part} should hold whole numbers or one-hot rows, but got {labels.dtype} values that are not"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and (np.sort(labels, axis=1) == np.eye(labels.shape[1])[-1]).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        raise LrfError(f"y_{part} should have the shape (N,), (N, 1) or one-hot (N, K), but got {labels.shape}")
    return labels.astype(np.int64)


def _check_range(labels: NDArray[np.int64], part: str, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        given = f"{labels.min()}..{labels.max()}"
        raise LrfError(f"the labels of y_{part} should be 0..{classes - 1} for {classes} outputs, but are {given}")


def _preprocess(spec: DataSpec, channels: int) -> Preprocess:
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            raise LrfError(f"{name} should have 1 or {channels} numbers, one a channel, but got {list(values)}")
    return Preprocess(spec.divide, spec.mean, spec.std)


def _split(images: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """The images without a stratified `share` of them, and that share; both in their old order."""
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise LrfError(f"{len(images)} image(s) cannot be split: {share:.0%} of them would leave none to train on")
    order = stratified_order(images.labels, np.random.default_rng(seed))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))
