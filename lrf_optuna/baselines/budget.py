"""The context of a rule for ranks, and the bisection of a rule's one free number until its plan meets a budget.

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

SCALE_BISECTIONS = 40
"""Halvings of the interval [0, 1]: 2^-40 is below the step of any rank."""
GRAM_SIDE = 1024
"""Smaller side of a matrix up to which its Gram matrix gives the largest singular value quicker than Lanczos does."""
COSTS = ("params", "macs")
Costs = Mapping[str, float]
T = TypeVar("T")


@dataclass(frozen=True)
class RuleContext:
    """What a rule for ranks may use: one network, its option table with data-aware losses, and an accuracy.

    `accuracy`: plan -> the share of labeled images that its network classifies right; None where no rule needs it.
    """

    proxy: Proxy
    table: OptionTable
    accuracy: Callable[[Plan], float] | None = None

    def costs(self, plan: Plan) -> dict[str, float]:
        """The parameters and MACs of a plan's network, as shares of the original's."""
        params, macs = plan_counts(self.proxy.inventory, plan)
        return {"params": params / self.proxy.inventory.params, "macs": macs / self.proxy.inventory.macs}

    def meets(self, plan: Plan, budget: Costs) -> bool:
        """Whether a plan meets a budget."""
        return within_budget(self.costs(plan), budget)

    def largest(self, plan_at: Callable[[float], Plan], budget: Costs) -> Plan:
        """The plan of the highest scale that meets a budget; scale 0 is the smallest plan of a rule, 1 the largest.

        Where the original meets the budget, it is the plan. Raises LrfError, with the smallest costs, where no plan
        does.
        """
        checked, original = checked_budget(budget), Plan.of(dict.fromkeys(self.proxy.sites, INTACT))
        if self.meets(original, checked):
            return original
        plan = bisect_scale(plan_at, lambda plan: self.meets(plan, checked))
        if plan is None:
            raise over_budget(self.costs(plan_at(0.0)), budget)
        return plan

    def uniform_plan(self, methods: Mapping[str, str], keep: float) -> Plan:
        """The plan of one keep for all sites, with a method for each site."""
        return Plan.of({site: self.proxy.choice(site, method, keep) for site, method in methods.items()})

    def first_saving(self, methods: Sequence[str]) -> dict[str, str]:
        """Site -> the first of some methods that can save parameters there, else intact.

        Raises LrfError where they save nowhere.
        """
        offered = {site: set(self.proxy.methods_of(site)) for site in self.proxy.sites}
        found = {site: next((m for m in methods if m in own), INTACT.method) for site, own in offered.items()}
        if set(found.values()) == {INTACT.method}:
            raise LrfError(f"no layer of this network is smaller by {' or '.join(methods)}: choose another method")
        return found

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
        sites, kernels = self.proxy.sites, self.proxy.kernels.originals
        keeps = sorted({option.keep for options in self.table.values() for option in options})
        with self.proxy.single_blas_thread():
            return {
                site: weight_errors(sites[site].op, kernels[site], self.nested_choices(site, keeps), spectral_norm)
                for site in self.table
            }

    def nested_choices(self, site: str, keeps: Sequence[float]) -> list[Choice]:
        """The distinct choices of a site whose ranks are all cut from one factorization, and the intact layer."""
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
    """Choice -> ||K - K'|| / ||K||, where K' is the data-free factorization of the kernel K.

    `norm` takes a (window x cin) by cout matrix; `np.linalg.norm` is the Frobenius norm. The largest group counts.
    """
    fitter = LayerFitter(op, kernel)
    whole = max(norm(as_matrix(part)) for part in split_groups(kernel, op.groups))
    found = {}
    for choice in choices:
        gone = kernel - compose(op, choice, fitter.fit(choice))
        found[choice] = max(norm(as_matrix(part)) for part in split_groups(gone, op.groups)) / max(whole, 1e-30)
    return found


def bisect_scale(build: Callable[[float], T], fits: Callable[[T], bool]) -> T | None:
    """`build(scale)` for the highest scale in [0, 1] that fits, by bisection; None where not even scale 0 does."""
    if fits(largest := build(1.0)):
        return largest
    if not fits(best := build(0.0)):
        return None
    low, high = 0.0, 1.0
    for _ in range(SCALE_BISECTIONS):
        middle = (low + high) / 2
        if fits(candidate := build(middle)):
            low, best = middle, candidate
        else:
            high = middle
    return best


def threshold_at(thresholds: Sequence[T], scale: float) -> T:
    """The threshold at a scale in [0, 1]: 0 is the first one, 1 the last."""
    return thresholds[min(int(scale * len(thresholds)), len(thresholds) - 1)]


def within_budget(costs: Costs, budget: Costs) -> bool:
    """Whether costs meet a budget."""
    return all(costs[cost] <= most for cost, most in budget.items())


def checked_budget(budget: Costs) -> Costs:
    """The budget. Raises LrfError where it is empty, or names anything but parameters and MACs."""
    if not budget:
        raise LrfError('a budget is {"params": share}, {"macs": share} or both, but got an empty one')
    for cost in budget:
        lookup(dict.fromkeys(COSTS), cost, "cost in the budget")
    return budget


def over_budget(smallest: Costs, budget: Costs) -> LrfError:
    """The error that names the costs of the smallest network."""
    limits = " and ".join(f"{cost} <= {most:g}" for cost, most in budget.items())
    has = " and ".join(f"{cost} {smallest[cost]:.4f}" for cost in budget)
    return LrfError(f"no plan of this kind has {limits}: the smallest has {has}; ask for that much or more")


def budget_share(option: Option | Shares, budget: Costs) -> float:
    """The part of a budget that an option takes, added up over the budget's costs."""
    total: float = sum(getattr(option, cost) / max(most, 1e-9) for cost, most in budget.items())
    return total


def spectral_norm(matrix: Array) -> float:
    """The largest singular value of a matrix."""
    if min(matrix.shape) <= GRAM_SIDE:
        return float(np.sqrt(squared_values(matrix)[0]))
    from scipy.sparse.linalg import svds

    start = np.ones(min(matrix.shape), matrix.dtype)
    return float(svds(matrix, 1, v0=start, tol=1e-4, return_singular_vectors=False)[0])
