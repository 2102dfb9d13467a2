"""A set-up that cannot be right is said before the work, and an ordinary one is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.preprocess import Preprocess
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.models.outputs import find_tasks, output_heads
from lrf_optuna.pipeline.setup_checks import setup_warnings
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.validation import validation_of

PARTS = ("train", "val", "test")


def warnings(model: Any, data: Data) -> list[str]:
    """What is said of a model and its data."""
    pixels = data.calibration(128, 0).pixels
    proxy = Proxy(model, data.preprocess(pixels), tasks=data.tasks)
    return list(setup_warnings(model, data, validation_of(proxy, data, pixels[len(proxy.scored) :], 0)))


def test_an_ordinary_set_up_is_not_remarked(digits_net: Any, digits: Data) -> None:
    assert warnings(digits_net, digits) == []


def test_validation_images_that_are_training_images_are_said(digits_net: Any, digits: Data) -> None:
    (text,) = warnings(digits_net, replace(digits, val=digits.train.take(slice(300))))
    assert text == "300 of 300 validation images are training images as well: choices by them are optimistic"
    half = LabeledImages(digits.test.pixels.copy(), digits.test.labels, digits.test.strata)
    half.pixels[:135] = digits.train.pixels[:135]
    (text,) = warnings(digits_net, replace(digits, test=half))
    assert text == "135 of 270 test images are training images as well: their figures are optimistic"


def test_pixels_that_were_divided_twice_are_said(digits_net: Any, digits: Data) -> None:
    better, chance = warnings(digits_net, replace(digits, preprocess=Preprocess(16 * 255)))
    assert "On images times 255 the original's accuracy would be 9" in better
    assert "where chance has" in chance
    assert "divided twice" in chance


def test_a_range_of_pixels_that_still_works_somehow_is_said_too(digits_net: Any, digits: Data) -> None:
    assert any(
        "On images times 16" in text for text in warnings(digits_net, replace(digits, preprocess=Preprocess(256)))
    )


def test_a_network_that_answers_the_frequent_class_for_all_images_is_said(digits: Data) -> None:
    def rare(part: LabeledImages) -> LabeledImages:
        return replace(part, labels=(part.labels == 3).astype(int), strata=(part.labels == 3).astype(int))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(16), layers.Dense(1, "sigmoid")])
    model.layers[-1].bias.assign([-50.0])
    tasks = find_tasks(output_heads(model), {OUTPUT: np.array([0, 1])})
    parts = {name: rare(getattr(digits, name)) for name in ("train", "val", "test")}
    (text,) = warnings(model, replace(digits, tasks=tasks, **parts))
    assert "answers 0 for all images" in text
    assert "--metric auc" in text


def test_a_regression_that_is_worse_than_the_mean_is_said(digits: Data) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(16), layers.Dense(1)])
    tasks = find_tasks(output_heads(model), {OUTPUT: np.array([0.5, 1.5])})
    parts = {name: replace(getattr(digits, name), labels=getattr(digits, name).labels[:, None] / 1.0) for name in PARTS}
    assert any("where chance has 0.0%" in text for text in warnings(model, replace(digits, tasks=tasks, **parts)))


def test_a_model_without_its_last_layer_is_asked_about(digits_net: Any, digits: Data) -> None:
    headless = keras.Model(digits_net.inputs, digits_net.layers[-2].output)
    tasks = find_tasks(output_heads(headless), {OUTPUT: digits.val.labels})
    assert any("is its last layer missing?" in text for text in warnings(headless, replace(digits, tasks=tasks)))


def test_pixels_far_from_what_batchnorm_saw_are_said(digits_net: Any, digits: Data) -> None:
    assert any(
        "first BatchNorm layer" in text for text in warnings(digits_net, replace(digits, preprocess=Preprocess(0.1)))
    )


def test_pixels_of_0_to_255_are_said_where_no_layer_scales_them(digits: Data) -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(10)])
    data = replace(digits, preprocess=Preprocess(1 / 16))
    assert any("most networks take" in text for text in warnings(model, data))


def test_an_original_at_chance_level_is_said(fresh_digits_net: Any, digits: Data) -> None:
    (text,) = warnings(fresh_digits_net, digits)
    assert "where chance has" in text
    assert "not trained" in text


def test_shuffled_labels_are_said(digits_net: Any, digits: Data) -> None:
    mixed = np.random.default_rng(0).permutation(digits.val.labels)
    (text,) = warnings(digits_net, replace(digits, val=replace(digits.val, labels=mixed)))
    assert "labels in another order" in text


def test_labels_of_one_class_are_said(digits_net: Any, digits: Data) -> None:
    def only_ones(part: LabeledImages) -> LabeledImages:
        return part.take(np.flatnonzero(part.labels == 1))

    parts = {name: only_ones(getattr(digits, name)) for name in ("train", "val", "test")}
    assert any("All labels are 1" in text for text in warnings(digits_net, replace(digits, **parts)))


def test_training_labels_of_one_class_among_others_are_said(digits_net: Any, digits: Data) -> None:
    threes = digits.train.take(np.flatnonzero(digits.train.labels == 3))
    said = warnings(digits_net, replace(digits, train=threes))
    assert any("All training labels are 3, and others are not" in text for text in said)


@pytest.mark.parametrize(("part", "count"), [("test", 5), ("val", 5), ("val", 1)])
def test_a_handful_of_images_is_said(part: str, count: int, digits_net: Any, digits: Data) -> None:
    few = replace(digits, **{part: getattr(digits, part).take(slice(count))})
    name, verb = {"val": "validation"}.get(part, part), "images are" if count > 1 else "image is"
    assert f"{count} {name} {verb} too few to tell anything: give 10 or more" in warnings(digits_net, few)


def test_a_metric_on_training_images_too_is_not_called_that_of_validation(digits_net: Any, digits: Data) -> None:
    few = replace(digits, val=digits.val.take(slice(50)), preprocess=Preprocess(16 * 255))
    said = " ".join(warnings(digits_net, few))
    assert "original's accuracy on validation and training images is" in said
    assert "validation accuracy" not in said


@pytest.fixture
def fresh_digits_net(digits_net: Any) -> Any:
    """The digits' network with random weights."""
    keras.utils.set_random_seed(3)
    return keras.models.clone_model(digits_net)
