"""Images of two parts are counted value by value, of several inputs together, and not where rows repeat anyway."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrf_optuna.data import overlap
from lrf_optuna.data.arrays import Images
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.overlap import known_images

RNG = np.random.default_rng(0)


def with_parts(digits: Data, train: Images, val: Images, test: Images) -> Data:
    return replace(digits, train=LabeledImages(train), val=LabeledImages(val), test=LabeledImages(test))


def test_digits_have_no_image_in_two_parts(digits: Data) -> None:
    assert known_images(digits) == {"val": (0, 269), "test": (0, 270)}


def test_equal_images_are_counted(digits: Data) -> None:
    images = RNG.random((600, 4, 4, 1))
    mixed = np.concatenate([images[590:], images[:7]])
    assert known_images(with_parts(digits, images[:500], mixed, images[495:])) == {"val": (7, 17), "test": (5, 105)}


def test_images_of_two_inputs_are_equal_where_both_are(digits: Data) -> None:
    one, other = RNG.random((2, 100, 6))
    train, val = {"a": one, "b": other}, {"a": one[:10], "b": np.concatenate([other[:4], RNG.random((6, 6))])}
    assert known_images(with_parts(digits, train, val, val)) == {"val": (4, 10), "test": (4, 10)}


def test_rows_that_repeat_among_the_training_images_say_nothing(digits: Data) -> None:
    rows = RNG.integers(0, 2, (300, 4))
    assert known_images(with_parts(digits, rows, rows, rows)) == {}


def test_of_a_large_set_the_first_images_are_compared(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.random((100, 8))
    monkeypatch.setattr(overlap, "MOST_BYTES", 10 * images[0].nbytes)
    assert known_images(with_parts(digits, images, images, images[50:])) == {"val": (10, 100), "test": (0, 50)}


def test_of_a_large_part_a_sample_is_looked_for(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.random((100, 8))
    monkeypatch.setattr(overlap, "MOST_IMAGES", 20)
    assert known_images(with_parts(digits, images, images, images[:5])) == {"val": (20, 20), "test": (5, 5)}
