"""Where a search's next trials come from: its own breeding on NSGA-II, and Optuna's plain samplers beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import optuna

BRED = "bred"
"""The search's own."""
Child = Callable[[optuna.Study, dict[str, Any], list[optuna.trial.FrozenTrial]], dict[str, Any]]
Make = Callable[[int, int, Child], optuna.samplers.BaseSampler]


def bred(population: int, seed: int, child: Child) -> optuna.samplers.BaseSampler:
    """NSGA-II whose children are chosen among many by what they are expected to add to the front."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.NSGAIISampler(population_size=population, seed=seed, child_generation_strategy=child)


SAMPLERS: dict[str, Make] = {
    BRED: bred,
    "nsga2": lambda population, seed, _: optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
    "nsga3": lambda population, seed, _: optuna.samplers.NSGAIIISampler(population_size=population, seed=seed),
    "tpe": lambda population, seed, _: optuna.samplers.TPESampler(seed=seed),
    "random": lambda population, seed, _: optuna.samplers.RandomSampler(seed=seed),
}
"""The search's own, and Optuna's plain ones to compare it with."""
