"""What a rule for ranks may look at, and how the one knob of a rule is turned until its plan meets a budget.

A budget is `{"params": share}`, `{"macs": share}` or both: shares of the whole network, with all that no plan changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from lrf_optuna.baselines.evb import squared_values
from lrf_optuna.chains.conv import Array, Conv, split_groups
from lrf_optuna.decompositions.base import PreparedDecomposition
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, compose
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.fitting.layer_fit import LayerFitter, as_matrix
from lrf_optuna.models.inventory import plan_counts
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import Option, OptionTable, Shares
from lrf_optuna.scoring.proxy import Proxy

HALVINGS = 40
"""Of a knob's range: below any step that a rank can make."""
GRAM = 1024
"""Smaller side of a matrix up to which its largest singular value is that of its Gram matrix, not Lanczos'."""
COSTS = ("params", "macs")
Costs = Mapping[str, float]
T = TypeVar("T")


@dataclass(frozen=True)
class RuleContext:
    """What rules for ranks are compared on: one network, its table of options, and an accuracy where a rule wants one.

    `table`: site -> options, of which the losses are data-aware; `right`: the share of labelled images that the network
    of a plan classifies right.
    """

    proxy: Proxy
    table: OptionTable
    right: Callable[[Plan], float] | None = None

    def costs(self, plan: Plan) -> dict[str, float]:
        """The parameters and MACs of a plan's network, as shares of the original's."""
        params, macs = plan_counts(self.proxy.inventory, plan)
        return {"params": params / self.proxy.inventory.params, "macs": macs / self.proxy.inventory.macs}

    def within(self, plan: Plan, budget: Costs) -> bool:
        """Whether a plan meets a budget."""
        return inside(self.costs(plan), budget)

    def largest(self, plan_at: Callable[[float], Plan], budget: Costs) -> Plan:
        """The plan of the highest knob (0: the smallest plan, 1: the largest) that meets a budget.

        Where the network as it is meets it, that is the plan. Raises LrfError, with what the smallest has, where none
        does.
        """
        asked, whole = checked(budget), Plan.of(dict.fromkeys(self.proxy.sites, INTACT))
        if self.within(whole, asked):
            return whole
        found = bisect_knob(plan_at, lambda plan: self.within(plan, asked))
        if found is None:
            raise too_large(self.costs(plan_at(0.0)), budget)
        return found

    def picked(self, picks: Mapping[str, str], keep: float) -> Plan:
        """The plan of one keep for all sites, with the method picked for each."""
        return Plan.of({site: self.proxy.choice(site, method, keep) for site, method in picks.items()})

    def first_of(self, methods: Sequence[str]) -> dict[str, str]:
        """Site -> the first of some methods that can save there, else intact.

        Raises LrfError where they save nowhere.
        """
        offered = {site: set(self.proxy.methods_of(site)) for site in self.proxy.sites}
        found = {site: next((m for m in methods if m in own), INTACT.method) for site, own in offered.items()}
        if set(found.values()) == {INTACT.method}:
            raise LrfError(f"no layer of this network is smaller by {' or '.join(methods)}: choose another method")
        return found

    def saving(self, site: str, choice: Choice) -> Choice:
        """A choice, or intact where its chain has no fewer parameters than the layer."""
        op = self.proxy.sites[site].op
        return choice if chain_of(op, choice).params < op.params else INTACT

    @cached_property
    def spectral(self) -> dict[str, dict[Choice, float]]:
        """Site -> choice -> relative error of its plain factorization in the spectral norm.

        At every keep of the table, of the methods of which all ranks are cut from one factorization, as those of the
        paper's SVDs are; and of the intact layer.
        """
        sites, kernels = self.proxy.sites, self.proxy.kernels.originals
        keeps = sorted({option.keep for options in self.table.values() for option in options})
        with self.proxy.single_blas_thread():
            return {
                site: weight_errors(sites[site].op, kernels[site], self.at_once(site, keeps), spectral_norm)
                for site in self.table
            }

    def at_once(self, site: str, keeps: Sequence[float]) -> list[Choice]:
        """The distinct choices of a site that are cut from a factorization made once; the intact layer is no work."""
        methods = [
            method
            for method in self.proxy.methods_of(site)
            if isinstance(DECOMPOSITIONS[method], PreparedDecomposition)
        ]
        found = [self.proxy.choice(site, method, keep) for method in methods for keep in keeps]
        return list(dict.fromkeys([INTACT, *found]))


def weight_errors(
    op: Conv, kernel: Array, choices: Sequence[Choice], norm: Callable[[Array], float]
) -> dict[Choice, float]:
    """Choice -> ||K - K'|| / ||K||, with K' the plain factorization of the kernel K: fitted to no data.

    `norm` is of a (window x cin) by cout matrix: `np.linalg.norm` is Frobenius'. Of several groups the largest counts.
    """
    fitter = LayerFitter(op, kernel)
    whole = max(norm(as_matrix(part)) for part in split_groups(kernel, op.groups))
    found = {}
    for choice in choices:
        gone = kernel - compose(op, choice, fitter.fit(choice))
        found[choice] = max(norm(as_matrix(part)) for part in split_groups(gone, op.groups)) / max(whole, 1e-30)
    return found


def bisect_knob(make: Callable[[float], T], fits: Callable[[T], bool]) -> T | None:
    """What the highest knob in [0, 1] makes that fits, by bisection; `None` where not even that of 0 does."""
    if fits(most := make(1.0)):
        return most
    if not fits(best := make(0.0)):
        return None
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if fits(made := make(middle)):
            low, best = middle, made
        else:
            high = middle
    return best


def level(levels: Sequence[T], knob: float) -> T:
    """The one of some levels that a knob in [0, 1] is at: 0 is the first, 1 the last."""
    return levels[min(int(knob * len(levels)), len(levels) - 1)]


def inside(costs: Costs, budget: Costs) -> bool:
    """Whether costs meet a budget."""
    return all(costs[cost] <= most for cost, most in budget.items())


def checked(budget: Costs) -> Costs:
    """The budget. Raises LrfError where it says nothing, or speaks of anything but parameters and MACs."""
    if not budget:
        raise LrfError('a budget is {"params": share}, {"macs": share} or both, but got an empty one')
    for cost in budget:
        lookup(dict.fromkeys(COSTS), cost, "cost in the budget")
    return budget


def too_large(smallest: Costs, budget: Costs) -> LrfError:
    """The error that says what the smallest network has."""
    asked = " and ".join(f"{cost} <= {most:g}" for cost, most in budget.items())
    has = " and ".join(f"{cost} {smallest[cost]:.4f}" for cost in budget)
    return LrfError(f"no plan of this kind has {asked}: the smallest has {has}; ask for that much or more")


def price(option: Option | Shares, budget: Costs) -> float:
    """What an option takes of a budget."""
    total: float = sum(getattr(option, cost) / max(most, 1e-9) for cost, most in budget.items())
    return total


def spectral_norm(matrix: Array) -> float:
    """The largest singular value of a matrix."""
    if min(matrix.shape) <= GRAM:
        return float(np.sqrt(squared_values(matrix)[0]))
    from scipy.sparse.linalg import svds

    start = np.ones(min(matrix.shape), matrix.dtype)
    return float(svds(matrix, 1, v0=start, tol=1e-4, return_singular_vectors=False)[0])
