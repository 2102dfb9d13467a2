"""A data set in three parts, train, validation and test, checked against a model.

Pixels stay raw (uint8 where they were) until a batch is made, so that memory holds a data set once and in few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrf_optuna.config import DataSpec
from lrf_optuna.data import sources
from lrf_optuna.data.arrays import Images, count_of, input_list, map_inputs
from lrf_optuna.data.augment import augmented
from lrf_optuna.data.sources import Labels, OpenShape, Pixels, stratified_order
from lrf_optuna.data.tasks import OUTPUT, Task, Values
from lrf_optuna.errors import LrfError

TEST_SHARE = 0.2
"""The share of the training images that become test images where there are none: the usual 80/20 split."""
NO_TEST = "There were no test images: {share:.0%} of the training images were split off as test images."
NO_VALIDATION = (
    "Validation images were split off the training images ({share:.0%} of them): "
    "a network that was trained on them looks better on them than it is."
)
FEW_VALIDATION_IMAGES = 200
"""Validation images below which points are compared on training images too: their standard error is above 2 points."""
CHECKED_AT_ONCE = 2**26
"""Numbers that are checked for NaN at once, so that files that are mapped into memory are not copied."""
CLASSES = {OUTPUT: Task("classes", (None,))}
"""The task of data that no model is given for: one output, one of several classes."""


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImages:
    """One part of a data set: raw `pixels` and `labels`, each an array `(n, ...)` or a dict of arrays by name.

    `labels` is None where there are none. `strata` `(n,)`: classes that samples hold in about their shares.
    """

    pixels: Images
    labels: Any = None
    strata: Labels | None = None

    def __len__(self) -> int:
        return count_of(self.pixels)

    def take(self, index: Pixels | slice) -> LabeledImages:
        """The images at `index`, in its order."""
        part = map_inputs(self.pixels, lambda array: array[index])
        labels = None if self.labels is None else map_inputs(self.labels, lambda array: array[index])
        return LabeledImages(part, labels, None if self.strata is None else self.strata[index])

    def order(self, seed: int) -> NDArray[np.int64]:
        """A random order of the images; every prefix holds the classes, if any, in about their shares."""
        strata = np.zeros(len(self), np.int64) if self.strata is None else self.strata
        return stratified_order(strata, np.random.default_rng(seed))

    def sample(self, count: int, seed: int) -> LabeledImages:
        """`count` random images in their order, or all if there are fewer, with the classes in about their shares."""
        return self.take(np.sort(self.order(seed)[:count]))


@dataclass(frozen=True)
class Preprocess:
    """Raw pixels -> the network's input: (x / divide - mean) / std, channel by channel, as float32."""

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pixels: Images) -> Any:
        """The network's input, float32, of raw `pixels`: (N, H, W, C), or any other shape with channels last."""
        return map_inputs(pixels, self.array)

    def array(self, pixels: Pixels) -> NDArray[np.float32]:
        """The network's input of one array."""
        if pixels.ndim == 1:
            return ((pixels / self.divide - self.mean[0]) / self.std[0]).astype(np.float32)
        width = pixels.shape[-1] * (pixels.shape[-2] if pixels.ndim > 2 else 1)  # rows are 5 times faster than pixels
        mean, std = np.resize(self.mean, width), np.resize(self.std, width)
        rows = pixels.astype(np.float32).reshape(-1, width)
        rows *= (1 / (self.divide * std)).astype(np.float32)
        rows -= (mean / std).astype(np.float32)
        return rows.reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set, their preprocessing and augmentation, and `notes` that the user should read.

    `tasks`: output -> what its labels mean.
    """

    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    preprocess: Preprocess
    augment: str
    notes: tuple[str, ...]
    source: str
    tasks: Mapping[str, Task] = field(default_factory=lambda: CLASSES)

    @property
    def classes(self) -> int:
        """The number of classes of the only output; 1 + the largest label where the model's outputs are unknown."""
        (task,) = self.tasks.values()
        return task.units or 1 + int(max(part.labels.max() for part in (self.train, self.val, self.test)))

    def calibration(self, count: int, seed: int) -> LabeledImages:
        """`count` training images in random order, or all if there are fewer.

        Every prefix of them holds the classes in about their shares.
        """
        return self.train.take(self.train.order(seed)[:count])

    def validation_sample(self, count: int, seed: int) -> LabeledImages:
        """A random sample of `count` validation images, or all if there are fewer, in their order.

        The sample holds the classes in about their shares. Training images join a validation set of fewer than
        `FEW_VALIDATION_IMAGES`, because a choice by a handful of images is chance.
        """
        if not self.validation_is_small:
            return self.val.sample(count, seed)
        return joined(self.val, self.train).sample(count, seed)

    def targets(self, labels: Any) -> dict[str, Values]:
        """Output -> what a batch of labels says it should give; a copy is that of the preprocessed input."""
        named = by_output(labels, self.tasks)
        return {name: self.target(self.tasks[name], own) for name, own in named.items() if name in self.tasks}

    def target(self, task: Task, labels: Values) -> Values:
        """What an output of a task should give for labels."""
        own_input = task.kind == "copy" and task.labeled
        found: Values = self.preprocess.array(labels) if own_input else labels
        return found

    def epoch(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Any, dict[str, Values]]]:
        """The training images, shuffled, augmented and preprocessed, as (x, output -> y) of up to `size` images."""
        order = rng.permutation(len(self.train))
        for start in range(0, len(order), size):
            part = self.augmented(self.train.take(np.sort(order[start : start + size])), rng)
            yield self.preprocess(part.pixels), self.targets(part.labels)

    def augmented(self, part: LabeledImages, rng: np.random.Generator) -> LabeledImages:
        """A part with its images flipped and shifted as the study says, and labels for every position with them."""
        if self.augment == "none" or part.labels is None:
            return LabeledImages(augmented(part.pixels, self.augment, rng), part.labels)
        labels = by_output(part.labels, self.tasks)
        moved = [name for name in labels if self.tasks[name].kind in ("map", "copy")]
        pixels, *maps = augmented([part.pixels, *(labels[name] for name in moved)], self.augment, rng)
        return LabeledImages(pixels, labels | dict(zip(moved, maps, strict=True)))

    @property
    def validation_is_small(self) -> bool:
        """Whether there are too few validation images to choose a point by them alone."""
        return len(self.val) < FEW_VALIDATION_IMAGES


