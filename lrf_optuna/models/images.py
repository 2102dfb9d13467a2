"""Running a Keras model from the outside: what goes into each layer, and one compiled pass with other kernels.

Nothing is rebuilt: a pass takes the kernels as arguments, in place of the layers' own variables, and layers are
listened to while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import keras
import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.chains.site import Site
from lrf_optuna.errors import LrfError

Shape = tuple[int, ...]
Shapes = Any
"""A shape, or the list, tuple or dict of shapes that a model of several inputs takes."""
Images = Any
"""An array `(n, ...)`, or the list, tuple or dict of them that a model of several inputs takes."""
BATCH = 256
"""Images of a pass over many."""
INPUT_BYTES = 2**28
"""Layer inputs that are held at a time."""
MAP_BYTES = 2**28
"""The largest map of a pass; some others of its size are alive with it."""


def map_inputs(images: Images, change: Callable[[Array], Any]) -> Any:
    """The images of every input, changed, in the same structure."""
    return keras.tree.map_structure(change, images)


def input_list(images: Images) -> list[Array]:
    """The images of every input, one after the other."""
    return list(keras.tree.flatten(images))


def shapes_of(images: Images) -> Shapes:
    """The shapes of images without the batch axis, in their structure."""
    return map_inputs(images, lambda array: tuple(array.shape[1:]))


def count_of(images: Images) -> int:
    """How many images there are. Raises LrfError where inputs differ in that."""
    counts = {len(array) for array in input_list(images)}
    if len(counts) != 1:
        raise LrfError(f"a model's inputs should be equally many, but are {sorted(counts)}")
    return counts.pop()


def batches_of(images: Images, size: int) -> list[Images]:
    """Images in batches of at most `size`."""
    starts = range(0, count_of(images), size)
    return [map_inputs(images, lambda array, i=i: array[i : i + size]) for i in starts]  # type: ignore[misc]


def batches_within_memory(images: Images, sites: Iterable[Site]) -> list[Images]:
    """Images in batches of which the inputs of all sites together stay within `INPUT_BYTES`, 128 at most."""
    bytes_each = sum(4 * site.op.cin * prod(shape) for site in sites for shape in site.maps)
    return batches_of(images, int(np.clip(INPUT_BYTES // max(bytes_each, 1), 1, 128)))


def images_per_pass(sites: Iterable[Site]) -> int:
    """How many images a pass takes so that the largest input of a site stays within `MAP_BYTES`, `BATCH` at most."""
    largest = max((4 * site.op.cin * prod(shape) for site in sites for shape in site.maps), default=1)
    return int(np.clip(MAP_BYTES // max(largest, 1), 1, BATCH))
