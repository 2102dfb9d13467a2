"""What is strange about a result is said."""

from __future__ import annotations

import pytest

from lrf_optuna.pipeline.result_checks import lost_classes, strange_gain


@pytest.mark.parametrize(
    ("lost", "words"), [({}, []), ({"logits": [3]}, ["class 3 "]), ({"a": [1, 2]}, ["classes 1, 2 "])]
)
def test_classes_that_are_no_longer_predicted_are_said(lost: dict[str, list[int]], words: list[str]) -> None:
    found = list(lost_classes(lost))
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_only_a_network_far_above_the_original_is_strange() -> None:
    assert not list(strange_gain(0.5, 0.55, "accuracy"))
    (text,) = strange_gain(0.5, 0.75, "accuracy")
    assert "25.0 points of accuracy better" in text
