"""The accuracy and the cross-entropy of a network on labeled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import LabeledImages, batches
from lrf_optuna.data.sources import Pixels
from lrf_optuna.models.images import BATCH
from lrf_optuna.models.outputs import OutputHead


@dataclass(frozen=True, slots=True)
class Evaluator:
    """A network that is measured on raw labeled images, in batches.

    `forward`: the network's inputs `(n, ...)` -> its logits `(n, classes)`; `preprocess`: raw pixels -> its inputs.
    """

    forward: Callable[[Array], Array]
    preprocess: Callable[[Pixels], Array]

    @classmethod
    def of(cls, model: Any, preprocess: Callable[[Pixels], Array]) -> Evaluator:
        """The evaluator of a Keras model, whose pass is compiled once for all of the evaluator's calls."""
        head = OutputHead.of(model)
        compiled = tf.function(lambda x: head.logits(model(x, training=False)), reduce_retracing=True)
        return cls(lambda x: compiled(tf.constant(x)).numpy(), preprocess)

    def logits(self, images: LabeledImages) -> Array:
        """Logits `(n, classes)` of all images."""
        return np.concatenate([self.forward(x) for x, _ in batches(images, self.preprocess, BATCH)])

    def accuracy(self, images: LabeledImages) -> float:
        """The share of images whose largest logit is their label's."""
        return float(np.mean(self.logits(images).argmax(axis=1) == images.labels))

    def cross_entropy(self, images: LabeledImages) -> float:
        """Mean cross-entropy over the images, in nats; infinite where a logit is not finite."""
        losses = keras.losses.sparse_categorical_crossentropy(images.labels, self.logits(images), from_logits=True)
        mean = float(np.mean(losses))
        return mean if np.isfinite(mean) else float("inf")
