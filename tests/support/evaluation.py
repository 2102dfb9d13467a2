"""Metrics of Keras models and of plans on labeled images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.preprocess import Preprocess
from lrf_optuna.data.tasks import OUTPUT, Task
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.validation import Validation


def accuracy(model: Any, data: Data, images: LabeledImages) -> float:
    """The metric of a model on raw images, which is the accuracy where classes are the task."""
    return Evaluator(model, data.preprocess).metric(data, images)


def classes_of(
    proxy: Proxy, images: Any, labels: Any, batches: Callable[[], Iterable[Any]], preprocess: Any = None
) -> Validation:
    """The accuracy of the networks of a proxy with one output of classes, on labeled images."""
    part = LabeledImages(images, labels)
    tasks = {OUTPUT: Task("classes", tuple(proxy.network.model.outputs[0].shape[1:]))}
    data = Data(part, part, part, preprocess or Preprocess(), "none", (), "arrays", tasks)
    return Validation(proxy, part, data, batches)
