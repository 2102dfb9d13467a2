"""Rules for ranks from the literature, each as a plan for any budget: what a search has to beat.

A rule is a row of `BASELINES`; `baselines_of` adds one for every decomposition alone. Where the rule of a paper has
a free number (an energy, a rank factor, an accuracy), that number is bisected until the budget is just met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from lrf_optuna.baselines.budget import Costs, RuleContext, check_budget, largest_within, over_budget, within_budget
from lrf_optuna.baselines.vbmf import evb_rank, squared_values
from lrf_optuna.chains.conv import Array, split_groups
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import Option, Shares
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.allocation import lagrangian_within

MATRIX_SVD, CHANNEL_SVD, TUCKER = "svd", "channel_svd", "tucker2"
"""The decompositions that rules of the literature are about; those for windows take the first one elsewhere."""
KEEPS_EVALUATED = 8
"""Keeps at which the greedy rule evaluates one layer alone, at most: AIMET's default is ten."""
Rule = Callable[[RuleContext, Costs], Plan]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule for ranks: its name, its source, and a function (context, budget) -> plan, for a checked budget."""

    name: str
    source: str
    rule: Rule

    def plan(self, context: RuleContext, budget: Costs) -> Plan:
        """The largest plan of the rule within a budget; the original where that meets it.

        Raises LrfError where even the smallest plan exceeds the budget, and where the rule cannot be applied.
        """
        check_budget(budget)
        original = Plan(())
        return original if within_budget(context.costs(original), budget) else self.rule(context, budget)


def uniform(context: RuleContext, budget: Costs, *, methods: Sequence[str]) -> Plan:
    """The same keep in every layer, with the first of the methods that saves there."""
    chosen, choice = context.first_saving(methods), context.proxy.choice

    def plan_at(keep: float) -> Plan:
        return Plan.of({site: choice(site, method, keep) for site, method in chosen.items()})

    return largest_within(plan_at, context.costs, budget)


def energy(context: RuleContext, budget: Costs) -> Plan:
    """In every layer the least rank that retains one share, the same for all, of the squared singular values."""
    methods = context.first_saving((CHANNEL_SVD, MATRIX_SVD))
    curves = {site: lost_energy(context, site) for site in methods}

    def plan_at(share: float) -> Plan:
        ranks = {site: max(1, int(np.sum(curve > 1 - share))) for site, curve in curves.items()}
        return Plan.of({site: context.or_intact(site, Choice(methods[site], (r,))) for site, r in ranks.items()})

    return largest_within(plan_at, context.costs, budget)


def lost_energy(context: RuleContext, site: str) -> Array:
    """For ranks 0, 1, ... the share of a kernel's squared singular values that is lost, over all groups."""
    groups = split_groups(context.proxy.kernels.originals[site], context.proxy.sites[site].op.groups)
    squares = np.sum([squared_values(as_matrix(group)) for group in groups], axis=0)
    after = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    out: Array = after / max(float(after[0]), 1e-30)
    return out


def unfold_input(kernel: Array) -> Array:
    """The unfolding of a kernel `(*window, cin, cout)` along its input channels."""
    return np.moveaxis(kernel, -2, 0).reshape(kernel.shape[-2], -1)


UNFOLDINGS: dict[str, tuple[Callable[[Array], Array], ...]] = {TUCKER: (unfold_input, as_matrix)}
"""Method -> for each of its ranks the matrix whose rank it is; of the SVDs it is the kernel as a matrix."""


def vbmf(context: RuleContext, budget: Costs, *, methods: Sequence[str]) -> Plan:
    """The ranks of empirical variational Bayes, all times one factor, with the first method that saves."""
    chosen = context.first_saving(methods)
    ranks = {site: evb_ranks(context, site, method) for site, method in chosen.items()}
    largest_factor = max(full / rank for pairs in ranks.values() for rank, full in pairs)

    def plan_at(scale: float) -> Plan:
        choices = {}
        for site, method in chosen.items():
            scaled = (min(full, max(1, round(scale * largest_factor * rank))) for rank, full in ranks[site])
            choices[site] = context.or_intact(site, Choice(method, tuple(scaled)))
        return Plan.of(choices)

    return largest_within(plan_at, context.costs, budget)


def evb_ranks(context: RuleContext, site: str, method: str) -> list[tuple[int, int]]:
    """For each rank of a method that of EVB, at least 1 and the largest of all groups, and the full rank."""
    parts = split_groups(context.proxy.kernels.originals[site], context.proxy.sites[site].op.groups)
    pairs = []
    for unfolded in UNFOLDINGS.get(method, (as_matrix,)):
        matrices = [unfolded(part) for part in parts]
        pairs.append((max(1, *map(evb_rank, matrices)), min(matrices[0].shape)))
    return pairs


