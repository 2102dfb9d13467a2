"""The accuracy of networks that are not built: their kernels in the original's place, BatchNorm re-estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import FEW_VALIDATION_IMAGES, Data, LabeledImages, batches
from lrf_optuna.data.sources import Pixels
from lrf_optuna.models.batchnorm import training_batches
from lrf_optuna.models.images import BATCH
from lrf_optuna.models.outputs import OUTPUT
from lrf_optuna.plans.plan import Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import cosine
from lrf_optuna.selection.choose import DOZEN, GLANCED

EACH = 5
"""Every so many images are glanced at."""
Batches = Callable[[], Iterable[Array]]


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
    shown: Batches
    known: dict[Plan, float] = field(default_factory=dict)
    estimates: dict[Plan, list[Any] | None] = field(default_factory=dict)
    """The BatchNorm statistics that went with what is known."""

    def __call__(self, plan: Plan) -> float:
        """The accuracy of a plan."""
        if plan not in self.known:
            self.known[plan] = self.seen(plan, self.labelled)
        return self.known[plan]

    def glance(self, plan: Plan) -> float:
        """The same on every fifth image, or so; not remembered."""
        images = LabeledImages(self.images[::EACH], self.labels[::EACH])
        return self.known[plan] if plan in self.known else self.seen(plan, images)

    def seen(self, plan: Plan, images: LabeledImages) -> float:
        """The share of some images that a plan's network gets right."""
        kernels = self.proxy.dense_kernels(plan)
        if plan not in self.estimates:
            self.estimates[plan] = self.statistics(kernels)
        return self.right(images, kernels, self.estimates[plan])

    def of(self, kernels: Mapping[str, Array]) -> float:
        """The accuracy with `kernels` (site -> kernel as Keras lays it out) in the network."""
        return self.right(self.labelled, kernels, self.statistics(kernels))

    @property
    def labelled(self) -> LabeledImages:
        """The images with their labels."""
        return LabeledImages(self.images, self.labels)

    def right(self, images: LabeledImages, kernels: Mapping[str, Array], statistics: list[Any] | None) -> float:
        """The share of some images that is classified right, with these kernels and BatchNorm statistics."""
        network, parts = self.proxy.network, batches(images, self.preprocess, BATCH)
        hits = [network.logits(x, kernels, statistics).argmax(axis=1) == y for x, y in parts]
        return float(np.concatenate(hits).mean())

    def statistics(self, kernels: Mapping[str, Array]) -> list[Any] | None:
        """The re-estimated BatchNorm statistics, where there are any and they help."""
        network = self.proxy.network
        if not network.norms or not kernels:
            return None
        new = network.batchnorm_statistics(kernels, self.shown())
        return new if self.alike(kernels, new) > self.alike(kernels, None) else None

    def alike(self, kernels: Mapping[str, Array], statistics: list[Any] | None) -> float:
        """How close the logits come to the original's, on the images that score plans."""
        found = self.proxy.network.run(self.proxy.scored.tensors, kernels, statistics)
        return cosine(self.proxy.scored.reference[OUTPUT], found[OUTPUT])


JUDGED = 5000
"""Images at most on which points of the front are compared."""
MOST_MACS = 5e12
"""Multiply-accumulates of one measurement at most, about a minute: of networks as large as VGG16 fewer images."""
CHEAP_MACS = 2.5e12
"""Multiply-accumulates of all measurements of a choice, up to which more than a dozen are made, at most `MANY`."""
MANY = 60


def accuracy_on_validation(
    proxy: Proxy, data: Data, unscored: Pixels, seed: int, progress: Progress = SILENT
) -> Accuracy:
    """Plan -> its accuracy on validation images; `unscored`: the raw images that BatchNorm is re-estimated on."""
    count = int(np.clip(MOST_MACS / max(1, proxy.inventory.macs), FEW_VALIDATION_IMAGES, JUDGED))
    images = data.validation_sample(count, seed)
    if data.validation_is_small:
        progress.say(f"{len(data.val)} validation images are few: points are compared on training images as well")
    return Accuracy(
        proxy, images.pixels, images.labels, data.preprocess, lambda: training_batches(data, unscored, seed)
    )


def considered(judge: Accuracy) -> int:
    """How many points of a front are measured: a dozen, more where all of them cost little."""
    return affordable(judge, len(judge.labels), MANY)


def glanced(judge: Accuracy) -> int:
    """Up to how many are glanced at where all those lose much: several dozen, fewer where that costs much."""
    return affordable(judge, len(judge.labels[::EACH]), GLANCED)


def affordable(judge: Accuracy, images: int, most: int) -> int:
    """How many plans are measured on so many images: at least a dozen, and at `most` so many."""
    return int(np.clip(CHEAP_MACS / max(1, judge.proxy.inventory.macs * images), DOZEN, most))
