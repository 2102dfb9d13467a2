"""Rules for ranks from the literature, each as a plan for any budget: what a search has to beat.

A rule is a row of `BASELINES`; `baselines_of` adds one for every decomposition alone. Where a paper's rule has a free
number (an energy, a rank factor, an accuracy), that number is bisected until the budget is just met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import numpy as np

from lrf_optuna.baselines.budget import Costs, RuleContext, checked, level, price, too_large
from lrf_optuna.baselines.evb import evb_rank, squared_values
from lrf_optuna.chains.conv import Array, split_groups
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import Option, plan_of
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.allocation import lagrangian_within

PLAIN = "svd"
"""The method on Dense and 1 x 1 layers beside one that is for windows only."""
WIDE = "channel_svd"
"""The same factorization of a window's kernel."""
TRIED = 8
"""Keeps at which a layer alone is evaluated, at most."""
Rule = Callable[[RuleContext, Costs], Plan]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A rule for ranks: its name, where it is from, and the plan that it makes within a budget.

    `plan(bench, budget)` is the largest plan of its kind within the budget. It raises LrfError where even its smallest
    exceeds it, and where the rule cannot be applied to the network.
    """

    name: str
    source: str
    plan: Rule


def uniform(bench: RuleContext, budget: Costs, *, methods: Sequence[str]) -> Plan:
    """The same keep in every layer, with the first of the methods that saves there."""
    picks = bench.first_of(methods)
    return bench.largest(lambda keep: bench.picked(picks, keep), budget)


def energy(bench: RuleContext, budget: Costs) -> Plan:
    """In every layer the least rank that retains one share, the same for all, of the squared singular values."""
    picks = bench.first_of((WIDE, PLAIN))
    lost = {site: losses(bench, site) for site, method in picks.items() if method != INTACT.method}

    def at(share: float) -> Plan:
        ranks = {site: max(1, int(np.sum(curve > 1 - share))) for site, curve in lost.items()}
        return Plan.of({site: bench.saving(site, Choice(picks[site], (rank,))) for site, rank in ranks.items()})

    return bench.largest(at, budget)


def losses(bench: RuleContext, site: str) -> Array:
    """For ranks 0, 1, ... the share of a kernel's squared singular values that is lost, over all groups."""
    groups = split_groups(bench.proxy.kernels.originals[site], bench.proxy.sites[site].op.groups)
    squares = np.sum([squared_values(as_matrix(group)) for group in groups], axis=0)
    after = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    out: Array = after / max(float(after[0]), 1e-30)
    return out


def by_input(part: Array) -> Array:
    """The unfolding of a kernel `(*window, cin, cout)` along its input channels."""
    return np.moveaxis(part, -2, 0).reshape(part.shape[-2], -1)


def by_output(part: Array) -> Array:
    """The unfolding along its output channels."""
    return as_matrix(part).T


UNFOLDINGS: dict[str, tuple[Callable[[Array], Array], ...]] = {
    "tucker2": (by_input, by_output),
    WIDE: (by_output,),
    PLAIN: (by_output,),
}
"""Method -> the matrices of which its ranks are the ranks."""


def vbmf(bench: RuleContext, budget: Costs, *, methods: Sequence[str]) -> Plan:
    """The ranks that empirical variational Bayes finds, all times one factor, with the first method that saves."""
    picks = {site: method for site, method in bench.first_of(methods).items() if method != INTACT.method}
    found = {site: evb_ranks(bench, site, method) for site, method in picks.items()}
    most = max(full / rank for pairs in found.values() for rank, full in pairs)

    def at(knob: float) -> Plan:
        choices = {}
        for site, method in picks.items():
            ranks = tuple(min(full, max(1, round(knob * most * rank))) for rank, full in found[site])
            choices[site] = bench.saving(site, Choice(method, ranks))
        return Plan.of(choices)

    return bench.largest(at, budget)


def evb_ranks(bench: RuleContext, site: str, method: str) -> list[tuple[int, int]]:
    """For each rank of a method the one that EVB finds (1 at least; of groups the largest), and the full rank."""
    parts = split_groups(bench.proxy.kernels.originals[site], bench.proxy.sites[site].op.groups)
    pairs = []
    for unfolded in UNFOLDINGS[method]:
        matrices = [unfolded(part) for part in parts]
        pairs.append((max(1, *map(evb_rank, matrices)), min(matrices[0].shape)))
    return pairs


