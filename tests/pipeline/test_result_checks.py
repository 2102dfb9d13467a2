"""What is strange about a result is said."""

from __future__ import annotations

import pytest

from lrf_optuna.pipeline.result_checks import (
    known_validation_images,
    lost_classes,
    missed_latency,
    strange_gain,
    worse_than_built,
)
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result


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


def test_an_original_that_knows_its_validation_images_is_said() -> None:
    assert not list(known_validation_images(0.95, 0.91, "accuracy"))
    assert not list(known_validation_images(0.85, 0.95, "accuracy"))
    (text,) = known_validation_images(0.998, 0.917, "accuracy")
    assert "99.8% accuracy on validation and 91.7% on test images" in text


def test_a_network_that_is_worse_than_the_built_one_is_said_with_the_way_back() -> None:
    original, better, worse = (Evaluation(10, 10, metric, 0.9) for metric in (0.95, 0.94, 0.92))
    given = "net", 1, 1, 1, {}, original, Candidate(7, Plan(()), {})
    (text,) = worse_than_built(Result(*given, built=better, calibrated=better, tuned=worse), 5000)
    assert text.startswith("the tuned network has 92.00% accuracy on validation images, and the built one 94.00%")
    assert text.endswith("--no-tune with --no-calibrate keeps that one")
    assert not list(worse_than_built(Result(*given, built=better, tuned=worse), 300)), (
        "two standard errors are 2.7 points"
    )
    assert not list(worse_than_built(Result(*given, built=worse, tuned=better), 5000))
    assert not list(worse_than_built(Result(*given), 5000))


@pytest.mark.parametrize(("after", "is_said"), [(0.5, False), (0.54, False), (0.7, True)])
def test_a_missed_target_of_milliseconds_is_said(after: float, is_said: bool) -> None:
    original = Evaluation(10, 10, 0.9, 0.9, milliseconds={"litert": 1.0})
    built = Evaluation(5, 5, 0.9, 0.9, milliseconds={"litert": after})
    result = Result("net", 1, 1, 1, {}, original, Candidate(0, Plan(()), {}), built=built)
    said = list(missed_latency(result, {"latency": 0.5}, "litert"))
    assert bool(said) == is_said
    assert all("70% of the milliseconds in litert, where the target was 50%" in text for text in said)
    assert not list(missed_latency(result, {"params": 0.5}, "litert"))
    assert not list(missed_latency(result, {"latency": 0.5}, "onnx"))
