"""What the labels of an output mean: how they are checked, and by which metrics predictions are measured.

A task is one of `KINDS`. Its metrics compare what the model gives with the labels; 1 is perfect, and a metric may be
negative. Without labels the original's own outputs take their place, and the metric is called fidelity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.metrics import METRICS, Metric, mean_absolute_error
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.errors import LrfError

OUTPUT = "logits"
"""The name of the only output of a model; of several outputs each has the name that Keras gives it."""
THRESHOLD = 0.5
"""Probability from which a sigmoid unit says yes."""
FIDELITY = {"accuracy": "agreement with the original", "R2": "explained by the original"}
"""Metric -> its name where the original's outputs stand for labels; others are "F1 against the original"."""


@dataclass(frozen=True)
class Kind:
    """A kind of task: the metrics that fit it, its own first, and the similarity that can see its outputs."""

    metrics: tuple[str, ...]
    similarity: str
    words: str


KINDS = {
    "classes": Kind(("accuracy", "balanced accuracy", "F1"), "cosine", "one of several classes"),
    "binary": Kind(("accuracy", "balanced accuracy", "F1", "AUC"), "explained", "yes or no"),
    "labels": Kind(("F1", "AUC", "accuracy"), "explained", "any of several labels"),
    "numbers": Kind(("R2",), "explained", "numbers"),
    "map": Kind(("mean IoU", "accuracy"), "explained", "a class or yes and no for every position"),
    "copy": Kind(("R2",), "explained", "the input again"),
    "embedding": Kind(("R2",), "explained", "a vector without labels"),
}
"""Name of a kind of task -> what goes with it."""


def metric_name(tasks: Mapping[str, Task]) -> str:
    """The name of the metric of all outputs: that of the only one, else of the mean of theirs."""
    names = list(dict.fromkeys(task.metric_name for task in tasks.values()))
    return names[0] if len(tasks) == 1 else f"mean {names[0]}" if len(names) == 1 else f"mean of {' and '.join(names)}"


@dataclass(frozen=True)
class Task:
    """What one output is for.

    `kind`: a key of `KINDS`; `shape`: of the output without the batch axis; `one_hot`: whether a decision is the
    largest of the last axis, rather than yes or no for every unit; `from_probabilities`: whether the model gives
    probabilities, so that yes begins at one half, else at 0. `ignore`: a label of a map that does not count.
    `labeled`: false where the original's outputs stand for labels.
    """

    kind: str
    shape: OpenShape
    one_hot: bool = True
    from_probabilities: bool = False
    metric: Metric = field(default_factory=lambda: METRICS["accuracy"])
    ignore: int | None = None
    weight: float = 1.0
    labeled: bool = True

    @property
    def units(self) -> int:
        """Numbers of the last axis."""
        return int(self.shape[-1] or 0)

    @property
    def decides(self) -> bool:
        """Whether outputs stand for decisions, which can be counted."""
        return self.kind in ("classes", "binary", "labels", "map")

    def decisions(self, outputs: Values) -> Values:
        """The decisions `(n, ...)` of outputs: the largest unit, or yes (1) and no (0). Not finite outputs are -2."""
        broken = ~np.isfinite(outputs)
        if self.one_hot:
            return np.where(broken.any(axis=-1), -2, outputs.argmax(axis=-1))
        found = np.where(broken, -2, outputs > (THRESHOLD if self.from_probabilities else 0))
        return found[..., 0] if self.kind == "binary" else found

    def judged(self, outputs: Values) -> Values:
        """What the metric takes of outputs `(n, *shape)`: their decisions, or the outputs, where finite."""
        if self.metric.decides:
            return self.decisions(outputs)
        return np.nan_to_num(outputs[..., 0] if self.kind == "binary" else outputs)

    def metric_of(self, labels: Values, judged: Values) -> float:
        """The metric of what `judged` gives, with checked labels."""
        other = self.metric.yes_or_no if self.kind == "binary" else None
        return float((other or self.metric.function)(labels, judged))

    def measure(self, labels: Values, outputs: Values) -> float:
        """The metric of outputs `(n, *shape)` with checked labels."""
        return self.metric_of(labels, self.judged(outputs))

    @property
    def metric_name(self) -> str:
        """The name of the metric in reports; without labels it says that the original is what is compared with."""
        name = self.metric.name
        return name if self.labeled else FIDELITY.get(name, f"{name} against the original")

    def further(self, labels: Values, outputs: Values) -> dict[str, float]:
        """Figures beside the metric: the kind's other metrics, and the mean absolute error of numbers."""
        if not self.labeled:
            return {}
        others = [name for name in KINDS[self.kind].metrics if name != self.metric.name]
        found = {name: replace(self, metric=METRICS[name]).measure(labels, outputs) for name in others}
        if self.kind in ("numbers", "copy"):
            found["mean absolute error"] = mean_absolute_error(labels, outputs)
        return found

    def labels_of(self, outputs: Values) -> Values:
        """The original's outputs as labels: its decisions, or the outputs themselves."""
        return self.decisions(outputs).astype(np.int64) if self.decides else outputs

    def never_predicted(self, labels: Values, before: Values, after: Values) -> list[int]:
        """Classes with labels that the outputs `before` decide for somewhere, and those `after` never."""
        if not self.decides or self.kind == "labels":
            return []
        occur = set(np.unique(labels[labels >= 0]).tolist()) & set(np.unique(self.decisions(before)).tolist())
        return sorted(occur - set(np.unique(self.decisions(after)).tolist()))

    def recalls(self, labels: Values, outputs: Values) -> dict[str, float]:
        """Class -> the share of its images (or positions) that is decided right; for one of several classes only."""
        if self.kind not in ("classes", "binary", "map"):
            return {}
        found, occur = self.decisions(outputs), np.unique(labels[labels >= 0])
        return {str(one): float(np.mean(found[labels == one] == one)) for one in occur.tolist()}

    def check(self, labels: Values, part: str) -> Values:
        """Labels as the metrics take them. Raises LrfError where they do not fit the task, with what would fit."""
        return CHECKS[self.kind](self, labels, part)


