"""Images that stand in two parts of a data set: a metric on them says what a network knows by heart."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from lrf_optuna.data.arrays import Images, batches_of, input_list
from lrf_optuna.data.dataset import Data, LabeledImages

MOST_BYTES = 2**31
"""Bytes of training images that are compared, some seconds of reading: of larger sets the first images alone."""
MOST_IMAGES = 2000
"""Validation or test images that are looked for among them: the share of a larger part is known to a point."""
ALL_DIFFERENT = 0.99
"""Share of different ones among the training images below which equal images say nothing: rows of a few numbers."""


def known_images(data: Data, seed: int = 0) -> dict[str, tuple[int, int]]:
    """`val` and `test` -> how many images of this part are training images as well, value by value, and of how many.

    Empty where training images are often equal among themselves.
    """
    size = sum(array.nbytes for array in input_list(data.train.pixels))
    compared = int(len(data.train) * min(1.0, MOST_BYTES / max(size, 1)))
    known = set(islice(digests(data.train), compared))
    if len(known) < ALL_DIFFERENT * compared:
        return {}
    parts = {"val": data.val.sample(MOST_IMAGES, seed), "test": data.test.sample(MOST_IMAGES, seed)}
    return {name: (sum(one in known for one in digests(part)), len(part)) for name, part in parts.items()}


def digests(part: LabeledImages) -> Iterator[int]:
    """A digest of each image, over all inputs."""
    for batch in batches_of(part.pixels, 256):
        yield from map(hash, zip(*map(rows_as_bytes, input_list(batch)), strict=True))


def rows_as_bytes(array: Images) -> list[bytes]:
    """The values of each row of an array as bytes."""
    return [row.tobytes() for row in np.asarray(array)]
