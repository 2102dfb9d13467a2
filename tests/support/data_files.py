"""Data sets in files, as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
"""A gray picture of 12 x 20 pixels, all different."""


def color(seed: int, size: tuple[int, int] = (12, 20)) -> np.ndarray[Any, Any]:
    """A random color picture (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def write_image(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    """An image file of pixels, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_images(folder: Path, count: int, size: tuple[int, int] = (12, 20), start: int = 0) -> list[Path]:
    """Image files 000.png and so on, each different."""
    return [write_image(folder / f"{i:03}.png", color(i, size)) for i in range(start, start + count)]
