"""Image files of any mode and size as one array of pixels."""

from __future__ import annotations

import struct
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data.sources import OpenShape, Pixels
from lrf_optuna.errors import LrfError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels of a model -> the mode of Pillow that images are converted to."""
UNREADABLE_SHARE = 0.01
"""Share of files that may be unreadable: a few broken downloads are usual, more are a mistake."""
IMAGE_BYTES = 2**31
"""Bytes of decoded images that are held in memory, at most: 2 GiB; more are kept in a temporary file."""
STEPS_OF_16_BITS = 257
"""A 16-bit value over its 8-bit value: 65535 / 255."""
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)
"""The EXIF tag of an image's orientation, and its values that swap height and width."""
BROKEN = (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, IndexError, struct.error)
"""Errors of Pillow where a file is broken."""
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Modes of Pillow whose pixels are one number of 16 bits or more."""


@dataclass(frozen=True)
class Header:
    """What the beginning of an image file tells: `size` (height, width) as it is shown, and bits of 16 or more."""

    size: tuple[int, int]
    is_wide: bool


@dataclass(frozen=True)
class ImageStack:
    """The pixels `(n, H, W, C)` of the files at the indices `kept`, and notes on what was done to them."""

    pixels: Pixels
    kept: NDArray[np.int64]
    notes: tuple[str, ...]


def read_images(files: Sequence[Path], input_shape: OpenShape | None) -> ImageStack:
    """The pixels of image files at the model's size, else at the most frequent size of the files.

    They are uint8, or float32 where some files have 16 bits, whose values are scaled to 0..255. Rotation by EXIF is
    applied. Files that cannot be read are left out. Raises LrfError where they are more than `UNREADABLE_SHARE`, and
    where the model takes no images.
    """
    height, width, channels = image_shape(input_shape)
    broken: dict[int, str] = {}
    headers = {i: header for i, file in enumerate(files) if (header := read(header_of, file, broken, i)) is not None}
    check_readable(files, broken)
    sizes = Counter(header.size for header in headers.values())
    frequent = most_frequent(sizes)
    size, wide = (height or frequent[0], width or frequent[1]), any(header.is_wide for header in headers.values())
    pixels = room((len(files), *size, channels), np.float32 if wide else np.uint8)
    kept: list[int] = []
    for i in headers:
        found = read(lambda file: decoded(file, size, channels, wide), files[i], broken, i)
        if found is not None:
            pixels[len(kept)] = found
            kept.append(i)
    check_readable(files, broken)
    notes = [*size_note(sizes, size, (height, width)), *wide_note(headers), *broken_note(files, broken)]
    return ImageStack(pixels[: len(kept)], np.array(kept), tuple(notes))


def image_shape(input_shape: OpenShape | None) -> tuple[int | None, int | None, int]:
    """(height, width, channels) of the model; no channels mean 3. Raises LrfError where it takes no images."""
    height, width, channels = input_shape if input_shape and len(input_shape) == 3 else (None, None, None)
    if (input_shape and len(input_shape) != 3) or (channels or 3) not in MODES:
        known = ", ".join(map(str, MODES))
        raise LrfError(f"image files are for models that take (H, W, {known} channels), but it takes {input_shape}")
    return height, width, channels or 3


def read(what: Any, file: Path, broken: dict[int, str], index: int) -> Any:
    """What a function makes of an image file; None, and the reason in `broken`, where it cannot be read."""
    from PIL import Image

    try:
        return what(file)
    except (*BROKEN, Image.DecompressionBombError) as error:
        broken[index] = str(error).replace(f" {str(file)!r}", "").partition("\n")[0]
        return None


def header_of(file: Path) -> Header:
    """The size of an image as it is shown, and whether its values have 16 bits. Raises ValueError for 32 bits."""
    from PIL import Image

    with Image.open(file) as image:
        turned = image.getexif().get(ORIENTATION) in TURNED
        if image.mode == "F":
            raise ValueError("32-bit values have no known range; save 8 or 16 bits")
        return Header(image.size if turned else image.size[::-1], image.mode in WIDE_MODES)


def decoded(file: Path, size: tuple[int, int], channels: int, as_float: bool) -> NDArray[Any]:
    """The pixels `(H, W, C)` of an image file, turned as EXIF says, resized and converted."""
    from PIL import Image, ImageOps

    with Image.open(file) as opened:
        image: Any = ImageOps.exif_transpose(opened)
        if image.mode in WIDE_MODES:
            return repeated(resized(narrowed(image), size), channels)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")
        pixels = np.asarray(resized(image.convert(MODES[channels]), size))
    pixels = pixels.reshape(*size, channels)
    return pixels.astype(np.float32) if as_float else pixels


def narrowed(image: Any) -> Any:
    """A grey image of 16 bits with its values in 0..255, fractions kept. Raises ValueError for more than 16 bits."""
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    if values.min() < 0 or values.max() >= 2**16:
        raise ValueError("32-bit values have no known range; save 8 or 16 bits")
    return Image.fromarray(values / STEPS_OF_16_BITS)


def resized(image: Any, size: tuple[int, int]) -> Any:
    """An image of Pillow at another size (height, width), bilinear."""
    from PIL import Image

    return image if image.size == size[::-1] else image.resize(size[::-1], Image.Resampling.BILINEAR)


def repeated(grey: Any, channels: int) -> NDArray[np.float32]:
    """A grey image in all color channels; it is opaque where there is a fourth one."""
    pixels = np.repeat(np.asarray(grey, np.float32)[..., None], channels, axis=-1)
    if channels == 4:
        pixels[..., 3] = 255
    return pixels


def room(shape: tuple[int, ...], dtype: Any) -> Pixels:
    """An array for decoded images: in memory, or in a temporary file without a name where there are too many."""
    if np.dtype(dtype).itemsize * int(np.prod(shape)) <= IMAGE_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, mode="w+", shape=shape)


def most_frequent(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent size; of several, the one whose area is nearest to the median area of all images."""
    most, median = max(sizes.values()), np.median([height * width for height, width in sizes.elements()])
    often = sorted(size for size, count in sizes.items() if count == most)
    return min(often, key=lambda size: abs(size[0] * size[1] - median))


