"""The accuracy of networks that are not built: their kernels in the original's place, on validation images.

All networks are measured on the same images in the same order, each on as many as a comparison needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import FEW_VALIDATION_IMAGES, Data, LabeledImages, batches
from lrf_optuna.data.sources import Pixels, stratified_order
from lrf_optuna.models.batchnorm import training_batches
from lrf_optuna.models.images import BATCH
from lrf_optuna.models.outputs import OUTPUT
from lrf_optuna.plans.plan import Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import cosine

Kernels = Mapping[str, Array]
"""Site -> kernel as Keras lays it out."""
Statistics = list[Any] | None
"""Of the BatchNorm layers, where they are not the original's."""


@dataclass(eq=False, slots=True)
class UnbuiltNetwork:
    """The original with other kernels, and which of the first validation images it gets right, `(n,)`."""

    kernels: Callable[[], Kernels]
    statistics: Statistics = None
    right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass
class Accuracy:
    """Plan -> the share of labelled images that its network gets right, before any training; remembered by plan.

    `images`: raw `(n, H, W, C)`, `labels` `(n,)`; `preprocess`: raw images -> the network's input; `shown`: gives
    preprocessed batches as they looked in training, from which BatchNorm statistics are re-estimated. They are taken
    where they bring the logits for the images that score plans closer to the original's.
    """

    proxy: Proxy
    images: Pixels
    labels: NDArray[np.int64]
    preprocess: Callable[[Pixels], Array]
    shown: Callable[[], Iterable[Array]]
    whole: bool = False
    """Whether the images are all validation images and no others."""
    known: dict[Plan, UnbuiltNetwork] = field(default_factory=dict)
    """The networks of plans as they were scored, with BatchNorm statistics."""

    def __call__(self, plan: Plan) -> float:
        """The accuracy of a plan on all images."""
        return self.share(self.scored(plan))

    def of(self, kernels: Kernels) -> float:
        """The accuracy with `kernels` in the network on all images."""
        return self.share(UnbuiltNetwork(lambda: kernels, self.statistics(kernels)) if kernels else self.original)

    @cached_property
    def original(self) -> UnbuiltNetwork:
        """The original."""
        return UnbuiltNetwork(dict)

    def scored(self, plan: Plan) -> UnbuiltNetwork:
        """A plan's network with the kernels that it was scored with."""
        if plan not in self.known:
            kernels = self.proxy.dense_kernels(plan)
            network = UnbuiltNetwork(lambda: self.proxy.dense_kernels(plan), self.statistics(kernels))
            self.known[plan] = network if kernels else self.original
        return self.known[plan]

    def share(self, network: UnbuiltNetwork) -> float:
        """The share of all images that a network gets right."""
        return float(self.right(network, len(self.labels)).mean())

    def right(self, network: UnbuiltNetwork, count: int) -> NDArray[np.bool_]:
        """Which of the first `count` images a network gets right; the ones that it has seen are not passed again.

        An image whose logits are not finite is wrong.
        """
        start, count = len(network.right), min(count, len(self.labels))
        if start < count:
            images, kernels = LabeledImages(self.images[start:count], self.labels[start:count]), network.kernels()
            hits = [network.right]
            for x, labels in batches(images, self.preprocess, BATCH):
                logits = self.proxy.network.logits(x, kernels, network.statistics)
                hits.append((logits.argmax(axis=1) == labels) & np.isfinite(logits).all(axis=1))
            network.right = np.concatenate(hits)
        return network.right[:count]

    def statistics(self, kernels: Kernels) -> Statistics:
        """The re-estimated BatchNorm statistics, where there are any and they help."""
        network = self.proxy.network
        if not network.norms or not kernels:
            return None
        new = network.batchnorm_statistics(kernels, self.shown())
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
    """Plan -> its accuracy on validation images; `unscored`: the raw images that BatchNorm is re-estimated on.

    The images are in a random order of which every prefix holds the classes in about their shares.
    """
    count = int(np.clip(MEASURED_MACS / max(1, proxy.inventory.macs), FEW_VALIDATION_IMAGES, MEASURED))
    images = data.validation_sample(count, seed)
    images = images.take(stratified_order(images.labels, np.random.default_rng(seed)))
    if data.validation_is_small:
        progress.say(f"{len(data.val)} validation images are few: points are compared on training images as well")
    whole = not data.validation_is_small and len(images) == len(data.val)
    pixels, labels = images.pixels, images.labels
    return Accuracy(proxy, pixels, labels, data.preprocess, lambda: training_batches(data, unscored, seed), whole)
