"""Random flips and shifts of training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrf_optuna.data.sources import Pixels
from lrf_optuna.errors import LrfError, lookup

AUGMENTATIONS = {"none": (False, False), "flip": (True, False), "crop": (False, True), "flip-crop": (True, True)}
"""Name -> whether random images are mirrored, and whether every image is shifted."""


def augmented(pixels: Any, how: str, rng: np.random.Generator) -> Any:
    """Randomly flipped and shifted copies of raw `pixels` (N, H, W, C); a shift fills the border with black (zero).

    Of a list of arrays, such as images and a label for every position, all are flipped and shifted alike. Raises
    LrfError for an unknown augmentation, or where the inputs are no images.
    """
    flip, crop = lookup(AUGMENTATIONS, how, "augmentation")
    if not (flip or crop):
        return pixels
    arrays = list(pixels) if isinstance(pixels, list) else [pixels]
    if isinstance(pixels, Mapping) or arrays[0].ndim != 4:
        shape = sorted(pixels) if isinstance(pixels, Mapping) else arrays[0].shape
        raise LrfError(f"augment {how!r} is for images (N, H, W, C), but the inputs are {shape}: give none")
    if crop:
        arrays = crop_randomly(arrays, rng)
    if flip:
        mirror = rng.random(len(arrays[0])) < 0.5
        arrays = [array.copy() for array in arrays]
        for array in arrays:
            array[mirror] = array[mirror, :, ::-1]
    return arrays if isinstance(pixels, list) else arrays[0]


def crop_randomly(arrays: list[Pixels], rng: np.random.Generator) -> list[Pixels]:
    """Each image padded with black and cut to its size at a random place: 4 pixels at 32, in proportion elsewhere.

    Classes of positions, in arrays of integers after the first, are padded with -1, which does not count.
    """
    count, height, width = arrays[0].shape[:3]
    down, right = max(1, round(height / 8)), max(1, round(width / 8))
    tops, lefts = rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * right + 1, count)
    cropped = []
    for i, array in enumerate(arrays):
        border = ((0, 0), (down, down), (right, right), *((0, 0),) * (array.ndim - 3))
        padded = np.pad(array, border, constant_values=-1 if i and array.dtype.kind == "i" else 0)
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))
        chosen = windows[np.arange(count), tops, lefts]
        cropped.append(np.moveaxis(chosen, (-2, -1), (1, 2)))
    return cropped
