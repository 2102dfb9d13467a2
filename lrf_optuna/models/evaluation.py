"""The metrics of a network on a part of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.data.arrays import Images, Values, batches_of
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.tasks import Task
from lrf_optuna.models.model_inputs import PASS_BATCH
from lrf_optuna.models.outputs import output_heads, with_units


class Evaluator:
    """A Keras model that is measured on raw images, in batches; its pass is compiled once for all calls.

    `preprocess`: raw images -> the model's inputs.
    """

    def __init__(self, model: Any, preprocess: Callable[[Images], Any]) -> None:
        self.heads, self.preprocess, self.model = output_heads(model), preprocess, model
        self.compiled: Any = None

    def compile(self, x: Any) -> Any:
        """The pass as a function of inputs like `x`, of any number of images: it is traced once."""
        signature = keras.tree.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.float32), x)

        def run(inputs: Any) -> list[Any]:
            return [tf.cast(with_units(y), tf.float32) for y in keras.tree.flatten(self.model(inputs, training=False))]

        return tf.function(run, input_signature=[signature])

    def outputs(self, pixels: Images) -> dict[str, Values]:
        """Output -> what the model gives for all raw images, `(n, ...)` float32."""
        found: list[list[Values]] = []
        for part in batches_of(pixels, PASS_BATCH):
            x = self.preprocess(part)
            self.compiled = self.compiled or self.compile(x)
            found.append([y.numpy() for y in self.compiled(x)])
        return {name: np.concatenate(parts) for name, parts in zip(self.heads, zip(*found, strict=True), strict=True)}

    def metric(self, data: Data, images: LabeledImages) -> float:
        """The metric of a part, the weighted mean over the outputs."""
        return overall_metric(data.tasks, data.targets(images.labels), self.outputs(images.pixels))


def overall_metric(tasks: Mapping[str, Task], labels: Mapping[str, Values], outputs: Mapping[str, Values]) -> float:
    """The metrics of all outputs with labels as one: the mean by the weights of the tasks."""
    weights = {name: tasks[name].weight for name in labels}
    found = sum(weights[name] * tasks[name].measure(labels[name], outputs[name]) for name in labels)
    return float(found / sum(weights.values()))


def further_figures(
    tasks: Mapping[str, Task], labels: Mapping[str, Values], outputs: Mapping[str, Values]
) -> dict[str, float]:
    """Name -> figure beside the metric, of all outputs; the name has the output's where there are several."""
    found: dict[str, float] = {}
    for name, task in tasks.items():
        figures = task.further(labels[name], outputs[name])
        found |= {f"{figure}, {name}" if len(tasks) > 1 else figure: value for figure, value in figures.items()}
    return found
