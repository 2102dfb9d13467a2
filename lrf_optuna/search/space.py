"""The search space: two categorical parameters for every site, its method and its keep.

Every trial has the same parameters, because Optuna's NSGA-II evolves only parameters that all trials have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy


class SearchSpace:
    """The parameters of trials, and the plans that they stand for.

    `stored`: the distributions of the trials that a study has already, which hold for its further trials too, because
    Optuna lets a study have only one space.
    """

    def __init__(self, proxy: Proxy, table: OptionTable, stored: Mapping[str, BaseDistribution]) -> None:
        self.proxy = proxy
        self.distributions: dict[str, BaseDistribution] = {}
        self.pairs: dict[str, dict[Choice, tuple[str, float]]] = {}
        """Site -> choice -> the method and the largest keep that stand for it; `intact` for the intact layer."""
        for site in table:
            names = f"{site}.method", f"{site}.keep"
            own: Iterable[tuple[str, Sequence[Any]]] = zip(names, table.methods_and_keeps(site), strict=True)
            found: dict[str, Any] = {name: stored.get(name, CategoricalDistribution(some)) for name, some in own}
            methods, keeps = (found[name].choices for name in names)
            known = [method for method in reversed(methods) if method in DECOMPOSITIONS]
            self.pairs[site] = {proxy.choice(site, m, keep): (m, keep) for m in known for keep in sorted(keeps)}
            self.distributions |= found

    def options_of(self, table: OptionTable) -> OptionTable:
        """The options that trials can have. Raises LrfError where a site has none."""
        found = table.where(lambda site, option: option.choice in self.pairs[site])
        for site, options in found.items():
            if not options:
                raise LrfError(f"the study's trials have no method and keep of today at {site!r}: give another --name")
        return found

    def plan(self, parameters: Mapping[str, Any]) -> Plan:
        """The plan that a trial has drawn."""
        pairs = {site: (parameters[f"{site}.method"], parameters[f"{site}.keep"]) for site in self.pairs}
        return Plan.of({site: self.proxy.choice(site, *pair) for site, pair in pairs.items()})

    def parameters(self, plan: Plan) -> dict[str, Any]:
        """Parameters that stand for a plan; empty where the space has none for it."""
        found: dict[str, Any] = {}
        for site, pairs in self.pairs.items():
            if plan[site] not in pairs:
                return {}
            found[f"{site}.method"], found[f"{site}.keep"] = pairs[plan[site]]
        return found