def joined(one: LabeledImages, other: LabeledImages) -> LabeledImages:
    """Two parts as one."""

    def both(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        if isinstance(a, Mapping):
            return {name: np.concatenate([a[name], b[name]]) for name in a}
        return np.concatenate([a, b])

    return LabeledImages(both(one.pixels, other.pixels), both(one.labels, other.labels), both(one.strata, other.strata))


def by_output(labels: Any, tasks: Mapping[str, Task]) -> dict[str, Values]:
    """Output -> its labels: of a dict by name, or of the array of the only output. Empty without labels."""
    if labels is None:
        return {}
    return dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(tasks, labels)


def load_data(
    spec: DataSpec,
    seed: int,
    input_shape: Any = None,
    classes: int | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> Data:
    """The data of `spec`, checked against a model that takes `input_shape` (H, W, C) and has `classes` outputs.

    Raises an LrfError for files that are missing or broken and for images and labels that do not fit.
    """
    arrays = load_arrays(spec, seed, input_shape, classes)
    return data_from_arrays(arrays, spec=spec, seed=seed, input_shape=input_shape, classes=classes, tasks=tasks)


def load_arrays(spec: DataSpec, seed: int, input_shape: Any = None, classes: int | None = None) -> dict[str, Any]:
    """The arrays that `spec` means, as their source has them. Raises LrfError where files are missing or broken."""
    shape = None if isinstance(input_shape, Mapping) else input_shape
    if spec.path == "digits":
        return sources.load_digits(seed)
    if spec.path.startswith("keras:"):
        return sources.load_keras_dataset(spec.path.removeprefix("keras:"))
    if Path(spec.path).is_dir():
        return sources.load_folder(Path(spec.path), shape, classes)
    return sources.load_npz(Path(spec.path))


def data_from_arrays(
    arrays: Mapping[str, ArrayLike | None],
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    input_shape: Any = None,
    classes: int | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> Data:
    """The data of `x_train` and, if any, `y_train`, `x_test`, `y_test`, `x_val`, `y_val`.

    Images are (N, H, W, C) or (N, H, W), or a dict of arrays by input (`input_shape`: a dict of shapes then); labels
    are as the `tasks` of the outputs want them, by default classes. Validation and test images are split off the
    training images where there are none. Raises LrfError where arrays do not fit each other or the model.
    """
    spec = spec or DataSpec(path="arrays")
    tasks = tasks or {OUTPUT: Task("classes", (classes,))}
    given = {name: map_inputs(array, np.asarray) for name, array in arrays.items() if array is not None}
    named = [part for part in sources.PARTS if {f"x_{part}", f"y_{part}"} & given.keys()]
    parts = {part: labeled_images(given, part, input_shape, tasks) for part in named}
    shapes = {str([array.shape[1:] for array in input_list(images.pixels)]) for images in parts.values()}
    if len(shapes) > 1:
        raise LrfError(f"{spec.path}: the parts have images of different shapes: {sorted(shapes)}")
    notes = []
    for part, share, note in (("test", TEST_SHARE, NO_TEST), ("val", spec.validation, NO_VALIDATION)):
        if part not in parts:
            parts["train"], parts[part] = split_off(parts["train"], share, seed)
            notes.append(note.format(share=share))
    preprocess = preprocess_of(spec, {array.shape[-1] for array in input_list(parts["train"].pixels)})
    source = spec.path if spec.path.startswith("keras:") else Path(spec.path).name
    return Data(
        **parts, preprocess=preprocess, augment=spec.augment, notes=tuple(notes), source=source, tasks=dict(tasks)
    )


def labeled_images(arrays: Mapping[str, Any], part: str, input_shape: Any, tasks: Mapping[str, Task]) -> LabeledImages:
    """The images and labels of a part, checked against each other and against the model's inputs and tasks."""
    if f"x_{part}" not in arrays:
        raise LrfError(f"y_{part} has no x_{part}: give both or neither")
    given = arrays[f"x_{part}"]
    if isinstance(given, Mapping):
        shapes = input_shape or dict.fromkeys(given)
        pixels: Any = {name: checked_pixels(given[name], f"x_{part}.{name}", shapes[name]) for name in shapes}
    else:
        pixels = checked_pixels(given, f"x_{part}", input_shape)
    count = count_of(pixels)
    wanted = {name: task for name, task in tasks.items() if task.labeled}
    if not wanted:
        return LabeledImages(pixels)
    labels = {}
    for name, own in own_labels(arrays, part, pixels, wanted).items():
        labels[name] = wanted[name].check(own, f"y_{part}" + f".{name}" * (len(tasks) > 1))
        if len(own) != count:
            raise LrfError(f"x_{part} has {count} images, but y_{part} has {len(own)} labels")
    first = next((labels[n] for n, task in wanted.items() if task.kind in ("classes", "binary")), None)
    return LabeledImages(pixels, labels if len(tasks) > 1 else next(iter(labels.values())), first)


def own_labels(arrays: Mapping[str, Any], part: str, pixels: Any, tasks: Mapping[str, Task]) -> dict[str, Values]:
    """Output -> its raw labels in a part; those of a copy are the images, where there are no others."""
    given = arrays.get(f"y_{part}")
    if given is None and all(task.kind == "copy" for task in tasks.values()):
        return dict.fromkeys(tasks, pixels)
    if given is None:
        raise LrfError(f"x_{part} and y_{part} go together, but there is only x_{part}: give both, or --labels none")
    found = by_output(given, tasks)
    if missing := [name for name in tasks if name not in found]:
        raise LrfError(f"y_{part} lacks labels for {', '.join(missing)}; it has: {', '.join(map(str, found))}")
    return {name: found[name] for name in tasks}


def checked_pixels(pixels: Values, name: str, shape: OpenShape | None) -> Values:
    """Images as a model with inputs of a shape takes them; a missing channel axis is added. Raises LrfError."""
    rank = 4 if shape is None else len(shape) + 1
    if pixels.ndim == rank - 1 and (rank == 4 or (shape and shape[-1] == 1)):
        pixels = pixels[..., None]
    if pixels.ndim != rank or not pixels.size:
        plain = str(("N", *(shape or ()))).replace("'", "")
        wanted = "images of the shape (N, H, W, C) or (N, H, W)" if rank == 4 else f"the shape {plain}"
        raise LrfError(f"{name} should have {wanted}, but got {pixels.shape}")
    if any(want not in (None, have) for want, have in zip(shape or (), pixels.shape[1:], strict=False)):
        raise LrfError(f"the model takes {shape}, the images of {name} are {pixels.shape[1:]}")
    if pixels.dtype.kind not in "buif":
        raise LrfError(f"{name} should hold numbers, but got {pixels.dtype}")
    step = max(1, CHECKED_AT_ONCE * len(pixels) // pixels.size)
    if pixels.dtype.kind == "f" and not all(
        np.isfinite(pixels[i : i + step]).all() for i in range(0, len(pixels), step)
    ):
        raise LrfError(f"{name} holds NaN or infinite pixels: clean the images first")
    return pixels


def preprocess_of(spec: DataSpec, channels: set[int] | int) -> Preprocess:
    """The preprocessing that the settings ask for. Raises LrfError where they do not fit the number of channels."""
    counts = {channels} if isinstance(channels, int) else channels
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) != 1 and counts != {len(values)}:
            (most,) = sorted(counts)[-1:]
            count = "1 number" if most == 1 else f"1 or {most} numbers, one a channel"
            raise LrfError(f"{name} should have {count}, but got {list(values)}")
    return Preprocess(spec.divide, spec.mean, spec.std)


def split_off(images: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """The images without a stratified `share` of them, and the images of that share; both in their old order."""
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise LrfError(f"{len(images)} image(s) cannot be split: {share:.0%} of them would leave none to train on")
    order = images.order(seed)
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))
