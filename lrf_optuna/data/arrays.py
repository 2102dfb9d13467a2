"""Arrays of one input or output, or of several by name, and what is done with all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.errors import LrfError

Values = NDArray[Any]
"""Outputs of a network or labels, `(n, ...)`."""
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


class MappedRows:
    """Some rows of an array that stays in its file: they are read when a batch of them is asked for.

    A slice gives mapped rows again, and an array of indices gives an array in memory.
    """

    def __init__(self, array: NDArray[Any], index: NDArray[np.int64]) -> None:
        self.array, self.index = array, index
        self.dtype, self.ndim, self.shape = array.dtype, array.ndim, (len(index), *array.shape[1:])
        self.size = int(np.prod(self.shape))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: Any) -> Any:
        chosen = self.index[key]
        return MappedRows(self.array, chosen) if isinstance(key, slice) else np.asarray(self.array[chosen])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.index], dtype)


def as_array(given: Any) -> Any:
    """What was given as an array; an array that stays in its file is given back as it is."""
    return given if isinstance(given, np.memmap | MappedRows) else np.asarray(given)


def rows_of(array: Any, index: NDArray[Any]) -> Any:
    """Rows of an array; those of an array that stays in its file are not read yet."""
    if isinstance(array, np.memmap):
        return MappedRows(array, index)
    return MappedRows(array.array, array.index[index]) if isinstance(array, MappedRows) else array[index]
