"""The accuracy of networks that are not built: their kernels in the original's place, BatchNorm re-estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data import Images, batches
from lrf_optuna.network import BATCH, OUTPUT
from lrf_optuna.plan import Plan
from lrf_optuna.proxy import Proxy
from lrf_optuna.similarity import cosine
from lrf_optuna.sources import Array as Pixels
from lrf_optuna.stages import Array

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
        images = Images(self.images[::EACH], self.labels[::EACH])
        return self.known[plan] if plan in self.known else self.seen(plan, images)

    def seen(self, plan: Plan, images: Images) -> float:
        """The share of some images that a plan's network gets right."""
        kernels = self.proxy.swaps(plan)
        if plan not in self.estimates:
            self.estimates[plan] = self.statistics(kernels)
        return self.right(images, kernels, self.estimates[plan])

    def of(self, kernels: Mapping[str, Array]) -> float:
        """The accuracy with `kernels` (site -> kernel as Keras lays it out) in the network."""
        return self.right(self.labelled, kernels, self.statistics(kernels))

    @property
    def labelled(self) -> Images:
        """The images with their labels."""
        return Images(self.images, self.labels)

    def right(self, images: Images, kernels: Mapping[str, Array], statistics: list[Any] | None) -> float:
        """The share of some images that is classified right, with these kernels and BatchNorm statistics."""
        network, parts = self.proxy.network, batches(images, self.preprocess, BATCH)
        hits = [network.logits(x, kernels, statistics).argmax(axis=1) == y for x, y in parts]
        return float(np.concatenate(hits).mean())

    def statistics(self, kernels: Mapping[str, Array]) -> list[Any] | None:
        """The re-estimated BatchNorm statistics, where there are any and they help."""
        network = self.proxy.network
        if not network.norms or not kernels:
            return None
        new = network.reestimated(kernels, self.shown())
        return new if self.alike(kernels, new) > self.alike(kernels, None) else None

    def alike(self, kernels: Mapping[str, Array], statistics: list[Any] | None) -> float:
        """How close the logits come to the original's, on the images that score plans."""
        found = self.proxy.network.run(self.proxy.pixels, kernels, statistics)
        return cosine(self.proxy.reference[OUTPUT], found[OUTPUT])
