"""The training step: the loss with the labels, and distillation from the original (the teacher)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from lrf_optuna.models.layer_calls import recording_calls
from lrf_optuna.training.grouped_conv import grouped_by_parts
from lrf_optuna.training.losses import HeadLoss
from lrf_optuna.training.map_pairs import MapPair

SMALLEST_POWER = 1e-12
"""Mean square that a feature map counts as at least: one that is zero everywhere says nothing."""


@dataclass(frozen=True)
class Distillation:
    """What a student learns: from labels, and from the teacher's outputs and feature maps.

    `losses`: output -> its losses; `weight`: of the distance to the teacher's outputs; `temperature`: that decisions
    are softened with, or None to compare logits as they are; `maps`: feature maps that are compared as well;
    `map_weight`: the loss of a map whose distance is as large as the teacher's map itself; `batch_statistics`: whether
    BatchNorm layers run in training mode, or with the statistics that they have.
    """

    losses: Mapping[str, HeadLoss]
    weight: float
    temperature: float | None = None
    maps: tuple[MapPair, ...] = ()
    map_weight: float = 0.0
    batch_statistics: bool = True

    @property
    def has_teacher(self) -> bool:
        """Whether anything is learned from the teacher."""
        return self.weight > 0 or bool(self.maps)

    def loss(self, outputs: Any, goals: Any, labels: Mapping[str, Any]) -> Any:
        """The mean over the outputs, by the tasks' weights, of the loss with labels and the distance to the teacher.

        `goals`: the teacher's outputs; empty where nothing is learned from it.
        """
        total = sum(loss.task.weight for loss in self.losses.values())
        found = 0.0
        for (name, head), output, goal in zip(
            self.losses.items(), outputs, goals or [None] * len(outputs), strict=True
        ):
            own = head.with_labels(labels[name], output) if head.task.labeled and name in labels else 0.0
            far = self.weight * self.distance(head, output, goal) if self.weight else 0.0
            found += head.task.weight / total * (own + far)
        return found

    def distance(self, head: HeadLoss, output: Any, goal: Any) -> Any:
        """The distance of one output to the teacher's."""
        if self.temperature is None:
            return head.to_teacher(output, goal)
        return head.softened(output, goal, self.temperature)

    def map_loss(self, maps: Any, goals: Any) -> Any:
        """The mean over the maps of their squared distances, as shares of the teacher's mean squares."""
        each = [
            tf.reduce_mean(tf.square(tf.cast(one, tf.float32) - tf.cast(goal, tf.float32)))
            / (tf.reduce_mean(tf.square(tf.cast(goal, tf.float32))) + SMALLEST_POWER)
            for one, goal in zip(maps, goals, strict=True)
        ]
        return self.map_weight * sum(each) / len(each) if each else 0.0


class Trainer:
    """Training steps that change `model`, compiled once for all runs. The model's own regularization is in the loss.

    `optimizer` has a learning rate that is a number. Without the teacher's outputs a step runs the teacher, whose
    feature maps can be compared then.
    """

    def __init__(self, model: Any, teacher: Any, optimizer: Any, goal: Distillation) -> None:
        self.model, self.teacher, self.optimizer, self.goal = model, teacher, optimizer, goal
        self.schedule: Callable[[int], Any] = lambda step: optimizer.learning_rate
        self.compiled: Any = tf.function(self.change, reduce_retracing=True)
        optimizer.build(model.trainable_variables)

    def restart(self, schedule: Callable[[int], Any]) -> None:
        """Forget all averages of gradients, and train from now on at the rates that `schedule` gives for each step."""
        self.schedule = schedule
        for variable in self.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))

    def __call__(self, x: Any, y: Mapping[str, Any], known: Any = None) -> float:
        """Train on inputs, output -> labels, and the teacher's outputs if they are known. Gives the loss before."""
        self.optimizer.learning_rate = self.schedule(int(self.optimizer.iterations))
        loss: float = self.compiled(as_tensors(x), as_tensors(dict(y)), as_tensors(known or []))
        return loss

    def change(self, x: Any, y: Any, known: Any) -> Any:
        """One step, and the loss before it."""
        with grouped_by_parts(self.model, self.teacher):
            return self.step(x, y, known)

    def step(self, x: Any, y: Any, known: Any) -> Any:
        """One step with the layers as they compute now, and the loss before it."""
        wanted: Any = known
        wanted_maps: list[Any] = []
        if self.goal.has_teacher and not known:
            wanted, wanted_maps = with_maps(self.teacher, x, [pair.teacher for pair in self.goal.maps], training=False)
        with tf.GradientTape() as tape:
            ours, mode = [pair.model for pair in self.goal.maps], self.goal.batch_statistics
            found, maps = with_maps(self.model, x, ours, training=mode)
            loss = self.goal.loss(found, wanted, y) + self.goal.map_loss(maps, wanted_maps) + sum(self.model.losses)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return loss


def as_tensors(values: Any) -> Any:
    """Arrays as tensors."""
    return keras.tree.map_structure(tf.constant, values)


def with_maps(model: Any, x: Any, layers: list[Any], training: bool) -> tuple[list[Any], list[Any]]:
    """The outputs of a model for inputs, and what some of its layers give."""
    with recording_calls({str(i): layer for i, layer in enumerate(layers)}) as calls:
        outputs = keras.tree.flatten(model(x, training=training))
    return outputs, [recorded[-1][1] for recorded in calls.values()]