def whole_labels(labels: Values, part: str) -> NDArray[np.int64]:
    """Labels as integers. Raises LrfError where they are not whole."""
    if labels.dtype.kind not in "buif" or not (np.isfinite(labels) & (labels == np.round(labels))).all():
        found = "NaN" if labels.dtype.kind == "f" and np.isnan(labels).any() else f"{labels.dtype} values that are not"
        raise LrfError(f"{part} should hold whole numbers or one-hot rows, but got {found}")
    return labels.astype(np.int64)


def check_classes(task: Task, labels: Values, part: str) -> Values:
    """`(n,)` integers of labels that are integers `(n,)` or `(n, 1)`, or one-hot `(n, classes)`."""
    found = whole_labels(labels, part)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2 and (np.sort(found, axis=1) == np.eye(found.shape[1])[-1]).all():
        found = found.argmax(axis=1)
    if found.ndim != 1:
        raise LrfError(f"{part} should have the shape (N,), (N, 1) or one-hot (N, K), but got {labels.shape}")
    return in_range(found, task.units, part, "")


def check_binary(task: Task, labels: Values, part: str) -> Values:
    """`(n,)` zeros and ones of labels `(n,)` or `(n, 1)`."""
    if labels.size != len(labels):
        raise LrfError(f"{part} should have the shape (N,) or (N, 1) for yes or no, but got {labels.shape}")
    return in_range(whole_labels(labels.reshape(-1), part), 2, part, "; for numbers give --task numbers")


def check_labels(task: Task, labels: Values, part: str) -> Values:
    """`(n, labels)` zeros and ones."""
    if labels.shape[1:] != task.shape:
        raise LrfError(f"{part} should have a 0 or 1 for each of the {task.units} labels, but got {labels.shape}")
    return in_range(whole_labels(labels, part), 2, part, "; for numbers give --task numbers")


def check_numbers(task: Task, labels: Values, part: str) -> Values:
    """`(n, *shape)` float32; `(n,)` for one number."""
    given = labels[:, None] if labels.ndim == 1 and task.shape == (1,) else labels
    given = given[..., None] if given.ndim == len(task.shape) and task.shape[-1] == 1 else given
    if not same_size(task.shape, given.shape[1:]):
        raise LrfError(f"{part} should have the shape (N, {', '.join(map(str, task.shape))}), but got {labels.shape}")
    if given.dtype.kind not in "buif":
        raise LrfError(f"{part} should hold numbers, but got {given.dtype}")
    if task.kind == "copy":
        return given
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise LrfError(f"{part} holds NaN or infinite numbers: clean the labels first")
    return given.astype(np.float32)


