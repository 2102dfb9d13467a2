"""Random flips and shifts of training images."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lrf_optuna.data.sources import Pixels
from lrf_optuna.errors import LrfError, lookup

AUGMENTATIONS = {"none": (False, False), "flip": (True, False), "crop": (False, True), "flip-crop": (True, True)}
"""Name -> whether random images are mirrored, and whether every image is shifted."""


def augmented(pixels: Pixels, how: str, rng: np.random.Generator) -> Pixels:
    """Randomly flipped and shifted copies of raw `pixels` (N, H, W, C); a shift fills the border with black (zero).

    Raises LrfError for an unknown augmentation, or where the inputs are no images.
    """
    flip, crop = lookup(AUGMENTATIONS, how, "augmentation")
    if (flip or crop) and pixels.ndim != 4:
        raise LrfError(f"augment {how!r} is for images (N, H, W, C), but the inputs are {pixels.shape}: give none")
    if crop:
        pixels = crop_randomly(pixels, rng)
    if flip:
        mirror = rng.random(len(pixels)) < 0.5
        pixels = pixels.copy()
        pixels[mirror] = pixels[mirror, :, ::-1]
    return pixels


def crop_randomly(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Each image padded with black and cut to its size at a random place: 4 pixels at 32, in proportion elsewhere."""
    count, height, width, _ = pixels.shape
    down, right = max(1, round(height / 8)), max(1, round(width / 8))
    padded = np.pad(pixels, ((0, 0), (down, down), (right, right), (0, 0)))
    windows = sliding_window_view(padded, (height, width), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    tops, lefts = rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * right + 1, count)
    cropped: Pixels = windows[np.arange(count), tops, lefts]
    return cropped
