"""A fit is the best there is under the moments of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fitting import EVERY, FITTED, correlated_maps, error, fit, gathered, keras_output, kernel_for, over

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of
from lrf_optuna.fitting.balance import balanced, channel_norms
from lrf_optuna.fitting.patches import patches
from lrf_optuna.fitting.second_moment import SecondMoment
from lrf_optuna.plans.plan import INTACT, Choice

Array = np.ndarray[Any, Any]
EXACT = {"svd", "channel_svd", "spatial_svd"}
"""Methods whose plain factorization is the best there is."""
over_fits = over(FITTED)


@pytest.mark.parametrize("keep", [0.2, 0.5])
@over_fits
def test_a_fit_to_the_data_is_no_worse_on_them_than_the_plain_factorization(method: str, op: Conv, keep: float) -> None:
    moment, kernel = gathered(op, correlated_maps(op)), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, keep))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (moment,)))
    assert error(op, kernel, fitted, (moment,)) <= 1.001 * error(op, kernel, plain, (moment,))


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
    moment, kernel = SecondMoment.of(op.window, rows.T @ rows / len(rows), share=1e-9), kernel_for(op)
    values = np.linalg.svd(rows @ kernel.reshape(-1, op.cout), compute_uv=False)
    least = np.sum(values[rank:] ** 2) / np.sum(values**2)  # Izenman 1975
    choice = Choice(method, (rank,))
    composed = chain_of(op, choice).compose(fit(op, choice, kernel, (moment,)))
    assert error(op, kernel, composed, (moment,)) == pytest.approx(least, rel=5e-3)


@over_fits
def test_the_error_is_that_of_the_outputs_on_the_data(method: str, op: Conv) -> None:
    maps, kernel = correlated_maps(op), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, 0.3))
    composed = chain_of(op, choice).compose(fit(op, choice, kernel, None))
    out, wanted = keras_output(op, composed, maps), keras_output(op, kernel, maps)
    lost = np.sum((out - wanted) ** 2) / np.sum(wanted**2)
    assert error(op, kernel, composed, (gathered(op, maps),)) == pytest.approx(lost, rel=1e-3)
    assert error(op, kernel, composed, None) == pytest.approx(np.sum((composed - kernel) ** 2) / np.sum(kernel**2))
    assert error(op, kernel, kernel, (gathered(op, maps),)) == 0


def test_an_intact_layer_is_fitted_by_its_own_kernel() -> None:
    op = FITTED["3x3"]
    (kernel,) = fit(op, INTACT, kernel_for(op), (gathered(op, correlated_maps(op)),))
    assert np.array_equal(kernel, kernel_for(op))


@over_fits
def test_white_inputs_make_the_fit_a_plain_one(method: str, op: Conv) -> None:
    width, kernel = int(np.prod(op.kernel_shape[:-1])), kernel_for(op)
    choice = Choice(method, DECOMPOSITIONS[method].ranks(op, 0.4))
    white = SecondMoment.of(op.window, np.eye(width))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (white,)))
    assert error(op, kernel, fitted, None) <= 1.02 * error(op, kernel, plain, None)
    if method in EXACT:
        assert error(op, kernel, fitted, None) == pytest.approx(error(op, kernel, plain, None), rel=0.02)


@pytest.mark.parametrize(("method", "case"), [("channel_svd", "3x3"), ("svd", "1x1"), ("svd", "dense")])
def test_a_ridge_that_drowns_the_data_makes_the_fit_a_plain_one(method: str, case: str) -> None:
    op, kernel = FITTED[case], kernel_for(FITTED[case])
    rows = patches(correlated_maps(op), op, EVERY)
    moment, blind = (SecondMoment.of(op.window, rows.T @ rows / len(rows), share) for share in (1e-3, 1e6))
    plain, ridged, fitted = (
        chain_of(op, Choice(method, (3,))).compose(fit(op, Choice(method, (3,)), kernel, known))
        for known in (None, (blind,), (moment,))
    )
    np.testing.assert_allclose(ridged, plain, atol=1e-3 * np.abs(plain).max())
    assert error(op, kernel, fitted, None) > 1.01 * error(op, kernel, plain, None)


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
    assert moment.factor.shape[0] <= 50, "the second moment of a wide layer is never formed"
    choice = Choice("svd", (10,))
    plain, fitted = (chain_of(op, choice).compose(fit(op, choice, kernel, known)) for known in (None, (moment,)))
    np.testing.assert_allclose(maps @ fitted, maps @ kernel, atol=0.01 * np.abs(maps @ kernel).max())
    assert error(op, kernel, plain, (moment,)) > 0.3


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
