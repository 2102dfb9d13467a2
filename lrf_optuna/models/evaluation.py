"""The accuracy and the cross-entropy of a network on labeled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import LabeledImages
from lrf_optuna.data.sources import Pixels
from lrf_optuna.models.model_inputs import PASS_BATCH, batches_of
from lrf_optuna.models.outputs import OutputHead


class Evaluator:
    """A Keras model that is measured on raw labeled images, in batches; `preprocess`: raw pixels -> its inputs.

    Its pass is compiled once for all calls.
    """

    def __init__(self, model: Any, preprocess: Callable[[Pixels], Array]) -> None:
        head = OutputHead.of(model)
        self.preprocess = preprocess
        self.compiled: Any = tf.function(lambda x: head.logits(model(x, training=False)), reduce_retracing=True)

    def logits(self, images: LabeledImages) -> Array:
        """Logits `(n, classes)` of all images."""
        inputs = (tf.constant(self.preprocess(part)) for part in batches_of(images.pixels, PASS_BATCH))
        return np.concatenate([self.compiled(x).numpy() for x in inputs])

    def accuracy(self, images: LabeledImages) -> float:
        """The share of images whose largest logit is their label's."""
        return float(np.mean(self.logits(images).argmax(axis=1) == images.labels))

    def cross_entropy(self, images: LabeledImages) -> float:
        """Mean cross-entropy over the images, in nats; infinite where a logit is not finite."""
        losses = keras.losses.sparse_categorical_crossentropy(images.labels, self.logits(images), from_logits=True)
        mean = float(np.mean(losses))
        return mean if np.isfinite(mean) else float("inf")
