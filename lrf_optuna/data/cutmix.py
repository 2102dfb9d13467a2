"""Rectangles of other images pasted into training images (CutMix, Yun et al. 2019, arXiv 1905.04899)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data.sources import Pixels

SHARE = 0.5
"""The share of the images that get a rectangle, in all rows with CutMix of benchmarks/results/tune_tried.md."""


@dataclass(frozen=True, eq=False)
class Rectangles:
    """For each of some images the rectangle that it gets from another one.

    `source`: raw images (n, H, W, C); `partners` `(n,)`: which of them gives the rectangle; `boxes` `(n, 4)`: its first
    and last row and column, the last ones excluded. An image with an empty box stays as it is.
    """

    source: Pixels
    partners: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @classmethod
    def draw(cls, source: Pixels, rng: np.random.Generator) -> Rectangles:
        """For a `SHARE` of the images a rectangle with a uniform share of the area, of their proportions, anywhere."""
        count, sides = len(source), np.array(source.shape[1:3])
        area = rng.random(count) * (rng.random(count) < SHARE)
        sizes = np.rint(np.sqrt(area)[:, None] * sides).astype(np.int64)
        first = rng.integers(0, sides - sizes + 1)
        boxes = np.stack([first, first + sizes], axis=2).reshape(count, 4)
        return cls(source, rng.integers(0, count, count), boxes)

    @property
    def pasted(self) -> NDArray[np.bool_]:
        """Which images `(n,)` are changed."""
        found: NDArray[np.bool_] = (self.boxes[:, 1] > self.boxes[:, 0]) & (self.boxes[:, 3] > self.boxes[:, 2])
        return found

    def paste(self, images: Pixels) -> Pixels:
        """Copies of raw images `(n, H, W, C)` with their rectangles."""
        found = images.copy()
        for i in np.flatnonzero(self.pasted):
            top, bottom, left, right = self.boxes[i]
            found[i, top:bottom, left:right] = self.source[self.partners[i], top:bottom, left:right]
        return found
