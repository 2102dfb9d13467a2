"""A data set of labeled images in three parts, train, validation and test, checked against a model.

Pixels stay raw (uint8 where they were) until a batch is made, so that memory holds a data set once and in few bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.config import DataSpec
from lrf_optuna.data import sources
from lrf_optuna.data.augment import augmented
from lrf_optuna.data.sources import Arrays, Labels, OpenShape, Pixels, stratified_order
from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike


TEST_SHARE = 0.2
"""The share of the training images that become test images where there are none: the usual 80/20 split."""
NO_TEST = "There were no test images: {share:.0%} of the training images were split off as test images."
NO_VALIDATION = (
    "Validation images were split off the training images ({share:.0%} of them): "
    "a network that was trained on them looks better on them than it is."
)
FEW_VALIDATION_IMAGES = 200
"""Validation images below which points are compared on training images too: their standard error is above 2 points."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImages:
    """One part of a data set: raw `pixels` (N, H, W, C) and integer `labels` (N,)."""

    pixels: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Pixels | slice) -> LabeledImages:
        """The images at `index`, in its order."""
        return LabeledImages(self.pixels[index], self.labels[index])

    def sample(self, count: int, seed: int) -> LabeledImages:
        """`count` random images in their order, or all if there are fewer, with the classes in about their shares."""
        return self.take(np.sort(stratified_order(self.labels, np.random.default_rng(seed))[:count]))


@dataclass(frozen=True)
class Preprocess:
    """Raw pixels -> the network's input: (x / divide - mean) / std, channel by channel, as float32."""

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """The network's input, float32, of raw `pixels`: (N, H, W, C), or any other shape with channels last."""
        width = pixels.shape[-1] * (pixels.shape[-2] if pixels.ndim > 2 else 1)  # rows are 5 times faster than pixels
        mean, std = np.resize(self.mean, width), np.resize(self.std, width)
        rows = pixels.astype(np.float32).reshape(-1, width)
        rows *= (1 / (self.divide * std)).astype(np.float32)
        rows -= (mean / std).astype(np.float32)
        return rows.reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set, their preprocessing and augmentation, and `notes` that the user should read."""

    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    preprocess: Preprocess
    augment: str
    classes: int
    notes: tuple[str, ...]
    source: str

    def calibration(self, count: int, seed: int) -> LabeledImages:
        """`count` training images in random order, or all if there are fewer.

        Every prefix of them holds the classes in about their shares.
        """
        return self.train.take(stratified_order(self.train.labels, np.random.default_rng(seed))[:count])

    def validation_sample(self, count: int, seed: int) -> LabeledImages:
        """A random sample of `count` validation images, or all if there are fewer, in their order.

        The sample holds the classes in about their shares. Training images join a validation set of fewer than
        `FEW_VALIDATION_IMAGES`, because a choice by a handful of images is chance.
        """
        if not self.validation_is_small:
            return self.val.sample(count, seed)
        pixels = np.concatenate([self.val.pixels, self.train.pixels])
        return LabeledImages(pixels, np.concatenate([self.val.labels, self.train.labels])).sample(count, seed)

    def epoch(self, size: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float32], Labels]]:
        """The training images, shuffled, augmented and preprocessed, as (x, y) of up to `size` images."""
        order = rng.permutation(len(self.train))
        for start in range(0, len(order), size):
            part = self.train.take(order[start : start + size])
            yield self.preprocess(augmented(part.pixels, self.augment, rng)), part.labels

    @property
    def validation_is_small(self) -> bool:
        """Whether there are too few validation images to choose a point by them alone."""
        return len(self.val) < FEW_VALIDATION_IMAGES


def load_data(spec: DataSpec, seed: int, input_shape: OpenShape | None = None, classes: int | None = None) -> Data:
    """The data of `spec`, checked against a model that takes `input_shape` (H, W, C) and has `classes` outputs.

    Raises an LrfError for files that are missing or broken and for images and labels that do not fit.
    """
    if spec.path == "digits":
        arrays = sources.load_digits(seed)
    elif spec.path.startswith("keras:"):
        arrays = sources.load_keras_dataset(spec.path.removeprefix("keras:"))
    elif Path(spec.path).is_dir():
        arrays = sources.load_folder(Path(spec.path), input_shape, classes)
    else:
        arrays = sources.load_npz(Path(spec.path))
    return data_from_arrays(arrays, spec=spec, seed=seed, input_shape=input_shape, classes=classes)


def data_from_arrays(
    arrays: Mapping[str, ArrayLike | None],
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    input_shape: OpenShape | None = None,
    classes: int | None = None,
) -> Data:
    """The data of `x_train`, `y_train` and, if any, `x_test`, `y_test`, `x_val`, `y_val`.

    Images are (N, H, W, C) or (N, H, W), labels integers (N,), (N, 1) or one-hot (N, K). Validation and test images are
    split off the training images where there are none. Raises LrfError where arrays do not fit each other or the model.
    """
    spec = spec or DataSpec(path="arrays")
    given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    named = [part for part in sources.PARTS if {f"x_{part}", f"y_{part}"} & given.keys()]
    parts = {part: labeled_images(given, part, input_shape) for part in named}
    shapes = {images.pixels.shape[1:] for images in parts.values()}
    if len(shapes) > 1:
        raise LrfError(f"{spec.path}: the parts have images of different shapes: {sorted(shapes)}")
    if classes == 1:
        raise LrfError("the model has one output number, but a classifier has one for each class: give two or more")
    classes = classes or 1 + max(int(images.labels.max()) for images in parts.values())
    for part, images in parts.items():
        if images.labels.min() < 0 or images.labels.max() >= classes:
            labels = f"{images.labels.min()}..{images.labels.max()}"
            raise LrfError(f"the labels of y_{part} should be 0..{classes - 1} for {classes} outputs, but are {labels}")
    notes = []
    for part, share, note in (("test", TEST_SHARE, NO_TEST), ("val", spec.validation, NO_VALIDATION)):
        if part not in parts:
            parts["train"], parts[part] = split_off(parts["train"], share, seed)
            notes.append(note.format(share=share))
    preprocess = preprocess_of(spec, parts["train"].pixels.shape[-1])
    source = spec.path if spec.path.startswith("keras:") else Path(spec.path).name
    return Data(
        **parts, preprocess=preprocess, augment=spec.augment, classes=classes, notes=tuple(notes), source=source
    )


def labeled_images(arrays: Arrays, part: str, input_shape: OpenShape | None) -> LabeledImages:
    """The images and labels of a part, checked against each other and against the model's input."""
    if f"x_{part}" not in arrays or f"y_{part}" not in arrays:
        raise LrfError(f"x_{part} and y_{part} go together, but there is only one: give both or neither")
    pixels, labels = arrays[f"x_{part}"], class_indices(arrays[f"y_{part}"], part)
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


def class_indices(labels: Pixels, part: str) -> Labels:
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


def preprocess_of(spec: DataSpec, channels: int) -> Preprocess:
    """The preprocessing that the settings ask for. Raises LrfError where they do not fit the number of channels."""
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            count = "1 number" if channels == 1 else f"1 or {channels} numbers, one a channel"
            raise LrfError(f"{name} should have {count}, but got {list(values)}")
    return Preprocess(spec.divide, spec.mean, spec.std)


def split_off(images: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """The images without a stratified `share` of them, and the images of that share; both in their old order."""
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise LrfError(f"{len(images)} image(s) cannot be split: {share:.0%} of them would leave none to train on")
    order = stratified_order(images.labels, np.random.default_rng(seed))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))
