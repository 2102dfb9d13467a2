"""A network of a run measured for result.json: its size, its metrics, the classes that it no longer predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.evaluation import further_figures, overall_metric
from lrf_optuna.plans.result import Evaluation

Outputs = Mapping[str, Values]
"""Output -> what a network gives for the test images."""


def evaluation_of(model: Any, data: Data, outputs: Outputs, original: Outputs, **measured: Any) -> Evaluation:
    """The evaluation of a network by its `outputs` for the test images and those of the original.

    `measured`: the other fields of `Evaluation` (macs, val_metric, file_bytes, epochs).
    """
    tasks, labels = data.tasks, data.targets(data.test.labels)
    lost = {name: task.never_predicted(labels[name], original[name], outputs[name]) for name, task in tasks.items()}
    each = {f"{task.metric_name}, {name}": task.measure(labels[name], outputs[name]) for name, task in tasks.items()}
    return Evaluation(
        params=int(model.count_params()),
        test_metric=overall_metric(tasks, labels, outputs),
        further=further_figures(tasks, labels, outputs),
        by_output=each if len(each) > 1 else {},
        recalls={name: task.recalls(labels[name], outputs[name]) for name, task in tasks.items() if task.labeled},
        never_predicted={name: classes for name, classes in lost.items() if classes},
        **measured,
    )