def greedy(bench: RuleContext, budget: Costs) -> Plan:
    """In every layer the smallest option with which it alone leaves an accuracy, the same for all."""
    curves = {site: accuracies(bench, site, checked(budget)) for site in bench.table}
    levels = sorted({accuracy for curve in curves.values() for accuracy, _ in curve})

    def at(knob: float) -> Plan:
        least = level(levels, knob)
        return Plan.of({site: next(o for a, o in curve if a >= least).choice for site, curve in curves.items()})

    return bench.largest(at, budget)


def accuracies(bench: RuleContext, site: str, budget: Costs) -> list[tuple[float, Option]]:
    """Options of a site from the smallest to intact, each with the accuracy that it alone leaves, made monotone.

    At each of a few keeps the option with the least data-aware loss. Intact counts as 1, the accuracy of no other.
    Raises LrfError where the bench has no accuracy.
    """
    if bench.right is None:
        raise LrfError("this rule asks for the accuracy of plans: give the bench labelled images (Bench.right)")
    options = [option for option in bench.table[site] if option.choice != INTACT]
    keeps = sorted({option.keep for option in options})
    tried = [keeps[i] for i in np.unique(np.linspace(0, len(keeps) - 1, min(TRIED, len(keeps))).round().astype(int))]
    best = [min((o for o in options if o.keep == keep), key=lambda o: o.loss) for keep in tried]
    best.sort(key=lambda option: price(option, budget))
    measured = [bench.right(Plan.of({site: option.choice})) for option in best]
    intact = next(option for option in bench.table[site] if option.choice == INTACT)
    return [*zip(np.maximum.accumulate(measured).tolist(), best, strict=True), (np.inf, intact)]


def minmax(bench: RuleContext, budget: Costs) -> Plan:
    """In every layer the cheapest option within one relative spectral error of the weights, the same for all."""
    asked = checked(budget)
    rows = {
        site: [(price(bench.proxy.shares(site, choice), asked), error, choice) for choice, error in errors.items()]
        for site, errors in bench.spectral.items()
    }
    levels = sorted({error for own in rows.values() for _, error, _ in own}, reverse=True)

    def at(knob: float) -> Plan:
        most = level(levels, knob)
        return Plan.of(
            {site: min((row for row in own if row[1] <= most), key=itemgetter(0, 1))[2] for site, own in rows.items()}
        )

    return bench.largest(at, budget)


def lagrangian(bench: RuleContext, budget: Costs) -> Plan:
    """The options with the least sum of data-aware losses, by a Lagrangian relaxation of the knapsack problem."""
    allowed = lagrangian_within(bench.table, checked(budget))
    cheapest = {site: min(options, key=lambda o: price(o, budget)) for site, options in bench.table.items()}
    plans = [plan_of(picks) for picks in (*allowed, cheapest)]
    found = next((plan for plan in plans if bench.within(plan, budget)), None)
    if found is None:
        raise too_large(bench.costs(plans[-1]), budget)
    return found


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("energy", "retained energy, one threshold for all layers", energy),
        Baseline("vbmf tucker2", "Kim et al., ICLR 2016", partial(vbmf, methods=("tucker2", PLAIN))),
        Baseline(
            "vbmf svd",
            "EVB ranks of channel SVD, weakened as in MUSCO (Gusak et al. 2019)",
            partial(vbmf, methods=(WIDE, PLAIN)),
        ),
        Baseline("greedy", "AIMET's greedy selection by the accuracy of each layer alone", greedy),
        Baseline("minmax", "ALDS (Liebenwein et al., NeurIPS 2021)", minmax),
        Baseline("lagrangian", "knapsack over data-aware errors, as in BALF", lagrangian),
    )
}
"""The rules that are for any network; `baselines_of` has those with one method as well."""


def baselines_of(proxy: Proxy) -> dict[str, Baseline]:
    """All rows for a network: `uniform <method>` for each method that saves somewhere in it, and `BASELINES`."""
    saving = {method for site in proxy.sites for method in proxy.methods_of(site)} - {INTACT.method}
    names = [method for method in DECOMPOSITIONS if method in saving]
    alone = {
        f"uniform {name}": Baseline(
            f"uniform {name}", "one keep for all layers", partial(uniform, methods=(name, PLAIN))
        )
        for name in names
    }
    return alone | BASELINES
