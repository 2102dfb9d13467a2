"""Random flips and shifts of training images, and rectangles of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lrf_optuna.data.cutmix import Rectangles
from lrf_optuna.data.sources import Pixels
from lrf_optuna.errors import LrfError, lookup

AUGMENTATIONS = {"none": (False, False), "flip": (True, False), "crop": (False, True), "flip-crop": (True, True)}
"""Name -> whether random images are mirrored, and whether every image is shifted."""


@dataclass(frozen=True, eq=False)
class Moves:
    """How each of some images is flipped and shifted, and what is pasted into it then.

    `mirrored` `(n,)`: whether an image is; `places`: the rows and columns `(n,)` where padded images are cut;
    `rectangles`: of other images. Each is None where no image is changed like that.
    """

    mirrored: NDArray[np.bool_] | None = None
    places: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    rectangles: Rectangles | None = None

    @classmethod
    def draw(cls, pixels: Any, how: str, rng: np.random.Generator) -> Moves:
        """Random moves of raw `pixels` (N, H, W, C), an array or a list of arrays that are moved alike.

        Raises LrfError for an unknown augmentation, or where the inputs are no images.
        """
        flip, crop = lookup(AUGMENTATIONS, how, "augmentation")
        if not (flip or crop):
            return cls()
        first = pixels[0] if isinstance(pixels, list) else pixels
        if isinstance(pixels, Mapping) or first.ndim != 4:
            shape = sorted(pixels) if isinstance(pixels, Mapping) else first.shape
            raise LrfError(f"augment {how!r} is for images (N, H, W, C), but the inputs are {shape}: give none")
        count, places = len(first), None
        if crop:
            down, right = borders(first.shape)
            places = rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * right + 1, count)
        return cls(rng.random(count) < 0.5 if flip else None, places)

    def apply(self, pixels: Any) -> Any:
        """Moved copies of raw `pixels`; of a list of arrays, such as images and labels of positions, all alike.

        Rectangles are pasted into the first array alone.
        """
        if self.mirrored is None and self.places is None and self.rectangles is None:
            return pixels
        arrays = list(pixels) if isinstance(pixels, list) else [pixels]
        if self.places is not None:
            arrays = cropped(arrays, *self.places)
        if self.mirrored is not None:
            arrays = [array.copy() for array in arrays]
            for array in arrays:
                array[self.mirrored] = array[self.mirrored, :, ::-1]
        if self.rectangles is not None:
            arrays[0] = self.rectangles.paste(arrays[0])
        return arrays if isinstance(pixels, list) else arrays[0]


def augmented(pixels: Any, how: str, rng: np.random.Generator) -> Any:
    """Randomly flipped and shifted copies of raw `pixels` (N, H, W, C), or of a list of arrays, all moved alike.

    Raises LrfError for an unknown augmentation, or where the inputs are no images.
    """
    return Moves.draw(pixels, how, rng).apply(pixels)


def borders(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of padding on each side of images (N, H, W, C): 4 pixels at 32, in proportion elsewhere."""
    return max(1, round(shape[1] / 8)), max(1, round(shape[2] / 8))


def cropped(arrays: list[Pixels], tops: Any, lefts: Any) -> list[Pixels]:
    """Each image padded with black (zero) and cut to its size at its place.

    Classes of positions, in arrays of integers after the first, are padded with -1, which does not count.
    """
    (height, width), (down, right) = arrays[0].shape[1:3], borders(arrays[0].shape)
    found = []
    for i, array in enumerate(arrays):
        border = ((0, 0), (down, down), (right, right), *((0, 0),) * (array.ndim - 3))
        padded = np.pad(array, border, constant_values=-1 if i and array.dtype.kind == "i" else 0)
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))
        found.append(np.moveaxis(windows[np.arange(len(array)), tops, lefts], (-2, -1), (1, 2)))
    return found
