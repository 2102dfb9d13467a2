"""The step of ranks is found in times that have one."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_optuna.runtimes.rank_steps import RANKS, STEPS, best_step


def planted(step: int, noise: float, seed: int = 0) -> list[float]:
    """Milliseconds that rise at every multiple of a step, with relative noise."""
    rounded = np.ceil(np.array(RANKS) / step) * step
    times = 0.02 + 1e-3 * rounded
    return list(times * (1 + noise * np.random.default_rng(seed).standard_normal(len(RANKS))))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_step_is_found_through_noise(step: int, seed: int) -> None:
    assert best_step(RANKS, planted(step, 0.01, seed)) == step


def test_times_that_all_steps_explain_have_the_largest_step() -> None:
    assert best_step(RANKS, [1.0] * len(RANKS)) == max(STEPS)
