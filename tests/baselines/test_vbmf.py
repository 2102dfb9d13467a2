"""Ranks in noise against planted ones: the noise is what decides, not the shape or the scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.baselines.vbmf import alive_threshold, evb_rank, free_energy

Array = np.ndarray[Any, Any]
SHAPES = ((20, 20), (16, 144), (144, 16), (60, 40), (32, 500))


def planted(shape: tuple[int, int], rank: int, noise: float, seed: int = 0) -> Array:
    """A matrix whose planted singular values are equal, far above the noise's."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(size, rank)))[0] for size in shape)
    values = (1 + rng.uniform(size=rank)) * np.sqrt(sum(shape))
    whole: Array = (left * values) @ right.T + noise * rng.normal(size=shape)
    return whole


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("noise", [0.003, 0.03, 0.2])
def test_a_rank_planted_in_noise_is_recovered(shape: tuple[int, int], rank: int, noise: float) -> None:
    assert evb_rank(planted(shape, rank, noise)) == rank


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4])
def test_an_exact_low_rank_is_recovered(shape: tuple[int, int], rank: int) -> None:
    assert evb_rank(planted(shape, rank, 0.0)) == rank


@given(st.integers(0, 500), st.sampled_from(SHAPES), st.floats(1e-6, 1e6), st.floats(0.05, 2))
def test_neither_turning_nor_scaling_a_matrix_changes_its_rank(
    seed: int, shape: tuple[int, int], scale: float, noise: float
) -> None:
    matrix = planted(shape, 3, noise, seed)
    assert evb_rank(matrix) == evb_rank(matrix.T) == evb_rank(scale * matrix)


@pytest.mark.parametrize("shape", SHAPES)
def test_pure_noise_has_next_to_no_rank(shape: tuple[int, int]) -> None:
    ranks = [evb_rank(np.random.default_rng(seed).normal(size=shape)) for seed in range(20)]
    assert np.median(ranks) == 0
    assert max(ranks) <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (4, 4)])
def test_a_matrix_of_zeros_has_no_rank(shape: tuple[int, int]) -> None:
    assert evb_rank(np.zeros(shape, np.float32)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 1)])
def test_the_smallest_matrices_have_a_rank_too(shape: tuple[int, int]) -> None:
    assert 0 <= evb_rank(np.random.default_rng(0).normal(size=shape)) <= min(shape)


def test_more_noise_does_not_raise_the_rank() -> None:
    ranks = [evb_rank(planted((40, 90), 6, noise)) for noise in (0.01, 0.1, 0.5, 1, 2, 4)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == 6


def test_the_argument_is_left_alone() -> None:
    matrix = planted((20, 30), 2, 0.1)
    before = matrix.copy()
    evb_rank(matrix)
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_a_component_at_the_threshold_costs_as_much_alive_as_dead(alpha: float) -> None:
    """So psi is continuous there; a small jump is left, as the threshold is an approximation."""
    below, above = (free_energy(np.array([alive_threshold(alpha) * (1 + step)]), alpha) for step in (-1e-9, 1e-9))
    assert below == pytest.approx(above, abs=0.02)
