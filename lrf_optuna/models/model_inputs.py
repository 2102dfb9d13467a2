"""A model's inputs as arrays, of one input or of several in the structure that the model takes, and their batches."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from lrf_optuna.chains.site import Site
from lrf_optuna.data.arrays import Images, batches_of

Shape = tuple[int, ...]
Shapes = Any
"""A shape, or the list, tuple or dict of shapes that a model of several inputs takes."""
PASS_BATCH = 256
"""Images of a pass, at most, so that the maps of a pass stay within memory."""
INPUT_BYTES = 2**28
"""Bytes of layer inputs that are in memory at a time, at most: a quarter of a GiB beside the model's own maps."""
INPUT_BATCH = 128
"""Images of a batch whose layer inputs are recorded, at most."""
MAP_BYTES = 2**28
"""Bytes of the largest map of a pass, at most; a few maps of this size are in memory together."""


def batches_within_memory(images: Images, sites: Iterable[Site]) -> list[Images]:
    """Images in batches of at most `INPUT_BATCH`, such that the inputs of all sites together fit in `INPUT_BYTES`."""
    bytes_each = sum(4 * site.op.cin * prod(shape) for site in sites for shape in site.maps)
    return batches_of(images, int(np.clip(INPUT_BYTES // max(bytes_each, 1), 1, INPUT_BATCH)))


def images_per_pass(sites: Iterable[Site]) -> int:
    """Images of a pass, at most `PASS_BATCH`, such that the largest input of a site fits in `MAP_BYTES`."""
    largest = max((4 * site.op.cin * prod(shape) for site in sites for shape in site.maps), default=1)
    return int(np.clip(MAP_BYTES // max(largest, 1), 1, PASS_BATCH))
