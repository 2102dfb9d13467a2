"""The training step: cross-entropy with the labels, and distillation from the original (the teacher)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from lrf_optuna.chains.conv import Array, Index
from lrf_optuna.models.outputs import OutputHead

TrainingStep = Callable[[Array, Index], float]


def training_step(model: Any, teacher: Any, optimizer: Any, weight: float) -> TrainingStep:
    """A compiled step that changes `model`: (inputs `(n, ...)`, labels `(n,)`) -> the loss before the step.

    The loss is the cross-entropy, plus `weight` times half the mean squared difference to the teacher's logits
    (Ba and Caruana 2014, equation 1), plus the model's own regularization.
    """
    optimizer.build(model.trainable_variables)
    head, teacher_head = OutputHead.of(model), OutputHead.of(teacher)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        goal = teacher_head.logits(teacher(x, training=False))
        with tf.GradientTape() as tape:
            logits = head.logits(model(x, training=True))
            entropy = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
            distance = keras.ops.mean(keras.ops.square(logits - goal)) / 2
            loss = entropy + weight * distance + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda x, y: step(tf.constant(x), tf.constant(y))
