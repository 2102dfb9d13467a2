"""Patches are what Keras sees, moments are what patches say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fitting import CASES, EVERY, FITTED, correlated_maps, gathered, keras_output, kernel_for

from lrf_optuna.chains.conv import Conv, contraction, pointwise, spatial
from lrf_optuna.fitting.patches import patches
from lrf_optuna.fitting.second_moment import SecondMoment

Array = np.ndarray[Any, Any]
over_cases = pytest.mark.parametrize(("op", "shape"), CASES.values(), ids=CASES)


@over_cases
def test_patches_times_the_kernel_are_the_outputs_of_the_keras_layer(op: Conv, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((3, *shape, op.cin)).astype(np.float32)
    rows = patches(x, op, EVERY)
    wanted = keras_output(op, kernel_for(op), x)
    np.testing.assert_allclose(
        (rows @ kernel_for(op).reshape(-1, op.cout)).reshape(wanted.shape), wanted, rtol=0, atol=2e-5
    )


@over_cases
def test_fewer_patches_are_some_of_all_the_same_for_the_same_seed(op: Conv, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((3, *shape, op.cin)).astype(np.float32)
    everything = {row.tobytes() for row in patches(x, op, EVERY)}
    some = patches(x, op, 3, seed=1)
    positions = int(np.prod(op.out_map(shape)))
    assert some.shape == (3 * min(3, positions), np.prod(op.kernel_shape[:-1]))
    assert {row.tobytes() for row in some} <= everything
    assert np.array_equal(some, patches(x, op, 3, seed=1))


@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 3))
def test_a_moment_is_the_same_from_the_rows_and_from_their_second_moment(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, matrix = rng.standard_normal((count, width)).astype(np.float32), rng.standard_normal((width, 3))
    second = (rows.T @ rows / count).astype(float)
    wanted = matrix.T @ (second + 1e-3 * np.trace(second) / width * np.eye(width)) @ matrix
    for moment in (SecondMoment.of((), rows.T @ rows / count), SecondMoment.of_rows((), rows)):
        root, white = moment.root(matrix), moment.whiten(matrix)
        for found in (root.T @ root, white.T @ white, matrix.T @ moment.back(root)):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.trace(wanted))
        assert moment.size(matrix) == pytest.approx(np.trace(matrix.T @ second @ matrix), rel=1e-3)
        np.testing.assert_allclose(moment.whiten(moment.whiten(matrix), inverse=True), matrix, rtol=2e-3, atol=2e-3)
    a, b = SecondMoment.of((), rows.T @ rows / count), SecondMoment.of_rows((), rows)
    assert a.ridge == pytest.approx(b.ridge, rel=1e-3)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_a_moment_is_gathered_in_any_batches(batch: int) -> None:
    op = FITTED["3x3"]
    maps, matrix = correlated_maps(op), np.eye(54)
    rows = patches(maps, op, EVERY)
    wanted = SecondMoment.of(op.window, rows.T @ rows / len(rows)).root(matrix)
    np.testing.assert_allclose(gathered(op, maps, batch).root(matrix), wanted, rtol=1e-3, atol=1e-3)


def test_a_smaller_first_stage_sees_the_moment_averaged_over_its_places_in_the_window() -> None:
    op = Conv((3, 2), 4, 6, (1, 1), (1, 1), "valid")
    maps = correlated_maps(op)
    rows = patches(maps, op, EVERY).astype(float)
    second = (rows.T @ rows / len(rows)).reshape(3, 2, 4, 3, 2, 4)
    moment = gathered(op, maps)

    def seen(stage: Conv) -> Array:
        root = moment.seen_by(stage).root(np.eye(int(np.prod(stage.window)) * 4))
        return root.T @ root

    second += 1e-3 * np.trace(second.reshape(24, 24)) / 24 * np.eye(24).reshape(second.shape)
    point = np.einsum("hwchwd->cd", second) / 6
    column = np.einsum("hwciwd->hcid", second).reshape(12, 12) / 2
    np.testing.assert_allclose(seen(pointwise(op, 4, 3)), point, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen(Conv((3, 1), 4, 3, (1, 1), (1, 1))), column, rtol=1e-3, atol=1e-3)
    assert moment.seen_by(spatial(op, 4, 3)) is moment


@pytest.mark.parametrize("count", [10, 60])
def test_a_contraction_sees_the_moment_averaged_over_its_slices(count: int) -> None:
    op = Conv((), 24, 5, (), ())
    rows = np.random.default_rng(0).standard_normal((count, 24)) @ np.random.default_rng(1).standard_normal((24, 24))
    second = rows.T @ rows / count
    wanted = SecondMoment.of((), np.einsum("litljt->ij", second.reshape(2, 3, 4, 2, 3, 4)) / 8).factor
    moment = gathered(op, rows.astype(np.float32), 100)
    np.testing.assert_allclose(moment.seen_by(contraction(2, 3, 7, 4)).factor, wanted, rtol=1e-2, atol=1e-2)
