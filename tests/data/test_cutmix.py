"""Rectangles of other images change the pixels inside them and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lrf_optuna.data.cutmix import SHARE, Rectangles
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import OUTPUT, Task

COUNT = 4000


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Image i has the value i everywhere."""
    return np.broadcast_to(np.arange(COUNT, dtype=np.int32)[:, None, None, None], (COUNT, 12, 8, 1)).copy()


def test_a_rectangle_has_its_partners_pixels_and_the_rest_stays(images: np.ndarray) -> None:
    found = Rectangles.draw(images, np.random.default_rng(0))
    mixed = found.paste(images)
    for i in range(60):
        top, bottom, left, right = found.boxes[i]
        inside = np.zeros((12, 8), bool)
        inside[top:bottom, left:right] = True
        assert (mixed[i][inside] == found.partners[i]).all()
        assert (mixed[i][~inside] == i).all()
        assert found.pasted[i] == inside.any()
    assert (images[:, 0, 0, 0] == np.arange(COUNT)).all(), "the images themselves stay"


def test_half_of_the_images_get_a_rectangle_whose_share_of_the_area_is_uniform(images: np.ndarray) -> None:
    found = Rectangles.draw(images, np.random.default_rng(0))
    sides = found.boxes[:, 1] - found.boxes[:, 0], found.boxes[:, 3] - found.boxes[:, 2]
    area = sides[0] * sides[1] / 96
    assert found.pasted.mean() == pytest.approx(SHARE, abs=0.04), "the smallest are empty"
    assert area[found.pasted].mean() == pytest.approx(0.5, abs=0.04)
    assert area.max() == 1
    assert found.boxes.min() == 0
    assert (found.boxes.max(axis=0) == [12, 12, 8, 8]).all()


def test_an_image_with_a_rectangle_has_no_label(digits: Data) -> None:
    data = replace(digits, augment="crop")
    assert (digits.train.labels >= 0).all()
    shares = []
    for cutmix in (False, True):
        found = [goals[OUTPUT] for _, _, goals in data.batches(64, np.random.default_rng(0), cutmix)]
        shares.append(np.mean(np.concatenate(found) < 0))
    assert shares == [0, pytest.approx(SHARE, abs=0.1)]
    for index, x, goals in data.batches(64, np.random.default_rng(0), True):
        has_label = goals[OUTPUT] >= 0
        np.testing.assert_array_equal(goals[OUTPUT][has_label], digits.train.labels[index][has_label])
        assert x.shape == (len(index), 8, 8, 1)


@pytest.mark.parametrize(
    ("task", "augment", "takes"),
    [
        (Task("classes", (None,)), "crop", True),
        (Task("binary", (1,)), "flip", True),
        (Task("labels", (4,)), "flip", True),
        (Task("map", (4, 4, 3)), "flip", False),
        (Task("numbers", (1,)), "flip", False),
        (Task("classes", (None,)), "none", False),
    ],
)
def test_it_is_for_decisions_about_augmented_images(digits: Data, task: Task, augment: str, takes: bool) -> None:
    assert replace(digits, tasks={OUTPUT: task}, augment=augment).takes_cutmix is takes
    sequence = replace(digits.train, pixels=digits.train.pixels[:, :, 0])
    assert not replace(digits, tasks={OUTPUT: task}, augment=augment, train=sequence).takes_cutmix