def check_readable(files: Sequence[Path], broken: dict[int, str]) -> None:
    """Raises LrfError where more than `UNREADABLE_SHARE` of the files cannot be read."""
    if len(broken) > UNREADABLE_SHARE * len(files):
        first = min(broken)
        share = f"{len(broken)} of {len(files)} files cannot be read, more than {UNREADABLE_SHARE:.0%}"
        raise LrfError(f"cannot read the image {files[first]}: {broken[first]}; {share}")


def size_note(
    sizes: Counter[tuple[int, int]], size: tuple[int, int], wanted: tuple[int | None, int | None]
) -> list[str]:
    """The note on images of several sizes for a model that takes any size."""
    if None not in wanted or len(sizes) < 2:
        return []
    share = sizes[size] / sizes.total()
    what = (
        f"the most frequent, {size[0]} x {size[1]} ({share:.0%} of the images)" if share else f"{size[0]} x {size[1]}"
    )
    return [f"The images have {len(sizes)} sizes; {what}, is taken for all, because the model takes any size."]


def wide_note(headers: dict[int, Header]) -> list[str]:
    """The note on images of 16 bits."""
    count = sum(header.is_wide for header in headers.values())
    return [f"{count} of {len(headers)} images have 16 bits; their values are scaled to 0..255."] if count else []


def broken_note(files: Sequence[Path], broken: dict[int, str]) -> list[str]:
    """The note on files that were left out."""
    if not broken:
        return []
    first = min(broken)
    shown = f"{files[first].name} ({broken[first]})"
    return [f"{len(broken)} of {len(files)} image files cannot be read and were left out, such as {shown}."]
