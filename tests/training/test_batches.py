"""Batches take every image once a pass, in an order that follows from the seed, with the teacher's outputs beside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.progress import Heard

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
    batches = Batches.of(digits, 10**6, 0, Evaluator(digits_net, digits.preprocess))
    assert [len(x) for x, *_ in batches.epoch(0, 3)] == [len(digits.train)] * 3


def test_the_teacher_runs_once_on_images_that_are_not_augmented(digits_net: Any, digits: Data) -> None:
    batches, heard = Batches.of(digits, 64, 0, Evaluator(digits_net, digits.preprocess)), Heard()
    for epoch in range(2):
        for x, _, goals in batches.epoch(epoch, 3, heard):
            assert goals is not None
            np.testing.assert_allclose(goals[0], digits_net(x, training=False), atol=1e-4)
    assert heard.tasks == ["outputs of the original"]


def test_augmented_images_are_new_in_every_epoch_and_the_teacher_runs_in_every_step(
    digits_net: Any, digits: Data
) -> None:
    data = replace(digits, augment="crop")
    batches, steps = Batches.of(data, 64, 0, Evaluator(digits_net, data.preprocess)), len(data.train) // 64
    epochs = [list(batches.epoch(epoch, steps)) for epoch in (0, 1)]
    images = [{x.tobytes() for batch, *_ in epoch for x in batch} for epoch in epochs]
    assert len(images[0] & images[1]) < 0.3 * len(images[0])
    assert {goals for epoch in epochs for *_, goals in epoch} == {None}


def test_the_teacher_runs_in_every_step_where_its_outputs_take_too_much_memory(
    digits_net: Any, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_optuna.training.batches.KEPT_BYTES", 1000)
    batches = Batches.of(digits, 64, 0, Evaluator(digits_net, digits.preprocess))
    assert [goals for *_, goals in batches.epoch(0, 2)] == [None, None]
