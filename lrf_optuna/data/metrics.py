"""The metrics of predictions: functions of labels and predictions, larger is better and 1 is perfect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lrf_optuna.data.arrays import Values

MetricFunction = Callable[[Values, Values], float]
"""(labels, predictions) -> a number; larger is better, 1 is perfect."""
SMALLEST_VARIANCE = 1e-12
"""Variances below this count as none."""


@dataclass(frozen=True)
class Metric:
    """A metric that a task can be measured by: its name in reports and its function of labels and predictions.

    `decides`: whether the function takes decisions (classes, yes or no) rather than the outputs themselves.
    `yes_or_no`: the function for tasks of yes or no, where it is another one.
    """

    name: str
    function: MetricFunction
    decides: bool = True
    yes_or_no: MetricFunction | None = None


def balanced_accuracy(labels: Values, predictions: Values) -> float:
    """The mean over the classes that occur of the share of their images that is right (recall)."""
    labels, predictions = labels.reshape(-1), predictions.reshape(-1)
    return float(np.mean([np.mean(predictions[labels == one] == one) for one in np.unique(labels)]))


def f1(labels: Values, predictions: Values) -> float:
    """F1, the mean over the classes that occur, or over all of several labels."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average="macro", zero_division=0))


def f1_of_yes(labels: Values, predictions: Values) -> float:
    """F1 of the positive class of yes (1) or no (0)."""
    positive, true = (predictions == 1).sum() + (labels == 1).sum(), ((predictions == 1) & (labels == 1)).sum()
    return float(2 * true / positive) if positive else 0.0


def auc(labels: Values, outputs: Values) -> float:
    """The area under the ROC curve, the mean over labels that have both answers; 0.5 where none has."""
    from sklearn.metrics import roc_auc_score

    columns = zip(labels.reshape(len(labels), -1).T, outputs.reshape(len(outputs), -1).T, strict=True)
    areas = [roc_auc_score(a, b) for a, b in columns if 0 < a.mean() < 1 and np.isfinite(b).all()]
    return float(np.mean(areas)) if areas else 0.5


def r2(labels: Values, outputs: Values) -> float:
    """The explained share of the variance, 1 - SSE / SST, the mean over units (of the last axis) that vary."""
    found, wanted = (values.reshape(-1, values.shape[-1]).astype(np.float64) for values in (outputs, labels))
    squares, total = ((found - wanted) ** 2).sum(axis=0), ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    varies = total > SMALLEST_VARIANCE * len(wanted)
    return float(np.mean(1 - squares[varies] / total[varies])) if varies.any() else float(not squares.any())


def mean_iou(labels: Values, predictions: Values) -> float:
    """The mean over the classes that occur of intersection over union; negative labels are ignored."""
    counted = labels >= 0
    wanted, found = labels[counted].astype(np.int64), predictions[counted].astype(np.int64)
    classes = int(max(wanted.max(initial=0), found.max(initial=0))) + 1
    table = np.bincount(classes * wanted + found, minlength=classes**2).reshape(classes, classes)
    union = table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    occurs = table.sum(axis=1) > 0
    return float(np.mean(np.diag(table)[occurs] / union[occurs])) if occurs.any() else 0.0


def accuracy(labels: Values, predictions: Values) -> float:
    """The share of decisions that are right; negative labels are ignored."""
    counted = labels >= 0
    return float(np.mean(predictions[counted] == labels[counted]))


def mean_absolute_error(labels: Values, outputs: Values) -> float:
    """The mean absolute difference, in the unit of the labels; shown beside a metric, not chosen by."""
    return float(np.mean(np.abs(outputs - labels)))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy),
        Metric("balanced accuracy", balanced_accuracy),
        Metric("F1", f1, yes_or_no=f1_of_yes),
        Metric("AUC", auc, decides=False),
        Metric("mean IoU", mean_iou),
        Metric("R2", r2, decides=False),
    )
}
"""Name -> metric. Larger is better, and 1 is perfect."""


def standard_error(share: float, count: int) -> float:
    """The standard error of a share of `count` decisions, such as an accuracy; below 0 it counts as 0, above 1 as 1."""
    inside = min(max(share, 0.0), 1.0)
    return float(np.sqrt(inside * (1 - inside) / max(count, 1)))
