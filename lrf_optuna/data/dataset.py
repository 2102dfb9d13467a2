"""A data set in three parts, train, validation and test.

Pixels stay raw (uint8 where they were) until a batch is made, so that memory holds a data set once and in few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data.arrays import Images, Values, count_of, map_inputs, rows_of
from lrf_optuna.data.augment import Moves
from lrf_optuna.data.cutmix import Rectangles
from lrf_optuna.data.preprocess import AnyPreprocess
from lrf_optuna.data.sources import Labels, Pixels, stratified_order
from lrf_optuna.data.tasks import OUTPUT, Task

FEW_VALIDATION_IMAGES = 200
"""Validation images below which points are compared on training images too: their standard error is above 2 points."""
CLASSES_TASK = {OUTPUT: Task("classes", (None,))}
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

    def rows(self, index: Pixels) -> LabeledImages:
        """The images at `index`; those that stay in a file are not read yet."""
        part, labels = map_inputs(self.pixels, lambda array: rows_of(array, index)), None
        if self.labels is not None:
            labels = map_inputs(self.labels, lambda array: rows_of(array, index))
        return LabeledImages(part, labels, None if self.strata is None else self.strata[index])

    def order(self, seed: int) -> NDArray[np.int64]:
        """A random order of the images; every prefix holds the classes, if any, in about their shares."""
        return random_order(len(self), self.strata, seed)

    def sample(self, count: int, seed: int) -> LabeledImages:
        """`count` random images in their order, or all if there are fewer, with the classes in about their shares."""
        return self.take(np.sort(self.order(seed)[:count]))


def random_order(count: int, strata: Labels | None, seed: int) -> NDArray[np.int64]:
    """A random order of `count` images; every prefix holds the classes of `strata`, if any, in about their shares."""
    return stratified_order(np.zeros(count, np.int64) if strata is None else strata, np.random.default_rng(seed))


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set, their preprocessing and augmentation, and `notes` that the user should read.

    `tasks`: output -> what its labels mean; `split_off`: the parts, `val` or `test`, that are of the training images.
    """

    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    preprocess: AnyPreprocess
    augment: str
    notes: tuple[str, ...]
    source: str
    tasks: Mapping[str, Task] = field(default_factory=lambda: CLASSES_TASK)
    split_off: tuple[str, ...] = ()

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
        strata = None if self.val.strata is None else np.concatenate([self.val.strata, self.train.strata])
        chosen = np.sort(random_order(len(self.val) + len(self.train), strata, seed)[:count])
        own, cut = chosen[chosen < len(self.val)], len(self.val)
        return joined_parts(self.val.take(own), self.train.take(chosen[len(own) :] - cut))

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
        return ((x, y) for _, x, y in self.batches(size, rng))

    def batches(
        self, size: int, rng: np.random.Generator, cutmix: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Any, dict[str, Values]]]:
        """The batches of `epoch`, each with the places of its images among the training images.

        `cutmix`: whether some images get a rectangle of another one of their batch. They have the label -1 then, which
        does not count.
        """
        order = rng.permutation(len(self.train))
        for start in range(0, len(order), size):
            index = np.sort(order[start : start + size])
            part = self.train.take(index)
            moves = Moves.draw(part.pixels, self.augment, rng)
            moves = replace(moves, rectangles=Rectangles.draw(part.pixels, rng)) if cutmix else moves
            moved = self.moved(part, moves)
            goals = self.targets(moved.labels)
            if moves.rectangles:
                goals = {name: without_labels(goal, moves.rectangles.pasted) for name, goal in goals.items()}
            yield index, self.preprocess(moved.pixels), goals

    @property
    def takes_cutmix(self) -> bool:
        """Whether images are augmented, and rectangles of others leave the original's answers well-defined.

        So it is for decisions about whole images, and not for classes of positions or numbers.
        """
        whole = all(task.kind in ("classes", "binary", "labels") for task in self.tasks.values())
        return self.augment != "none" and whole and getattr(self.train.pixels, "ndim", 0) == 4

    def moved(self, part: LabeledImages, moves: Moves) -> LabeledImages:
        """A part with its images flipped and shifted, and labels for every position with them."""
        if self.augment == "none" or part.labels is None:
            return LabeledImages(moves.apply(part.pixels), part.labels)
        labels = by_output(part.labels, self.tasks)
        named = [name for name in labels if self.tasks[name].kind in ("map", "copy")]
        pixels, *maps = moves.apply([part.pixels, *(labels[name] for name in named)])
        return LabeledImages(pixels, labels | dict(zip(named, maps, strict=True)))

    def compared_metric(self, metric: str) -> str:
        """The name of a metric on the images that points are compared on, which may be more than the validation part.

        The validation part alone has the name "validation accuracy".
        """
        return f"{metric} on validation and training images" if self.validation_is_small else f"validation {metric}"

    @property
    def validation_is_small(self) -> bool:
        """Whether there are too few validation images to choose a point by them alone."""
        return len(self.val) < FEW_VALIDATION_IMAGES


def without_labels(goal: Values, where: NDArray[np.bool_]) -> Values:
    """A copy of decisions with -1, which does not count, where a mask `(n,)` says so."""
    found = goal.astype(np.int64)
    found[where] = -1
    return found


def joined_parts(one: LabeledImages, other: LabeledImages) -> LabeledImages:
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
