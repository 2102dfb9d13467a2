"""The metric of networks that are not built: their kernels in the original's place, on validation images.

All networks are measured on the same images in the same order, each on as many as a comparison needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, Values, batches_of
from lrf_optuna.data.dataset import FEW_VALIDATION_IMAGES, Data, LabeledImages
from lrf_optuna.models.batchnorm import reestimated_statistics, training_batches
from lrf_optuna.models.model_inputs import PASS_BATCH
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.measurement import FOLDS, Measurement

KernelsBySite = Mapping[str, Array]
"""Site -> kernel as Keras lays it out."""
Statistics = list[Any] | None
"""Of the BatchNorm layers, where they are not the original's."""


@dataclass
class Validation:
    """Kernels -> the metric of the network with them on labeled images, before any training.

    `images`: raw; `data`: their preprocessing and tasks; `training_batches`: gives preprocessed batches as they looked
    in training. BatchNorm statistics are re-estimated from them, and are taken where they bring the outputs for the
    images that score plans closer to the original's.
    """

    proxy: Proxy
    images: LabeledImages
    data: Data
    training_batches: Callable[[], Iterable[Images]]
    whole: bool = False
    """Whether the images are all validation images and no others."""

    def of(self, kernels: KernelsBySite) -> float:
        """The metric with `kernels` in the network, with BatchNorm statistics re-estimated where that helps."""
        logits = self.logits(kernels, statistics=self.statistics(kernels)) if kernels else self.original_logits
        return self.measured(logits).metric

    @property
    def own_images(self) -> int:
        """How many of the images are validation images: by them a prediction is as sure as its outcome."""
        return min(len(self.images), len(self.data.val))

    @cached_property
    def labels(self) -> dict[str, Values]:
        """Output -> what it should give for every image."""
        return self.data.targets(self.images.labels)

    @cached_property
    def original_logits(self) -> dict[str, Array]:
        """The original's values before the activation for all images, by output."""
        return self.logits({})

    def original(self, count: int) -> Measurement:
        """The original on the first images."""
        return self.measured({name: logits[:count] for name, logits in self.original_logits.items()})

    def logits(
        self, kernels: KernelsBySite, count: int | None = None, statistics: Statistics = None
    ) -> dict[str, Array]:
        """Output -> values before the activation for the first `count` images, or all, with these kernels."""
        return self.logits_for(self.images.take(slice(count)).pixels, kernels, statistics)

    def logits_for(self, pixels: Images, kernels: KernelsBySite, statistics: Statistics = None) -> dict[str, Array]:
        """Output -> values before the activation for any raw images, with these kernels."""
        network = self.proxy.network
        inputs = (network.as_tensors(self.data.preprocess(part)) for part in batches_of(pixels, PASS_BATCH))
        parts = [network.run(x, kernels, statistics) for x in inputs]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def outputs(self, kernels: KernelsBySite, pixels: Images) -> dict[str, Values]:
        """Output -> what the network with these kernels gives for raw images."""
        heads = self.proxy.network.heads
        return {name: heads[name].outputs(logits) for name, logits in self.logits_for(pixels, kernels).items()}

    def measured(self, logits: Mapping[str, Array]) -> Measurement:
        """What these values for the first images come to."""
        tasks, heads = self.data.tasks, self.proxy.network.heads
        judged = {name: tasks[name].judged(heads[name].outputs(values)) for name, values in logits.items()}
        count = len(next(iter(judged.values())))
        fold = np.arange(count) % min(FOLDS, count)

        def metric(chosen: Any) -> float:
            each = [
                (tasks[name].weight, tasks[name].metric_of(self.labels[name][:count][chosen], found[chosen]))
                for name, found in judged.items()
            ]
            return sum(weight * value for weight, value in each) / sum(weight for weight, _ in each)

        left_out = [metric(fold != i) for i in range(min(FOLDS, count))] if count > 1 else []
        return Measurement(metric(slice(None)), np.array(left_out), count)

    def similarity(self, logits: Mapping[str, Array]) -> float:
        """How similar values for the first images are to the original's: 1 where they are equal."""
        reference = {name: self.original_logits[name][: len(found)] for name, found in logits.items()}
        return self.proxy.similarity.overall(reference, logits)

    def statistics(self, kernels: KernelsBySite) -> Statistics:
        """The re-estimated BatchNorm statistics, where there are any and they help."""
        network = self.proxy.network
        if not network.norms or not kernels:
            return None
        new = reestimated_statistics(network, kernels, self.training_batches())
        return new if self.closeness(kernels, new) > self.closeness(kernels, None) else None

    def closeness(self, kernels: KernelsBySite, statistics: Statistics) -> float:
        """The similarity to the original on the images that score plans."""
        found = self.proxy.network.run(self.proxy.scored.tensors, kernels, statistics)
        return self.proxy.similarity.overall(self.proxy.scored.reference, found)


MEASURED = 5000
"""Images at most on which networks are compared: the standard error of an accuracy of 90 % is 0.4 points then."""
MEASURED_MACS = 5e12
"""Multiply-accumulates of one measurement at most, about a minute: of networks as large as VGG16 fewer images."""


def validation_of(proxy: Proxy, data: Data, unscored: Images, seed: int, progress: Progress = SILENT) -> Validation:
    """Kernels -> the metric on validation images; `unscored`: the raw images that BatchNorm is re-estimated on.

    The images are in a random order of which every prefix holds the classes in about their shares.
    """
    count = int(np.clip(MEASURED_MACS / max(1, proxy.inventory.macs), FEW_VALIDATION_IMAGES, MEASURED))
    images = data.validation_sample(count, seed)
    images = images.take(images.order(seed))
    if data.validation_is_small:
        progress.say(
            f"{len(data.val)} validation images are few: points are compared on training images as well, "
            f"and look better on those that their kernels are fitted to; give {FEW_VALIDATION_IMAGES} or more"
        )
    whole = not data.validation_is_small and len(images) == len(data.val)
    return Validation(proxy, images, data, lambda: training_batches(data, unscored, seed), whole)
