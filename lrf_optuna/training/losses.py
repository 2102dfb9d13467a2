"""What a network is trained for: the loss with the labels that fits each output's task, and the distance to a teacher.

Both are free of the outputs' units: squared differences of numbers count in variances of the teacher's outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.tasks import Task
from lrf_optuna.errors import LrfError
from lrf_optuna.models.outputs import OutputHead

LossFunction = Callable[[Any, Any], Any]
"""(labels, outputs) -> a loss for every image or one for all, as Keras' losses are."""
LOCATION = re.compile(r" for '\{\{.*|\{\{.*?\}\} ?|\[Op:\w+\].*|Arguments received by .*", re.DOTALL)
"""Parts of a message of TensorFlow or Keras that say nothing to a user."""
SMALLEST_SCALE = 1e-6
"""Share of the mean variance that a unit's variance counts as at least: units that hardly vary say little."""


@dataclass(frozen=True)
class HeadLoss:
    """The losses of one output. `scale`: the variances of its units; `function`: the user's own loss, if any."""

    head: OutputHead
    task: Task
    scale: Any
    function: LossFunction | None = None

    def with_labels(self, labels: Any, outputs: Any) -> Any:
        """The mean loss of outputs `(n, ...)` with labels; negative labels of decisions do not count.

        It is the cross-entropy of decisions, and the mean squared difference of numbers, in variances.
        """
        if self.function is not None:
            return keras.ops.mean(self.function(labels, outputs))
        logits = self.head.logits(outputs)
        if not self.task.decides:
            return keras.ops.mean(keras.ops.square(logits - keras.ops.cast(labels, "float32")) / self.scale)
        counted = keras.ops.cast(labels >= 0, "float32")
        if self.task.one_hot:
            known = keras.ops.maximum(keras.ops.cast(labels, "int32"), 0)
            losses = keras.losses.sparse_categorical_crossentropy(known, logits, from_logits=True)
        else:
            logits = logits[..., 0] if self.task.kind == "binary" else logits
            known = keras.ops.cast(labels, "float32")
            losses = keras.ops.softplus(logits) - known * logits
        return keras.ops.sum(losses * counted) / keras.ops.maximum(keras.ops.sum(counted), 1.0)

    def to_teacher(self, outputs: Any, goal: Any) -> Any:
        """Half the mean squared difference to the teacher's values before the activation (Ba and Caruana 2014, eq. 1).

        Of numbers it is in variances of the teacher's.
        """
        difference = keras.ops.square(self.head.logits(outputs) - self.head.logits(goal))
        return keras.ops.mean(difference if self.task.decides else difference / self.scale) / 2

    def softened(self, outputs: Any, goal: Any, temperature: float) -> Any:
        """The mean divergence from the teacher's probabilities, both softened (Hinton et al. 2015, section 2.1).

        It is multiplied by the squared temperature, so that its gradients do not depend on it. Of numbers it is the
        distance `to_teacher`.
        """
        if not self.task.decides:
            return self.to_teacher(outputs, goal)
        ours, theirs = self.head.logits(outputs) / temperature, self.head.logits(goal) / temperature
        if self.task.one_hot:
            shares = keras.ops.softmax(theirs)
            each = keras.ops.sum(shares * (keras.ops.log_softmax(theirs) - keras.ops.log_softmax(ours)), axis=-1)
        else:
            share, softplus = keras.ops.sigmoid(theirs), keras.ops.softplus
            each = share * (theirs - ours) + softplus(ours) - softplus(theirs)
        return temperature**2 * keras.ops.mean(each)


def check_own_losses(
    losses: Mapping[str, LossFunction], labels: Mapping[str, Values], outputs: Mapping[str, Values]
) -> None:
    """Raises LrfError where a loss that is not the task's own gives no finite number for the original's outputs.

    It is computed in a graph, as a training step does.
    """
    for name, function in losses.items():
        mean = tf.function(lambda y, z, function=function: keras.ops.mean(function(y, z)))
        shapes = f"labels {labels[name].shape} and outputs {outputs[name].shape}"
        try:
            found = float(mean(tf.constant(labels[name]), tf.constant(outputs[name])))
        except Exception as reason:  # whatever a stranger's code raises
            why = LOCATION.sub("", str(reason)).strip().splitlines() or [type(reason).__name__]
            raise LrfError(
                f"the loss of {name} cannot be computed from {shapes} ({why[-1].strip():.120}): give another --loss"
            ) from reason
        if not np.isfinite(found):
            raise LrfError(f"the loss of {name} should be a finite number, but is {found}: give another --loss")


def head_losses(
    heads: Mapping[str, OutputHead],
    tasks: Mapping[str, Task],
    teacher_outputs: Mapping[str, Values],
    functions: Mapping[str, LossFunction] | None = None,
) -> dict[str, HeadLoss]:
    """Output -> its losses; `teacher_outputs`: what the teacher gives for some images, which tells the variances."""
    found = {}
    for name, head in heads.items():
        values = teacher_outputs[name]
        variance = values.reshape(-1, values.shape[-1]).var(axis=0)
        scale = np.maximum(variance, SMALLEST_SCALE * variance.mean()) + np.float32(1e-30)
        found[name] = HeadLoss(head, tasks[name], scale.astype(np.float32), (functions or {}).get(name))
    return found
