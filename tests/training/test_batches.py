"""Batches take every image once a pass, in an order that follows from the seed, with the teacher's outputs beside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.training.batches import Batches


def test_a_pass_takes_each_image_once_in_another_order_each_time(digits: Data) -> None:
    steps, batches = len(digits.train) // 50, Batches(digits, 50, 0)
    first, second = (list(batches.epoch(epoch, steps)) for epoch in (0, 1))
    assert len(first) == len(second) == steps
    taken = {x.tobytes() for batch, *_ in first for x in batch}
    assert len(taken) >= 0.99 * 50 * steps, "the digits hold a few equal images"
    assert not np.array_equal(first[0][0], second[0][0])
    again = list(batches.epoch(0, steps))
    assert all(
        np.array_equal(a, b) and np.array_equal(c[OUTPUT], d[OUTPUT])
        for (a, c, _), (b, d, _) in zip(first, again, strict=True)
    )


def test_a_batch_larger_than_the_data_is_all_of_them(digits_net: Any, digits: Data) -> None:
    batches = Batches.of(digits, 10**6, 0, Evaluator(digits_net, digits.preprocess), 1)
    assert [len(x) for x, *_ in batches.epoch(0, 3)] == [len(digits.train)] * 3


def test_what_the_teacher_gives_is_known_beforehand_where_images_stay_as_they_are(
    digits_net: Any, digits: Data
) -> None:
    evaluator = Evaluator(digits_net, digits.preprocess)
    for x, _, goals in Batches.of(digits, 64, 0, evaluator, 2).epoch(0, 3):
        assert goals is not None
        np.testing.assert_allclose(goals[0], digits_net(x, training=False), atol=1e-4)


@pytest.mark.parametrize(("augment", "passes"), [("crop", 2), ("none", 1)])
def test_the_teacher_runs_in_every_step_where_that_is_no_waste(
    digits_net: Any, digits: Data, augment: str, passes: int
) -> None:
    data = replace(digits, augment=augment)
    batches = Batches.of(data, 64, 0, Evaluator(digits_net, data.preprocess), passes)
    assert batches.goals is None
