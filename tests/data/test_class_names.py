"""Labels that are texts become numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrf_optuna.data.class_names import index_names
from lrf_optuna.errors import LrfError

WORDS = np.array(["dog", "cat", "emu", "cat"])


@pytest.mark.parametrize("words", [WORDS, WORDS.astype(object), WORDS.astype("S"), WORDS.astype("S").astype(object)])
def test_texts_become_their_places_in_sorted_order(words: Any) -> None:
    found, notes = index_names({"x_train": 0, "y_train": words, "y_test": words[:2]})
    assert (found["y_train"].tolist(), found["y_test"].tolist(), found["x_train"]) == ([1, 0, 2, 0], [1, 0], 0)
    assert notes == (
        "The labels are texts. Classes are numbered in the sorted order of their names: cat = 0, dog = 1, emu = 2.",
    )


def test_texts_of_numbers_are_these_numbers() -> None:
    found, notes = index_names({"y_train": np.array(["10", "2", " 1.5"])})
    assert found["y_train"].tolist() == [10, 2, 1.5]
    assert notes == ("The labels are texts of numbers, which are taken as these numbers.",)


def test_every_output_has_its_own_names() -> None:
    labels = {"kind": WORDS, "age": np.arange(4.0)}
    found, notes = index_names({"y_train": labels, "y_test": labels})
    assert found["y_test"]["kind"].tolist() == [1, 0, 2, 0]
    assert found["y_train"]["age"] is labels["age"]
    assert notes[0].startswith("kind: The labels are texts.")
    assert labels["kind"] is WORDS, "the argument is left alone"


def test_numbers_stay_as_they_are() -> None:
    labels = np.arange(4)
    found, notes = index_names({"y_train": labels})
    assert found["y_train"] is labels
    assert notes == ()


def test_a_name_that_no_training_label_has_is_refused() -> None:
    with pytest.raises(LrfError, match="y_test has labels that y_train has not: fox"):
        index_names({"y_train": WORDS, "y_test": np.array(["fox", "cat"])})
