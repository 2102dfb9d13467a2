"""Where the next trial comes from: NSGA-II with this package's children, and Optuna's plain samplers beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lrf_optuna.errors import LrfError

SURROGATE = "surrogate"
"""NSGA-II with the children of `children.py`: the default."""
ChildStrategy = Callable[[optuna.Study, dict[str, Any], list[FrozenTrial]], dict[str, Any]]
MakeSampler = Callable[[int, int, ChildStrategy], optuna.samplers.BaseSampler]
"""A function of the population, the seed and the child strategy."""


def gaussian_process(population: int, seed: int, child: ChildStrategy) -> optuna.samplers.BaseSampler:
    """Optuna's Gaussian process sampler. Raises LrfError without torch, which it needs."""
    if find_spec("torch") is None:  # Optuna itself says so in the middle of a search only
        raise LrfError("the sampler 'gp' needs the package torch: pip install torch")
    return optuna.samplers.GPSampler(seed=seed)


SAMPLERS: dict[str, MakeSampler] = {
    SURROGATE: lambda population, seed, child: optuna.samplers.NSGAIISampler(
        population_size=population, seed=seed, child_generation_strategy=child
    ),
    "nsga2": lambda population, seed, _: optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
    "nsga3": lambda population, seed, _: optuna.samplers.NSGAIIISampler(population_size=population, seed=seed),
    "tpe": lambda population, seed, _: optuna.samplers.TPESampler(seed=seed),
    "gp": gaussian_process,
    "random": lambda population, seed, _: optuna.samplers.RandomSampler(seed=seed),
}
"""Name -> what makes the sampler."""


def make_sampler(name: str, population: int, seed: int, child: ChildStrategy) -> optuna.samplers.BaseSampler:
    """The sampler of a name, without Optuna's warning that some arguments are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[name](population, seed, child)
