"""Arrays find their part, input and output by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrf_optuna.data.naming import group_arrays
from lrf_optuna.errors import LrfError

A, B = np.zeros(3), np.ones(3)
TWO = (["left", "right"], ["kind", "age"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"x_train.left": A, "x_train.right": B},
        {"x_train/left": A, "x_train_right": B},
        {"x_train_0": A, "x_train_1": B},
        {"x_train": {"left": A, "right": B}},
        {"x_train": [A, B]},
        {"x_train": (A, B)},
    ],
)
def test_several_inputs_are_named_in_every_usual_form(arrays: dict[str, Any]) -> None:
    found = group_arrays(arrays, *TWO)["x_train"]
    assert (found["left"] is A, found["right"] is B) == (True, True)


@pytest.mark.parametrize("key", ["x_train", "x_train.image", "x_train_0"])
def test_a_single_input_is_a_plain_array(key: str) -> None:
    assert group_arrays({key: A, "y_train": None}, ["image"], ["logits"]) == {"x_train": A}


def test_an_output_may_be_without_labels() -> None:
    found = group_arrays({"x_train": [A, B], "y_train.age": B}, *TWO)
    assert found["y_train"] == {"age": B}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_test": A}, "the data lack x_train; they hold: x_test"),
        ({}, "the data lack x_train; they hold: nothing"),
        ({"x_train": A}, "the model has several inputs: give x_train.NAME for left, right"),
        ({"x_train.left": A}, "x_train lacks right; the model's inputs: left, right"),
        ({"x_train": (A, B, A)}, "x_train has 3 arrays for 2: left, right"),
        ({"x_train": [A, B], "x_dev": A}, "unknown name 'x_dev': give x_train, y_train"),
        ({"x_train": [A, B], "y_train.size": A}, "unknown name 'y_train.size'"),
        ({"x_train": [A, B], "y_train": {"size": A, "age": B}}, "y_train has the unknown size"),
    ],
)
def test_names_that_do_not_fit_the_model_are_told(arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(LrfError, match=words):
        group_arrays(arrays, *TWO)
