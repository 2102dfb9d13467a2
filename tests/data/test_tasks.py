"""Labels are checked as their task wants them, and metrics are those of scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from lrf_optuna.data.metrics import METRICS
from lrf_optuna.data.tasks import Task, infer_kind, metric_name
from lrf_optuna.errors import LrfError

RNG = np.random.default_rng(0)
CLASSES = Task("classes", (4,))
BINARY = Task("binary", (1,), one_hot=False)
LABELS = Task("labels", (3,), one_hot=False, metric=METRICS["F1"])
NUMBERS = Task("numbers", (2,), metric=METRICS["R2"])
MAP = Task("map", (5, 6, 3), metric=METRICS["mean IoU"])
COPY = Task("copy", (5, 6, 1), metric=METRICS["R2"])


def with_metric(task: Task, name: str) -> Task:
    return replace(task, metric=METRICS[name])


WANTED = {
    "accuracy": metrics.accuracy_score,
    "balanced accuracy": metrics.balanced_accuracy_score,
    "F1": lambda y, p: metrics.f1_score(y, p, average="macro"),
}


@pytest.mark.parametrize("name", WANTED)
def test_metrics_of_classes_are_those_of_scikit_learn(name: str) -> None:
    labels, outputs = RNG.choice(4, 200, p=[0.6, 0.2, 0.1, 0.1]), RNG.normal(size=(200, 4))
    found = with_metric(CLASSES, name).measure(labels, outputs)
    assert found == pytest.approx(WANTED[name](labels, outputs.argmax(axis=1)))


@pytest.mark.parametrize("said", [[0, 1, 0, 0], [0, 0, 0, 0]])
def test_f1_follows_the_kind_of_the_task_and_not_the_labels_that_occur(said: list[int]) -> None:
    labels, found = np.array([0, 1, 1, 0]), np.array(said)
    many, yes = with_metric(CLASSES, "F1"), with_metric(BINARY, "F1")
    wanted = metrics.f1_score(labels, found, average="macro")
    assert many.measure(labels, np.eye(4)[found]) == pytest.approx(wanted)
    assert yes.measure(labels, found[:, None] - 0.5) == pytest.approx(metrics.f1_score(labels, found))


@pytest.mark.parametrize("probabilities", [False, True])
def test_metrics_of_yes_or_no_are_those_of_scikit_learn(probabilities: bool) -> None:
    labels, logits = RNG.choice(2, 200, p=[0.8, 0.2]), RNG.normal(size=(200, 1))
    outputs = 1 / (1 + np.exp(-logits)) if probabilities else logits
    task, said = replace(BINARY, from_probabilities=probabilities), logits[:, 0] > 0
    assert with_metric(task, "accuracy").measure(labels, outputs) == pytest.approx((labels == said).mean())
    assert with_metric(task, "F1").measure(labels, outputs) == pytest.approx(metrics.f1_score(labels, said))
    area = metrics.roc_auc_score(labels, logits[:, 0])
    assert with_metric(task, "AUC").measure(labels, outputs) == pytest.approx(area)


def test_metrics_of_several_labels_are_means_over_the_labels() -> None:
    labels, outputs = RNG.integers(0, 2, (200, 3)), RNG.normal(size=(200, 3))
    wanted = metrics.f1_score(labels, outputs > 0, average="macro")
    assert LABELS.measure(labels, outputs) == pytest.approx(wanted)
    area = metrics.roc_auc_score(labels, outputs)
    assert with_metric(LABELS, "AUC").measure(labels, outputs) == pytest.approx(area)


def test_r2_is_the_one_of_scikit_learn() -> None:
    labels = RNG.normal(size=(100, 2)) + 5
    outputs = labels + 0.3 * RNG.normal(size=(100, 2))
    assert NUMBERS.measure(labels, outputs) == pytest.approx(metrics.r2_score(labels, outputs))
    error = NUMBERS.further(labels, outputs)["mean absolute error"]
    assert error == pytest.approx(metrics.mean_absolute_error(labels, outputs))


def test_mean_iou_is_the_mean_of_the_jaccard_scores_without_ignored_positions() -> None:
    labels, outputs = RNG.integers(-1, 3, (20, 5, 6)), RNG.normal(size=(20, 5, 6, 3))
    counted, found = labels >= 0, outputs.argmax(axis=-1)
    wanted = metrics.jaccard_score(labels[counted], found[counted], average="macro")
    assert MAP.measure(labels, outputs) == pytest.approx(wanted)
    assert with_metric(MAP, "accuracy").measure(labels, outputs) == pytest.approx((labels == found)[counted].mean())


def test_outputs_that_are_not_finite_are_wrong_decisions() -> None:
    assert CLASSES.measure(np.zeros(2, int), np.array([[1.0, 0, 0, 0], [np.nan, 0, 0, 0]])) == 0.5


def test_a_class_that_is_no_longer_predicted_is_named() -> None:
    labels = np.array([0, 1, 2, 2])
    after = np.eye(4)[[0, 0, 2, 2]]
    assert CLASSES.never_predicted(labels, np.eye(4)[labels], after) == [1]
    assert CLASSES.never_predicted(labels, after, after) == [], "a class that was never predicted is not lost"


KINDS_OF_LABELS: list[tuple[Task, Any, Any]] = [
    (CLASSES, np.array([[3], [1]], np.uint8), [3, 1]),
    (CLASSES, np.array([3.0, 1.0]), [3, 1]),
    (CLASSES, np.eye(4, dtype=np.float32)[[3, 1]], [3, 1]),
    (BINARY, np.array([[True], [False]]), [1, 0]),
    (LABELS, np.array([[1.0, 0, 1]]), [[1, 0, 1]]),
    (NUMBERS, np.array([[1, 2]]), [[1, 2]]),
    (Task("numbers", (1,)), np.array([1, 2]), [[1], [2]]),
    (MAP, np.full((1, 5, 6, 1), 2, np.uint8), np.full((1, 5, 6), 2)),
    (MAP, np.eye(3)[np.ones((1, 5, 6), int)], np.ones((1, 5, 6))),
    (replace(MAP, ignore=255), np.full((1, 5, 6), 255, np.uint8), np.full((1, 5, 6), -1)),
    (COPY, np.ones((2, 5, 6)), np.ones((2, 5, 6, 1))),
]


@pytest.mark.parametrize(("task", "labels", "wanted"), KINDS_OF_LABELS)
def test_labels_of_every_usual_form_are_taken(task: Task, labels: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(task.check(labels, "y_train"), wanted)


WRONG_LABELS: list[tuple[Task, Any, str]] = [
    (CLASSES, np.array([4]), r"should be 0\.\.3 for 4 outputs, but are 4\.\.4"),
    (CLASSES, np.array([0.5]), "whole numbers or one-hot rows"),
    (CLASSES, np.ones((2, 4)), r"\(N,\), \(N, 1\) or one-hot"),
    (BINARY, np.array([0, 2]), "for numbers give --task numbers"),
    (BINARY, np.ones((3, 2)), "for yes or no"),
    (LABELS, np.array([[0, 1]]), "a 0 or 1 for each of the 3 labels"),
    (LABELS, np.array([[0, 1, 2]]), "for numbers give --task numbers"),
    (NUMBERS, np.ones((3, 3)), r"the shape \(N, 2\)"),
    (NUMBERS, np.array([[np.nan, 1]]), "NaN or infinite"),
    (NUMBERS, np.array([["a", "b"]]), "should hold numbers"),
    (MAP, np.ones((1, 5, 5), int), r"the shape \(N, 5, 6\)"),
    (MAP, np.full((1, 5, 6), 255), "give --ignore LABEL"),
    (Task("embedding", (7,)), np.ones(3), "give --labels none, or another --task"),
]


@pytest.mark.parametrize(("task", "labels", "words"), WRONG_LABELS)
def test_labels_that_do_not_fit_their_task_are_told_in_one_line(task: Task, labels: Any, words: str) -> None:
    with pytest.raises(LrfError, match=words) as caught:
        task.check(labels, "y_train")
    assert "\n" not in str(caught.value)


ONE_HOT = np.eye(5)[[1, 2, 2]]


@pytest.mark.parametrize(
    ("shape", "activation", "labels", "inputs", "kind"),
    [
        ((5,), "softmax", None, None, "classes"),
        ((5,), "", np.array([1, 4, 2]), None, "classes"),
        ((5,), "", ONE_HOT, None, "classes"),
        ((5,), "sigmoid", np.array([[0, 1, 1, 0, 1]]), None, "labels"),
        ((5,), "sigmoid", None, None, "labels"),
        ((5,), "", np.array([[0.5, 1, 2, 3, 4]]), None, "numbers"),
        ((5,), "", None, None, "embedding"),
        ((1,), "sigmoid", None, None, "binary"),
        ((1,), "", np.array([0, 1, 1]), None, "binary"),
        ((1,), "", np.array([0.5, 1, 3]), None, "numbers"),
        ((8, 8, 3), "softmax", None, (8, 8, 3), "map"),
        ((8, 8, 3), "", np.ones((2, 8, 8), int), (8, 8, 3), "map"),
        ((8, 8, 1), "sigmoid", np.ones((2, 8, 8, 1)), (8, 8, 3), "map"),
        ((8, 8, 1), "sigmoid", None, (8, 8, 1), "copy"),
        ((8, 8, 1), "", np.full((2, 8, 8, 1), 0.5), (8, 8, 1), "copy"),
        ((8, 8, 2), "", np.full((2, 8, 8, 2), 0.5), (8, 8, 1), "numbers"),
    ],
)
def test_the_kind_of_an_output_follows_from_shape_activation_and_labels(
    shape: Any, activation: str, labels: Any, inputs: Any, kind: str
) -> None:
    assert infer_kind(shape, activation, labels, inputs) == kind


def test_without_labels_the_metric_is_named_for_the_original() -> None:
    assert replace(CLASSES, labeled=False).metric_name == "agreement with the original"
    assert replace(NUMBERS, labeled=False).metric_name == "explained by the original"
    for task, name in ((LABELS, "F1"), (BINARY, "AUC"), (MAP, "mean IoU"), (CLASSES, "balanced accuracy")):
        assert replace(with_metric(task, name), labeled=False).metric_name == f"{name} against the original"
    assert metric_name({"a": CLASSES, "b": NUMBERS}) == "mean of accuracy and R2"
    outputs = RNG.normal(size=(3, 4))
    np.testing.assert_array_equal(CLASSES.labels_of(outputs), outputs.argmax(axis=1))
