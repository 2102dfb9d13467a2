"""The accuracy of networks that are not built: their kernels in the original's place, on validation images.

All networks are measured on the same images in the same order, each on as many as a comparison needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import FEW_VALIDATION_IMAGES, Data
from lrf_optuna.data.sources import Pixels, stratified_order
from lrf_optuna.models.batchnorm import reestimated_statistics, training_batches
from lrf_optuna.models.model_inputs import PASS_BATCH, batches_of
from lrf_optuna.models.outputs import OUTPUT
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import cosine, similarity_of_finite

Kernels = Mapping[str, Array]
"""Site -> kernel as Keras lays it out."""
Statistics = list[Any] | None
"""Of the BatchNorm layers, where they are not the original's."""


@dataclass
class Accuracy:
    """Kernels -> the share of labelled images that the network with them gets right, before any training.

    `images`: raw `(n, H, W, C)`, `labels` `(n,)`; `preprocess`: raw images -> the network's input;
    `training_batches`: gives preprocessed batches as they looked in training. BatchNorm statistics are re-estimated
    from them, and are taken where they bring the logits for the images that score plans closer to the original's.
    """

    proxy: Proxy
    images: Pixels
    labels: NDArray[np.int64]
    preprocess: Callable[[Pixels], Array]
    training_batches: Callable[[], Iterable[Array]]
    whole: bool = False
    """Whether the images are all validation images and no others."""

    def of(self, kernels: Kernels) -> float:
        """The accuracy with `kernels` in the network, with BatchNorm statistics re-estimated where that helps."""
        right = self.right(self.logits(kernels, statistics=self.statistics(kernels))) if kernels else self.original
        return float(right.mean())

    @cached_property
    def original_logits(self) -> Array:
        """The original's logits for all images."""
        return self.logits({})

    @cached_property
    def original(self) -> NDArray[np.bool_]:
        """Which images the original gets right."""
        return self.right(self.original_logits)

    def logits(self, kernels: Kernels, count: int | None = None, statistics: Statistics = None) -> Array:
        """The logits for the first `count` images, or for all, with `kernels` in the network."""
        parts = (self.preprocess(part) for part in batches_of(self.images[:count], PASS_BATCH))
        return np.concatenate([self.proxy.network.logits(x, kernels, statistics) for x in parts])

    def right(self, logits: Array) -> NDArray[np.bool_]:
        """Which of the first images these logits classify correctly; not finite ones are wrong."""
        correct: NDArray[np.bool_] = logits.argmax(axis=1) == self.labels[: len(logits)]
        return correct & np.isfinite(logits).all(axis=1)

    def similarity(self, logits: Array) -> float:
        """The cosine of logits for the first images with the original's."""
        return similarity_of_finite(cosine, self.original_logits[: len(logits)], logits)

    def statistics(self, kernels: Kernels) -> Statistics:
        """The re-estimated BatchNorm statistics, where there are any and they help."""
        network = self.proxy.network
        if not network.norms or not kernels:
            return None
        new = reestimated_statistics(network, kernels, self.training_batches())
        return new if self.closeness(kernels, new) > self.closeness(kernels, None) else None

    def closeness(self, kernels: Kernels, statistics: Statistics) -> float:
        """The cosine of the logits with the original's, on the images that score plans."""
        found = self.proxy.network.run(self.proxy.scored.tensors, kernels, statistics)
        return cosine(self.proxy.scored.reference[OUTPUT], found[OUTPUT])


MEASURED = 5000
"""Images at most on which networks are compared: the standard error of an accuracy of 90 % is 0.4 points then."""
MEASURED_MACS = 5e12
"""Multiply-accumulates of one measurement at most, about a minute: of networks as large as VGG16 fewer images."""


def accuracy_on_validation(
    proxy: Proxy, data: Data, unscored: Pixels, seed: int, progress: Progress = SILENT
) -> Accuracy:
    """Kernels -> the accuracy on validation images with them.

    `unscored`: the raw images that BatchNorm is re-estimated on. The validation images are in a random order of which
    every prefix holds the classes in about their shares.
    """
    count = int(np.clip(MEASURED_MACS / max(1, proxy.inventory.macs), FEW_VALIDATION_IMAGES, MEASURED))
    images = data.validation_sample(count, seed)
    images = images.take(stratified_order(images.labels, np.random.default_rng(seed)))
    if data.validation_is_small:
        progress.say(f"{len(data.val)} validation images are few: points are compared on training images as well")
    whole = not data.validation_is_small and len(images) == len(data.val)
    pixels, labels = images.pixels, images.labels
    return Accuracy(proxy, pixels, labels, data.preprocess, lambda: training_batches(data, unscored, seed), whole)
