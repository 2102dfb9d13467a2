"""All stages of a chain fitted at once: never worse than the last one alone, along the true gradient."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from support.fitting import FITTED, correlated_maps, error, fit, gathered, kernel_for, over

from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.registry import chain_of, choice_of
from lrf_optuna.fitting import variable_projection as projection
from lrf_optuna.fitting.variable_projection import VariableProjection, compose_before_last, refine_stages, rows_of_last

Array = np.ndarray[Any, Any]
MORE = FITTED | {"a larger dense": Conv((), 36, 24, (), ())}
over_chains = over(MORE)


def task_of(method: str, op: Conv, keep: float = 0.4) -> tuple[VariableProjection, Array, tuple[Array, ...]]:
    """A projection, the kernel it is about, and random stage kernels."""
    moment, kernel, rng = gathered(op, correlated_maps(op)), kernel_for(op), np.random.default_rng(3)
    chain = chain_of(op, choice_of(op, method, keep))
    kernels = tuple(rng.standard_normal(stage.kernel_shape).astype(np.float32) for stage in chain.stages)
    return VariableProjection(chain, moment, moment.root(kernel.reshape(-1, op.cout))), kernel, kernels


@over_chains
def test_a_chain_is_what_goes_into_its_last_stage_times_that_stage(method: str, op: Conv) -> None:
    task, _, kernels = task_of(method, op)
    last = task.chain.stages[-1]
    before = compose_before_last(task.chain, kernels).reshape(-1, last.lead, rows_of_last(last))
    whole = np.einsum("dli,io->dlo", before, kernels[-1].reshape(rows_of_last(last), -1))
    np.testing.assert_allclose(whole.reshape(op.kernel_shape), task.chain.compose(kernels), rtol=1e-4, atol=1e-4)


@over_chains
def test_the_last_stage_that_is_solved_for_cannot_be_bettered(method: str, op: Conv) -> None:
    task, kernel, kernels = task_of(method, op)
    best = (*kernels[:-1], task.solved(kernels))
    composed, rng = task.chain.compose(best), np.random.default_rng(0)
    least = error(op, kernel, composed, (task.moment,))
    for _ in range(5):
        other = (*best[:-1], best[-1] + 0.03 * rng.standard_normal(best[-1].shape).astype(np.float32))
        assert error(op, kernel, task.chain.compose(other), (task.moment,)) > least - 1e-4


@over_chains
def test_the_gradient_is_what_the_value_changes_by(method: str, op: Conv) -> None:
    task, _, kernels = task_of(method, op)
    kernels = tuple(kernel.astype(np.float64) for kernel in kernels)
    rng = np.random.default_rng(1)
    _, gradients = task.value(kernels)
    for i, gradient in enumerate(gradients):
        way = rng.standard_normal(gradient.shape)
        ahead, behind = (
            task.value(tuple(k + step * way if j == i else k for j, k in enumerate(kernels)))[0]
            for step in (1e-5, -1e-5)
        )
        assert (ahead - behind) / 2e-5 == pytest.approx(float(np.vdot(gradient, way)), rel=2e-2, abs=1e-3)


@pytest.mark.parametrize("keep", [0.2, 0.5])
@over_chains
def test_steps_leave_no_more_than_the_last_stage_alone_and_less_where_there_is_a_middle(
    method: str, op: Conv, keep: float
) -> None:
    choice, kernel, moments = choice_of(op, method, keep), kernel_for(op), (gathered(op, correlated_maps(op)),)
    chain = chain_of(op, choice)
    found = {}
    for steps in (0, 40):
        with patch.object(projection, "MOST_STEPS", steps):
            found[steps] = error(op, kernel, chain.compose(fit(op, choice, kernel, moments)), moments)
    assert found[40] <= found[0] * 1.001 + 1e-6
    if len(chain.stages) > 2 and found[0] > 0.01:
        assert found[40] < 0.99 * found[0]


def test_large_kernels_get_fewer_steps_and_the_largest_none() -> None:
    task, _, kernels = task_of("cp", FITTED["3x3"])
    products = 2 * task.moment.factor.shape[0] * task.entries
    for most, steps in ((1e12, projection.MOST_STEPS), (7 * products, 7), (3 * products, 3)):
        with patch.object(projection, "MOST_PRODUCTS", most):
            assert task.steps == steps
            same = all(a is b for a, b in zip(refine_stages(task, kernels), kernels, strict=True))
            assert same == (steps < projection.FEWEST_STEPS)


def test_components_stay_bounded() -> None:
    """Steps do not trade error for components that are large and cancel (Phan et al. 2020)."""
    op = Conv((3, 3), 8, 12, (1, 1), (1, 1), "same")
    kernel, moments = kernel_for(op), (gathered(op, correlated_maps(op, 200)),)
    sizes = {}
    for steps in (0, 40):
        with patch.object(projection, "MOST_STEPS", steps):
            kernels = fit(op, choice_of(op, "cp", 0.4), kernel, moments)
        norms = [np.linalg.norm(k.reshape(-1, k.shape[-1]), axis=0) for k in kernels[:-1]]
        sizes[steps] = np.max(np.prod(norms, axis=0) * np.linalg.norm(kernels[-1][0, 0], axis=1))
    assert sizes[40] < 5 * sizes[0]
