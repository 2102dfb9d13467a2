"""Milliseconds that follow a formula: for tests of what is made of times, on any machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, choice_within_limits
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.latency import LatencyTable, LayerTimes
from lrf_optuna.scoring.proxy import Proxy

REST = 0.01
"""Milliseconds of a network outside its sites."""


def planted_time(site: Site, choice: Choice) -> float:
    """Some time for every stage of a chain, and some for every MAC."""
    chain = chain_of(site.op, choice)
    return 1e-3 * len(chain.stages) + 1e-6 * site.macs(chain)


def planted_network(sites: Iterable[Site], plan: Plan, factor: float = 1.0) -> float:
    """The milliseconds of a network: those outside its sites, and those of its layers times a factor."""
    choices = dict(plan)
    return REST + factor * sum(planted_time(site, choices.get(site.name, INTACT)) for site in sites)


def planted_table(sites: Collection[Site], methods: Sequence[str], keeps: Sequence[float]) -> LatencyTable:
    """The table of these methods at these keeps, and of the intact layers."""
    layers: dict[str, LayerTimes] = {}
    for site in sites:
        choices = [INTACT, *(choice_within_limits(site, method, keep) for method in methods for keep in keeps)]
        layers[site.name] = {choice: planted_time(site, choice) for choice in choices}
    return LatencyTable("a planted device", planted_network(sites, Plan(())), layers)


@final
@dataclass(frozen=True)
class PlantedTimer:
    """A timer of planted times.

    `factor`: milliseconds of a layer in a network, where it takes 1 alone; `lacks`: methods or choices, such as
    "svd(8)", that cannot run; `noise`: by what share every second network but the first takes longer, and the others
    less.
    """

    factor: float = 1.0
    lacks: frozenset[str] = frozenset()
    noise: float = 0.0
    place: str = "a planted machine"

    def rank_multiple(self) -> int:
        return 4

    def check(self, sites: Iterable[Site]) -> None:
        """Every site has planted times."""

    def layers(self, proxy: Proxy, wanted: Mapping[str, Collection[Choice]]) -> dict[str, LayerTimes]:
        return {
            name: {c: planted_time(proxy.sites[name], c) for c in (INTACT, *choices) if self.can_run(c)}
            for name, choices in wanted.items()
        }

    def can_run(self, choice: Choice) -> bool:
        return not self.lacks & {choice.method, str(choice)}

    def networks(self, proxy: Proxy, plans: Sequence[Plan]) -> list[float]:
        found = [planted_network(proxy.sites.values(), plan, self.factor) for plan in plans]
        return [found[0], *(time * (1 + self.noise * (-1) ** i) for i, time in enumerate(found[1:]))]
