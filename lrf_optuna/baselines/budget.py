"""The context of a rule for ranks, and the bisection of a rule's one free number until its plan meets a budget.

A budget is `{"params": share}`, `{"macs": share}` or both: shares of the whole network, with all that no plan changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from lrf_optuna.baselines.vbmf import squared_values
from lrf_optuna.chains.conv import Array, Conv, split_groups
from lrf_optuna.decompositions.base import PreparedDecomposition
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, compose
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.fitting.layer_fit import LayerFitter, as_matrix
from lrf_optuna.plans.comparison import BUDGET_COSTS
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy

SCALE_BISECTIONS = 40
"""Halvings of the interval [0, 1]: 2^-40 is below the step of any rank."""
GRAM_SIDE = 1024
"""Smaller side of a matrix up to which its Gram matrix gives the largest singular value quicker than Lanczos does."""
Costs = Mapping[str, float]
Scaled = TypeVar("Scaled")
"""What a scale decides: a plan, or the filters that are removed."""


@dataclass(frozen=True)
class RuleContext:
    """What a rule for ranks may use: one network, its option table with data-aware losses, and a metric.

    `metric`: plan -> the metric of its network on labeled images; None where no rule needs it.
    """

    proxy: Proxy
    table: OptionTable
    metric: Callable[[Plan], float] | None = None

    def costs(self, plan: Plan) -> dict[str, float]:
        """The parameters and MACs of a plan's network, as shares of the original's."""
        return cost_shares(self.proxy, *self.proxy.counts(plan))

    def first_saving(self, methods: Sequence[str]) -> dict[str, str]:
        """Site -> the first of some methods that can save parameters there, for the sites where one can.

        Raises LrfError where they save nowhere.
        """
        saving = {site: [m for m in methods if m in self.proxy.methods_of(site)] for site in self.proxy.sites}
        if not any(saving.values()):
            raise LrfError(f"no layer of this network is smaller by {' or '.join(methods)}: choose another method")
        return {site: own[0] for site, own in saving.items() if own}

    def or_intact(self, site: str, choice: Choice) -> Choice:
        """A choice, or intact where its chain has no fewer parameters than the layer."""
        op = self.proxy.sites[site].op
        return choice if chain_of(op, choice).params < op.params else INTACT

    @cached_property
    def spectral(self) -> dict[str, dict[Choice, float]]:
        """Site -> choice -> relative error of its data-free factorization in the spectral norm.

        The choices are the intact layer and, at every keep of the option table, the methods whose ranks are all cut
        from one factorization, as the SVDs of the paper are.
        """
        proxy, keeps = self.proxy, sorted({option.keep for options in self.table.values() for option in options})
        found = {}
        with proxy.single_blas_thread():
            for site in self.table:
                nested = (m for m in proxy.methods_of(site) if isinstance(DECOMPOSITIONS[m], PreparedDecomposition))
                choices = [INTACT, *(proxy.choice(site, method, keep) for method in nested for keep in keeps)]
                found[site] = spectral_errors(proxy.sites[site].op, proxy.kernels.originals[site], choices)
        return found


def spectral_errors(op: Conv, kernel: Array, choices: Sequence[Choice]) -> dict[Choice, float]:
    """Choice -> ||K - K'|| / ||K|| in the spectral norm, where K' is the data-free factorization of the kernel K.

    A kernel is a (window x cin) by cout matrix; the group with the largest norm counts.
    """

    def norm(values: Array) -> float:
        return max(spectral_norm(as_matrix(part)) for part in split_groups(values, op.groups))

    fitter, whole = LayerFitter(op, kernel), max(norm(kernel), 1e-30)
    return {c: norm(kernel - compose(op, c, fitter.fit(c))) / whole for c in dict.fromkeys(choices)}


def spectral_norm(matrix: Array) -> float:
    """The largest singular value of a matrix."""
    if min(matrix.shape) <= GRAM_SIDE:
        return float(np.sqrt(squared_values(matrix)[0]))
    from scipy.sparse.linalg import svds

    start = np.ones(min(matrix.shape), matrix.dtype)
    return float(svds(matrix, 1, v0=start, tol=1e-4, return_singular_vectors=False)[0])


def cost_shares(proxy: Proxy, params: int, macs: int) -> dict[str, float]:
    """Counts of parameters and MACs as shares of the original's."""
    return {"params": params / proxy.inventory.params, "macs": macs / proxy.inventory.macs}


def largest_within(network_at: Callable[[float], Scaled], costs_of: Callable[[Scaled], Costs], budget: Costs) -> Scaled:
    """`network_at(scale)` for the highest scale in [0, 1] at which it meets a budget, by bisection.

    Raises LrfError, with the costs at scale 0, where not even scale 0 does.
    """
    if within_budget(costs_of(largest := network_at(1.0)), budget):
        return largest
    if not within_budget(costs := costs_of(best := network_at(0.0)), budget):
        raise over_budget(costs, budget)
    low, high = 0.0, 1.0
    for _ in range(SCALE_BISECTIONS):
        middle = (low + high) / 2
        if within_budget(costs_of(network := network_at(middle)), budget):
            low, best = middle, network
        else:
            high = middle
    return best


def within_budget(costs: Costs, budget: Costs) -> bool:
    """Whether costs meet a budget."""
    return all(costs[cost] <= most for cost, most in budget.items())


def check_budget(budget: Costs) -> None:
    """Raises LrfError where a budget is empty, or names anything but parameters and MACs."""
    if not budget:
        raise LrfError('a budget is {"params": share}, {"macs": share} or both, but got an empty one')
    for cost in budget:
        lookup(dict.fromkeys(BUDGET_COSTS), cost, "cost in the budget")


def over_budget(smallest: Costs, budget: Costs) -> LrfError:
    """The error that names the costs of the smallest network."""
    limits = " and ".join(f"{cost} <= {most:g}" for cost, most in budget.items())
    has = " and ".join(f"{cost} {smallest[cost]:.4f}" for cost in budget)
    return LrfError(f"no plan of this kind has {limits}: the smallest has {has}; ask for that much or more")
