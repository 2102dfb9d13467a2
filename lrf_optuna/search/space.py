"""The search space: two categorical parameters for every site, its method and its keep.

Every trial has the same parameters, because Optuna's NSGA-II evolves only parameters that all trials have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.scoring.option_table import Allocation, Option, OptionTable


def search_space(table: OptionTable) -> dict[str, BaseDistribution]:
    """Parameter -> its distribution: `SITE.method` and `SITE.keep` for every site."""
    space: dict[str, BaseDistribution] = {}
    for site in table:
        methods, keeps = table.methods_and_keeps(site)
        space[f"{site}.method"] = CategoricalDistribution(methods)
        space[f"{site}.keep"] = CategoricalDistribution(keeps)
    return space


def space_of_trial(trial: FrozenTrial, table: OptionTable) -> dict[str, BaseDistribution]:
    """The space that a stored trial was drawn from: Optuna lets a study have only one."""
    return {name: trial.distributions.get(name, space) for name, space in search_space(table).items()}


def table_in_space(table: OptionTable, space: Mapping[str, BaseDistribution]) -> OptionTable:
    """The options that trials of a space can have; the intact layer has the largest keep of the space where needed.

    Raises LrfError where a site has none.
    """
    options: dict[str, list[Option]] = {}
    for site in table:
        methods, keeps = (space[f"{site}.{name}"].choices for name in ("method", "keep"))  # type: ignore[attr-defined]
        moved = (
            replace(option, keep=max(keeps)) if option.choice == INTACT and option.keep not in keeps else option
            for option in table[site]
        )
        options[site] = [option for option in moved if option.method in methods and option.keep in keeps]
        if not options[site]:
            raise LrfError(f"the study's trials have no method and keep of today at {site!r}: give another --name")
    return OptionTable(options, table.fixed, table.space)


def parameters_of(allocation: Allocation) -> dict[str, str | float]:
    """The trial parameters of an allocation."""
    parameters: dict[str, str | float] = {}
    for site, option in allocation.items():
        parameters |= {f"{site}.method": option.method, f"{site}.keep": option.keep}
    return parameters