def greedy(context: RuleContext, budget: Costs) -> Plan:
    """In every layer the smallest option with which it alone leaves an accuracy, the same for all."""
    return with_one_threshold(context, budget, {site: accuracies(context, site, budget) for site in context.table})


def accuracies(context: RuleContext, site: str, budget: Costs) -> list[RatedChoice]:
    """Choices of a site from the smallest to intact, rated by the accuracy that each alone leaves, monotone.

    At each of a few keeps it is the option with the least data-aware loss. Intact counts as infinite accuracy.
    Raises LrfError where the context has no accuracy.
    """
    if context.metric is None:
        raise LrfError("this rule measures accuracies of plans: give labeled images (RuleContext.metric)")
    options = [option for option in context.table[site] if option.choice != INTACT]
    keeps = sorted({option.keep for option in options})
    evaluated = np.linspace(0, len(keeps) - 1, min(KEEPS_EVALUATED, len(keeps))).round().astype(int)
    best = [min((o for o in options if o.keep == keeps[i]), key=lambda o: o.loss) for i in evaluated]
    best.sort(key=lambda option: budget_share(option, budget))
    measured = np.maximum.accumulate([context.metric(Plan.of({site: option.choice})) for option in best])
    rated = [RatedChoice(o.choice, rating, budget_share(o, budget)) for o, rating in zip(best, measured, strict=True)]
    return [*rated, RatedChoice(INTACT, np.inf, np.inf)]


def minmax(context: RuleContext, budget: Costs) -> Plan:
    """In every layer the cheapest option within one relative spectral error of the weights, the same for all."""
    shares = context.proxy.shares
    rated = {
        site: [RatedChoice(choice, -error, budget_share(shares(site, choice), budget)) for choice, error in own.items()]
        for site, own in context.spectral.items()
    }
    return with_one_threshold(context, budget, rated)


class RatedChoice(NamedTuple):
    """A choice, how good it is, and the part of a budget that it takes."""

    choice: Choice
    rating: float
    share: float


def with_one_threshold(context: RuleContext, budget: Costs, rated: Mapping[str, Sequence[RatedChoice]]) -> Plan:
    """In every layer the cheapest choice that is rated at a threshold or better; the highest one within the budget."""
    thresholds = sorted({one.rating for own in rated.values() for one in own})

    def plan_at(scale: float) -> Plan:
        least = thresholds[min(int(scale * len(thresholds)), len(thresholds) - 1)]
        good = {site: [one for one in own if one.rating >= least] for site, own in rated.items()}
        return Plan.of({site: min(own, key=lambda one: (one.share, -one.rating)).choice for site, own in good.items()})

    return largest_within(plan_at, context.costs, budget)


def lagrangian_rule(context: RuleContext, budget: Costs) -> Plan:
    """The options with the least sum of data-aware losses, by a Lagrangian relaxation of the knapsack problem."""
    cheapest = {s: min(options, key=lambda o: budget_share(o, budget)).choice for s, options in context.table.items()}
    for plan in (*lagrangian_within(context.table, budget), Plan.of(cheapest)):
        if within_budget(costs := context.costs(plan), budget):
            return plan
    raise over_budget(costs, budget)


def budget_share(option: Option | Shares, budget: Costs) -> float:
    """The part of a budget that an option takes, added up over the budget's costs."""
    total: float = sum(getattr(option, cost) / max(most, 1e-9) for cost, most in budget.items())
    return total


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("energy", "retained energy, one threshold for all layers", energy),
        Baseline("vbmf tucker2", "Kim et al., ICLR 2016", partial(vbmf, methods=(TUCKER, MATRIX_SVD))),
        Baseline(
            "vbmf svd",
            "EVB ranks of channel SVD, weakened as in MUSCO (Gusak et al. 2019)",
            partial(vbmf, methods=(CHANNEL_SVD, MATRIX_SVD)),
        ),
        Baseline("greedy", "AIMET's greedy selection by the accuracy of each layer alone", greedy),
        Baseline("minmax", "ALDS (Liebenwein et al., NeurIPS 2021)", minmax),
        Baseline("lagrangian", "knapsack over data-aware errors, as in BALF", lagrangian_rule),
    )
}
"""The rules that apply to any network; `baselines_of` adds the rules with one method each."""


def baselines_of(proxy: Proxy) -> dict[str, Baseline]:
    """All rows for a network: `uniform <method>` for each method that saves somewhere in it, and `BASELINES`."""
    saving = {method for site in proxy.sites for method in proxy.methods_of(site)} - {INTACT.method}
    alone = (
        Baseline(f"uniform {name}", "one keep for all layers", partial(uniform, methods=(name, MATRIX_SVD)))
        for name in DECOMPOSITIONS
        if name in saving
    )
    return {rule.name: rule for rule in alone} | BASELINES
