"""BatchNorm statistics re-estimated for a network with other kernels, on images as they looked in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, count_of, map_inputs
from lrf_optuna.data.augment import augmented
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.layer_calls import replaced_calls

if TYPE_CHECKING:
    from lrf_optuna.models.forward import ForwardPass

BATCHES = 8
"""Batches at most over which statistics are averaged: 1,024 images, as many as calibration has by default."""
BATCHNORM_BATCH = 128
"""Images of a batch: the statistics of a layer are those of one batch, and 128 images are a usual training batch."""


@contextmanager
def batch_statistics(norms: Sequence[Any]) -> Iterator[None]:
    """While the block runs, BatchNorm layers use the statistics of the batch, whatever mode the model runs in.

    Each layer may change its `momentum` in the block; it has its old one afterwards.
    """

    def in_training(call: Any) -> Any:
        return lambda inputs, training=None, mask=None: call(inputs, training=True, mask=mask)

    with ExitStack() as stack, replaced_calls((layer, in_training) for layer in norms):
        for layer in norms:
            stack.callback(setattr, layer, "momentum", layer.momentum)
        yield


def reestimated_statistics(network: ForwardPass, kernels: Mapping[str, Array], batches: Iterable[Images]) -> list[Any]:
    """BatchNorm statistics of a network with `kernels` in their layers: the plain average over batches of images."""
    each = [network.compiled_statistics(network.kernel_list(kernels), network.as_tensors(x)) for x in batches]
    return [keras.ops.mean(keras.ops.stack(statistics), axis=0) for statistics in zip(*each, strict=True)]


def training_batches(data: Data, images: Images, seed: int) -> Iterator[Images]:
    """Preprocessed batches of raw `images` `(n, ...)`, augmented as in training, for BatchNorm statistics."""
    rng = np.random.default_rng(seed)
    count = min(BATCHES * BATCHNORM_BATCH, count_of(images))
    for index in np.array_split(np.arange(count), max(1, min(BATCHES, count // BATCHNORM_BATCH))):
        part = map_inputs(images, lambda array, index=index: array[index])  # type: ignore[misc]
        yield data.preprocess(augmented(part, data.augment, rng))