def check_map(task: Task, labels: Values, part: str) -> Values:
    """Classes `(n, *positions)`, or zeros and ones `(n, *shape)`; what is ignored is -1."""
    found = whole_labels(labels, part)
    if task.one_hot and found.shape[1:] == task.shape and found.max() <= 1 and (found.sum(axis=-1) == 1).all():
        found = found.argmax(axis=-1)
    if task.one_hot and found.ndim == len(task.shape) + 1 and found.shape[-1] == 1:
        found = found[..., 0]
    if not task.one_hot and found.ndim == len(task.shape) and task.units == 1:
        found = found[..., None]
    wanted = task.shape[:-1] if task.one_hot else task.shape
    if not same_size(wanted, found.shape[1:]):
        raise LrfError(f"{part} should have the shape (N, {', '.join(map(str, wanted))}), but got {labels.shape}")
    if task.ignore is not None:
        found[found == task.ignore] = -1
    most, counted = task.units if task.one_hot else 2, np.where(found == -1, 0, found)
    remedy = "; give --ignore LABEL for a label that does not count"
    if not task.one_hot and set(np.unique(counted).tolist()) <= {0, 255}:
        remedy = "; masks of 0 and 255 should be divided by 255"
    in_range(counted, most, part, remedy)
    return found.astype(np.int16)


def check_nothing(task: Task, labels: Values, part: str) -> Values:
    """Raises LrfError: a vector has no labels."""
    raise LrfError(f"{part} is there, but the task 'embedding' has no labels: give --labels none, or another --task")


def in_range(labels: Values, count: int, part: str, remedy: str) -> Values:
    """The labels, if they are in 0 to `count` - 1. Raises LrfError where they are not."""
    if labels.size and (labels.min() < 0 or labels.max() >= (count or np.inf)):
        given = f"{labels.min()}..{labels.max()}"
        raise LrfError(f"the labels of {part} should be 0..{count - 1} for {count} outputs, but are {given}{remedy}")
    return labels


CHECKS: dict[str, Callable[[Task, Values, str], Values]] = {
    "classes": check_classes,
    "binary": check_binary,
    "labels": check_labels,
    "numbers": check_numbers,
    "map": check_map,
    "copy": check_numbers,
    "embedding": check_nothing,
}


def infer_kind(shape: OpenShape, activation: str, labels: Values | None, inputs: tuple[int, ...] | None) -> str:
    """The kind of an output from its shape, its activation and its labels, if any.

    `activation`: `softmax`, `sigmoid` or nothing; `inputs`: the shape of the only input, which tells a copy.
    """
    units, positions = shape[-1], len(shape) > 1
    if labels is None:
        if positions and inputs is not None and same_size(shape, inputs) and activation != "softmax":
            return "copy"
        if activation:
            return "map" if positions else {"softmax": "classes"}.get(activation, "binary" if units == 1 else "labels")
        return "embedding"
    whole = labels.dtype.kind in "bui" or (labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()))
    zero_one = whole and labels.min() >= 0 and labels.max() <= 1
    if positions:
        if activation == "softmax" or (activation == "sigmoid" and zero_one):
            return "map"
        if inputs is not None and labels.shape[1:] == inputs and same_size(shape, inputs):
            return "copy"
        one_number = same_size(shape[:-1], labels.shape[1:]) or same_size((*shape[:-1], 1), labels.shape[1:])
        return "map" if whole and one_number and (units or 0) > 1 else "numbers"
    if units == 1:
        return "binary" if zero_one else "numbers"
    one_column = labels.size == len(labels)
    one_hot = zero_one and not one_column and bool((labels.reshape(len(labels), -1).sum(axis=1) == 1).all())
    if activation == "softmax" or (whole and one_column) or one_hot:
        return "classes"
    return "labels" if zero_one else "numbers"


def same_size(shape: OpenShape, other: tuple[int, ...]) -> bool:
    """Whether two shapes are equal where both are known."""
    return len(shape) == len(other) and all(n in (None, m) for n, m in zip(shape, other, strict=True))
