"""Running a Keras model from the outside: what goes into each layer, and one compiled pass with other kernels.

Nothing is rebuilt: a pass takes the kernels as arguments, in place of the layers' own variables, and layers are
listened to while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.augment import augmented
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.sources import Pixels


@contextmanager
def batch_statistics(norms: Sequence[Any]) -> Iterator[None]:
    """While the block runs, BatchNorm layers take the statistics of the batch, whatever mode the model runs in."""

    def training_call(call: Any) -> Any:
        return lambda inputs, training=None, mask=None: call(inputs, training=True, mask=mask)

    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.call = training_call(layer.call)
    try:
        yield
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            del layer.call
            layer.momentum = momentum


BN_BATCHES, BN_BATCH = 8, 128


def training_batches(data: Data, images: Pixels, seed: int) -> Iterator[Array]:
    """Batches of raw images as they looked in training, preprocessed: what BatchNorm statistics are re-estimated on."""
    rng = np.random.default_rng(seed)
    for part in np.array_split(images[: BN_BATCHES * BN_BATCH], max(1, min(BN_BATCHES, len(images) // BN_BATCH))):
        yield data.preprocess(augmented(part, data.augment, rng))
