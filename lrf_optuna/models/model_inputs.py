"""A model's inputs as arrays, of one input or of several in the structure that the model takes, and their batches."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from lrf_optuna.chains.site import Site
from lrf_optuna.data.arrays import Images, batches_of
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.errors import LrfError

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


def input_shapes(model: Any) -> dict[str, OpenShape]:
    """Input -> the shape that the model takes, without the batch axis; None for any size.

    The names are those of the dict that the model takes, else those of its input layers. Raises LrfError for a model
    that is neither functional nor Sequential, and for an input that is one number an image.
    """
    tensors = getattr(model, "inputs", None) or []
    if not tensors or not (getattr(model, "outputs", None) or []):
        kind = type(model).__name__
        raise LrfError(f"the model should be functional or Sequential, but is a {kind} whose inputs are not known")
    given = getattr(model, "input", None)  # a Sequential that was never called has none
    named = given if isinstance(given, dict) else {tensor._keras_history.operation.name: tensor for tensor in tensors}
    shapes = {name: tuple(tensor.shape)[1:] for name, tensor in named.items()}
    for name, shape in shapes.items():
        if not shape:
            raise LrfError(f"the model should take images (N, H, W, C) or other arrays, but {name!r} takes (N,)")
    return shapes
