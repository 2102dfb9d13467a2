"""Patches are what Keras sees, moments are what patches say, and a fit is the best there is under them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.decompositions import DECOMPOSITIONS, chain_of
from lrf_optuna.plan import INTACT, Choice
from lrf_optuna.refit import Gathering, Moment, balanced, channel_norms, error, fit, patches
from lrf_optuna.stages import Chain, Conv, pointwise, spatial

Array = np.ndarray[Any, Any]
EVERY = 10**9
CONVS = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D]
CASES = {
    "3x3 same": (Conv((3, 3), 4, 6, (1, 1), (1, 1), "same"), (7, 6)),
    "3x3 same, stride 2": (Conv((3, 3), 4, 6, (2, 2), (1, 1), "same"), (7, 6)),
    "3x3 valid, strides 2 and 1": (Conv((3, 3), 4, 6, (2, 1), (1, 1), "valid"), (7, 6)),
    "3x3 same, dilated": (Conv((3, 3), 4, 6, (1, 1), (2, 2), "same"), (7, 6)),
    "3x3 valid, dilated": (Conv((3, 3), 4, 6, (1, 1), (2, 2), "valid"), (7, 6)),
    "even window, stride 3": (Conv((4, 2), 4, 6, (3, 3), (1, 1), "same"), (7, 6)),
    "1x5": (Conv((1, 5), 4, 6, (1, 1), (1, 1), "same"), (7, 6)),
    "1x1, stride 2": (Conv((1, 1), 4, 6, (2, 2), (1, 1)), (7, 6)),
    "1-D same, stride 2": (Conv((5,), 4, 6, (2,), (1,), "same"), (9,)),
    "1-D causal, dilated": (Conv((3,), 4, 6, (1,), (2,), "causal"), (9,)),
    "1-D causal, stride 2": (Conv((3,), 4, 6, (2,), (1,), "causal"), (8,)),
    "3-D same": (Conv((3, 2, 3), 2, 3, (1, 1, 1), (1, 1, 1), "same"), (4, 5, 4)),
    "3-D valid, stride 2": (Conv((2, 2, 3), 2, 3, (2, 2, 2), (1, 1, 1), "valid"), (4, 5, 4)),
    "dense": (Conv((), 6, 5, (), ()), ()),
    "dense on a sequence": (Conv((), 6, 5, (), ()), (4,)),
    "dense on a map": (Conv((), 6, 5, (), ()), (4, 3)),
}
FITTED = {
    "3x3": Conv((3, 3), 6, 8, (1, 1), (1, 1), "same"),
    "3x3, stride 2": Conv((3, 3), 6, 8, (2, 2), (1, 1), "same"),
    "1x5": Conv((1, 5), 6, 8, (1, 1), (1, 1), "same"),
    "1x1": Conv((1, 1), 12, 10, (1, 1), (1, 1)),
    "dense": Conv((), 20, 12, (), ()),
}
over_cases = pytest.mark.parametrize(("op", "shape"), CASES.values(), ids=CASES)
over_fits = pytest.mark.parametrize(
    ("method", "op"),
    [
        pytest.param(name, op, id=f"{name}: {case}")
        for name, method in DECOMPOSITIONS.items()
        for case, op in FITTED.items()
        if name != "intact" and method.applies(op)
    ],
)


def keras_output(op: Conv, kernel: Array, x: Array) -> Array:
    if not op.window:
        layer = keras.layers.Dense(op.cout, use_bias=False)
    else:
        layer = CONVS[len(op.window) - 1](
            op.cout, op.window, strides=op.strides, dilation_rate=op.dilation, padding=op.padding, use_bias=False
        )
    layer.build(x.shape)
    layer.set_weights([kernel])
    return np.asarray(layer(x))


def correlated_maps(op: Conv, count: int = 60) -> Array:
    """Maps whose neighbours and channels are alike, with a mean: as between the layers of a network."""
    rng = np.random.default_rng(5)
    coarse = rng.standard_normal((count, *(4,) * len(op.window), op.cin)) @ rng.standard_normal((op.cin, op.cin))
    return np.maximum(np.kron(coarse, np.ones((1, *(2,) * len(op.window), 1))), 0).astype(np.float32)


def gathered(op: Conv, maps: Array, batch: int = 16) -> Moment:
    adding = Gathering(op, EVERY)
    for i in range(0, len(maps), batch):
        adding.add(maps[i : i + batch])
    (moment,) = adding.moments()
    return moment


def kernel_for(op: Conv, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(op.kernel_shape).astype(np.float32)


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
    wanted = matrix.T @ (rows.T @ rows / count).astype(float) @ matrix
    for moment in (Moment.of((), rows.T @ rows / count), Moment.of_rows((), rows)):
        root = moment.root(matrix)
        np.testing.assert_allclose(root.T @ root, wanted, rtol=1e-3, atol=1e-3 * np.trace(wanted))
        np.testing.assert_allclose(moment.whiten(moment.whiten(matrix), inverse=True), matrix, rtol=2e-3, atol=2e-3)
    a, b = Moment.of((), rows.T @ rows / count), Moment.of_rows((), rows)
    assert a.ridge == pytest.approx(b.ridge, rel=1e-3)
    np.testing.assert_allclose(a.whiten(matrix), b.whiten(matrix), rtol=1e-2, atol=1e-2 * np.abs(wanted).max() ** 0.5)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_a_moment_is_gathered_in_any_batches(batch: int) -> None:
    op = FITTED["3x3"]
    maps, matrix = correlated_maps(op), np.eye(54)
    rows = patches(maps, op, EVERY)
    root = gathered(op, maps, batch).root(matrix)
    np.testing.assert_allclose(root.T @ root, rows.T @ rows / len(rows), rtol=1e-3, atol=1e-3)


def test_a_smaller_first_stage_sees_the_moment_averaged_over_its_places_in_the_window() -> None:
    op = Conv((3, 2), 4, 6, (1, 1), (1, 1), "valid")
    maps = correlated_maps(op)
    rows = patches(maps, op, EVERY).astype(float)
    second = (rows.T @ rows / len(rows)).reshape(3, 2, 4, 3, 2, 4)
    moment = gathered(op, maps)

    def seen(stage: Conv) -> Array:
        root = moment.seen_by(stage).root(np.eye(int(np.prod(stage.window)) * 4))
        return root.T @ root

    point = np.einsum("hwchwd->cd", second) / 6
    column = np.einsum("hwciwd->hcid", second).reshape(12, 12) / 2
    np.testing.assert_allclose(seen(pointwise(op, 4, 3)), point, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen(Conv((3, 1), 4, 3, (1, 1), (1, 1))), column, rtol=1e-3, atol=1e-3)
    assert moment.seen_by(spatial(op, 4, 3)) is moment


@pytest.mark.parametrize("keep", [0.2, 0.5])
@over_fits
def test_a_fit_to_the_data_is_no_worse_on_them_than_the_plain_factorization(method: str, op: Conv, keep: float) -> None:
    moment, kernel = gathered(op, correlated_maps(op)), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, keep))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (moment,)))
    assert error(kernel, fitted, (moment,)) <= 1.001 * error(kernel, plain, (moment,))


@over_fits
def test_a_fit_has_the_shapes_of_its_stages_and_leaves_the_kernel(method: str, op: Conv) -> None:
    moment, kernel = gathered(op, correlated_maps(op)), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, 0.4))
    kernels = fit(op, choice, kernel, (moment,))
    assert [k.shape for k in kernels] == [stage.kernel_shape for stage in chain_of(op, choice).stages]
    assert {k.dtype for k in kernels} == {np.dtype(np.float32)}
    assert np.array_equal(kernel, kernel_for(op))


@pytest.mark.parametrize(("method", "case"), [("channel_svd", "3x3"), ("svd", "1x1"), ("svd", "dense")])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_an_svd_fit_is_the_optimum_of_reduced_rank_regression(method: str, case: str, rank: int) -> None:
    op = FITTED[case]
    rows = patches(correlated_maps(op, 400), op, EVERY).astype(float)
    moment, kernel = gathered(op, correlated_maps(op, 400)), kernel_for(op)
    moment = Moment(moment.window, moment.vectors, moment.values, 1e-7)
    values = np.linalg.svd(rows @ kernel.reshape(-1, op.cout), compute_uv=False)
    least = np.sum(values[rank:] ** 2) / np.sum(values**2)  # Izenman 1975
    choice = Choice(method, (rank,))
    composed = chain_of(op, choice).compose(fit(op, choice, kernel, (moment,)))
    assert error(kernel, composed, (moment,)) == pytest.approx(least, rel=5e-3)


@over_fits
def test_the_error_is_that_of_the_outputs_on_the_data(method: str, op: Conv) -> None:
    maps, kernel = correlated_maps(op), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, 0.3))
    composed = chain_of(op, choice).compose(fit(op, choice, kernel, None))
    out, wanted = keras_output(op, composed, maps), keras_output(op, kernel, maps)
    lost = np.sum((out - wanted) ** 2) / np.sum(wanted**2)
    assert error(kernel, composed, (gathered(op, maps),)) == pytest.approx(lost, rel=1e-3)
    assert error(kernel, composed, None) == pytest.approx(np.sum((composed - kernel) ** 2) / np.sum(kernel**2))
    assert error(kernel, kernel, (gathered(op, maps),)) == 0


def test_an_intact_layer_is_fitted_by_its_own_kernel() -> None:
    op = FITTED["3x3"]
    (kernel,) = fit(op, INTACT, kernel_for(op), (gathered(op, correlated_maps(op)),))
    assert np.array_equal(kernel, kernel_for(op))


@over_fits
def test_white_inputs_make_the_fit_a_plain_one(method: str, op: Conv) -> None:
    width, kernel = int(np.prod(op.kernel_shape[:-1])), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, 0.4))
    white = Moment.of(op.window, np.eye(width))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (white,)))
    assert error(kernel, fitted, None) == pytest.approx(error(kernel, plain, None), rel=0.02)


@pytest.mark.parametrize(("method", "case"), [("channel_svd", "3x3"), ("svd", "1x1"), ("svd", "dense")])
def test_a_ridge_that_drowns_the_data_makes_the_fit_a_plain_one(method: str, case: str) -> None:
    op, kernel = FITTED[case], kernel_for(FITTED[case])
    moment = gathered(op, correlated_maps(op))
    blind = Moment(moment.window, moment.vectors, moment.values, 1e5 * float(moment.values.max()))
    plain, ridged, fitted = (
        chain_of(op, Choice(method, (3,))).compose(fit(op, Choice(method, (3,)), kernel, known))
        for known in (None, (blind,), (moment,))
    )
    np.testing.assert_allclose(ridged, plain, atol=1e-3 * np.abs(plain).max())
    assert error(kernel, fitted, None) > 1.01 * error(kernel, plain, None)


def test_dead_inputs_are_fitted_without_an_exception() -> None:
    op = FITTED["dense"]
    for maps in (np.zeros((30, 20), np.float32), np.zeros((5, 20), np.float32), np.ones((5, 20), np.float32)):
        kernels = fit(op, Choice("svd", (3,)), kernel_for(op), (gathered(op, maps),))
        assert all(np.isfinite(kernel).all() for kernel in kernels)


def test_a_wide_dense_layer_is_fitted_to_fewer_samples_than_it_has_inputs() -> None:
    op = Conv((), 2000, 30, (), ())
    rng = np.random.default_rng(0)
    maps = (rng.standard_normal((50, 10)) @ rng.standard_normal((10, 2000))).astype(np.float32)
    moment, kernel = gathered(op, maps), kernel_for(op)
    assert moment.vectors.shape[1] <= 50, "the second moment of a wide layer is never formed"
    choice = Choice("svd", (10,))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (moment,)))
    np.testing.assert_allclose(maps @ fitted, maps @ kernel, atol=0.01 * np.abs(maps @ kernel).max())
    assert error(kernel, plain, (moment,)) > 0.3


CHAINS = {
    "svd": Chain((Conv((), 9, 4, (), ()), Conv((), 4, 7, (), ()))),
    "tucker2": DECOMPOSITIONS["tucker2"].chain(FITTED["3x3"], (3, 5)),
    "cp": DECOMPOSITIONS["cp"].chain(FITTED["3x3"], (7,)),
    "tt": DECOMPOSITIONS["tt"].chain(FITTED["3x3"], (3, 4, 5)),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@given(seed=st.integers(0, 20), spread=st.floats(0, 4))
def test_balancing_keeps_the_composed_kernel_and_makes_the_norms_on_both_sides_equal(
    chain: Chain, seed: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    kernels = tuple(
        (rng.standard_normal(s.kernel_shape) * 10 ** rng.uniform(-spread / 2, spread / 2, s.cout)).astype(np.float32)
        for s in chain.stages
    )
    before = [kernel.copy() for kernel in kernels]
    out = balanced(chain, kernels)
    wanted = chain.compose(kernels)
    np.testing.assert_allclose(chain.compose(out), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    for i, following in enumerate(chain.stages[1:]):
        inside = channel_norms(out[i + 1], -1 if following.depthwise else -2)
        np.testing.assert_allclose(channel_norms(out[i], -1), inside, rtol=0.02)
    assert all(np.array_equal(a, b) for a, b in zip(kernels, before, strict=True))


def test_a_dead_channel_is_balanced_without_an_exception() -> None:
    chain = CHAINS["svd"]
    kernels = (np.zeros((9, 4), np.float32), np.ones((4, 7), np.float32))
    out = balanced(chain, kernels)
    assert all(np.isfinite(kernel).all() for kernel in out)
    assert not chain.compose(out).any()
