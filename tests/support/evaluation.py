"""The accuracy of a Keras model on labeled images."""

from __future__ import annotations

from typing import Any

from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.models.evaluation import Evaluator


def accuracy(model: Any, data: Data, images: LabeledImages) -> float:
    """The share of raw images that a model gets right."""
    return Evaluator(model, data.preprocess).accuracy(images)
