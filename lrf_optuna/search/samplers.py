"""Where a search's next trials come from: its own breeding on NSGA-II, and Optuna's plain samplers beside it.

The space of a search is known and never changes, so that a sampler of ours need not work it out from the trials, and
its distributions need not be compared choice by choice: both took more time than all else that Optuna does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

BRED = "bred"
"""The search's own."""
Child = Callable[[optuna.Study, dict[str, Any], list[FrozenTrial]], dict[str, Any]]
Space = dict[str, BaseDistribution]
"""Parameter -> what it is drawn from."""
Make = Callable[[int, int, Child], optuna.samplers.BaseSampler]


class CategoricalDistribution(optuna.distributions.CategoricalDistribution):
    """Optuna's, under its name, which equals itself without a look at every choice."""

    def __eq__(self, other: object) -> bool:
        return self is other or bool(super().__eq__(other))

    __hash__ = optuna.distributions.CategoricalDistribution.__hash__


def space_of(methods: Mapping[str, Sequence[str]], keeps: Mapping[str, Sequence[float]]) -> Space:
    """A method and a keep for every site, site by site: `methods` and `keeps` site -> what it draws from."""
    ranges: Space = {}
    for site, names in methods.items():
        ranges[f"{site}.method"] = CategoricalDistribution(tuple(names))
        ranges[f"{site}.keep"] = CategoricalDistribution(tuple(keeps[site]))
    return ranges


@contextmanager
def experimental() -> Iterator[None]:
    """Optuna does not warn that a piece of it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class NSGAIISampler(optuna.samplers.NSGAIISampler):
    """Optuna's, under its name, whose children are chosen among many by what they should add to the front."""

    def __init__(self, population: int, seed: int, child: Child) -> None:
        with experimental():
            super().__init__(population_size=population, seed=seed, child_generation_strategy=child)
        self.space: Space = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Space:
        """What of the space there is to choose from: that of the first trial, which is that of all."""
        if not self.space and (trials := study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))):
            self.space = {name: values for name, values in trials[0].distributions.items() if not values.single()}
        return self.space


@experimental()
def nsga3(population: int, seed: int, _: Child) -> optuna.samplers.BaseSampler:
    """Optuna's NSGA-III."""
    return optuna.samplers.NSGAIIISampler(population_size=population, seed=seed)


SAMPLERS: dict[str, Make] = {
    BRED: NSGAIISampler,
    "nsga2": lambda population, seed, _: optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
    "nsga3": nsga3,
    "tpe": lambda population, seed, _: optuna.samplers.TPESampler(seed=seed),
    "random": lambda population, seed, _: optuna.samplers.RandomSampler(seed=seed),
}
"""The search's own, and Optuna's plain ones to compare it with."""
