"""The training step: the loss with the labels, and distillation from the original (the teacher)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from lrf_optuna.training.losses import HeadLoss

TrainingStep = Callable[[Any, Mapping[str, Any]], float]


def training_step(
    model: Any, teacher: Any, optimizer: Any, losses: Mapping[str, HeadLoss], weight: float
) -> TrainingStep:
    """A compiled step that changes `model`: (inputs, output -> labels) -> the loss before the step.

    Of every output it is the loss with its labels, where it has any, plus `weight` times the distance to the teacher's
    values; then the mean by the tasks' weights, plus the model's own regularization.
    """
    optimizer.build(model.trainable_variables)
    total = sum(loss.task.weight for loss in losses.values())

    def loss_of(outputs: Any, goals: Any, labels: Mapping[str, Any]) -> Any:
        found = 0.0
        for (name, head), output, goal in zip(losses.items(), outputs, goals, strict=True):
            own = head.with_labels(labels[name], output) if head.task.labeled and name in labels else 0.0
            found += head.task.weight / total * (own + weight * head.to_teacher(output, goal))
        return found

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        goals = keras.tree.flatten(teacher(x, training=False))
        with tf.GradientTape() as tape:
            loss = loss_of(keras.tree.flatten(model(x, training=True)), goals, y) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    def as_tensors(values: Any) -> Any:
        return keras.tree.map_structure(tf.constant, values)

    return lambda x, y: step(as_tensors(x), as_tensors(dict(y)))
