"""Arrays of one input or output, or of several by name, and what is done with all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lrf_optuna.errors import LrfError

Images = Any
"""An array `(n, ...)`, or the list, tuple or dict of arrays that a model of several inputs takes."""


def map_inputs(images: Images, change: Callable[[Any], Any]) -> Any:
    """The arrays of every input, changed, in the same structure."""
    if isinstance(images, Mapping):
        return {name: map_inputs(array, change) for name, array in images.items()}
    if isinstance(images, list | tuple):
        return type(images)(map_inputs(array, change) for array in images)
    return change(images)


def input_list(images: Images) -> list[Any]:
    """The arrays of every input, one after the other; those of a dict in the order of their names, as in Keras."""
    if isinstance(images, Mapping):
        return [array for name in sorted(images) for array in input_list(images[name])]
    if isinstance(images, list | tuple):
        return [array for part in images for array in input_list(part)]
    return [images]


def count_of(images: Images) -> int:
    """The number of images. Raises LrfError where the inputs have different numbers of them."""
    counts = {len(array) for array in input_list(images)}
    if len(counts) != 1:
        raise LrfError(f"a model's inputs should be equally many, but are {sorted(counts)}")
    return counts.pop()


def batches_of(images: Images, size: int) -> list[Images]:
    """Images in batches of at most `size`."""
    starts = range(0, count_of(images), size)
    return [map_inputs(images, lambda array, i=i: array[i : i + size]) for i in starts]  # type: ignore[misc]
