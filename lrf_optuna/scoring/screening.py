"""Which options of a layer are worth fitting: those of methods that no other one clearly beats at sizes near by.

All methods are fitted at a few keeps. At a keep between two of these a method is fitted only where it is not beaten at
both, by one that has less error there for no more weights and MACs: most fits of a table are of options that no plan
would ever have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, choice_of
from lrf_optuna.plans.plan import INTACT, Choice

SMALL, LITTLE = 0.03, 0.01
"""Keeps below the first are for layers of which so much is still more than the second of the network's parameters:
the first Dense layers of LeNets and VGGs, but no layer of a ResNet, whose search they only lead astray."""
TRIED = (0.0, SMALL, 0.15, 0.4, 0.7)
"""Near these keeps every method is fitted, and at its smallest."""
CLEARLY = 1.01
"""To beat a method at a size, so many times less must be lost there, """
MACS = 1.03
"""with at most so many times its MACs."""
LEAST = 1e-9
"""Errors below are rounding."""

ScreenedChoices = dict[Choice, tuple[str, float]]
"""Choice -> the first (method, keep) that means it."""
Fact = tuple[float, int, int]
"""The error of a choice, its weights and MACs."""


def screened_choices(
    site: Site, methods: Sequence[str], keeps: Sequence[float], error: Callable[[Choice], float]
) -> ScreenedChoices:
    """The distinct choices of a site that are worth a look, each with the first (method, keep) that means it.

    The intact layer, every method at a few keeps, and at the others those that stand near by. `methods`: of the site,
    `intact` first; `error`: fits what it is asked for.
    """
    found = {INTACT: (INTACT.method, max(keeps))}
    for method, worth in contenders(site, methods[1:], keeps, error).items():
        for share in worth:
            found.setdefault(choice_of(site.op, method, share), (method, share))
    return found


def keep_grid_for(keeps: Sequence[float], share: float) -> tuple[float, ...]:
    """Those of the keeps that a layer may have which holds this share of the network's parameters."""
    large = [keep for keep in keeps if keep >= SMALL]
    return tuple(keeps if SMALL * share > LITTLE else large or keeps)


def nearest_keeps(keeps: Sequence[float], wanted: Sequence[float]) -> tuple[float, ...]:
    """Those of the keeps that are nearest to some that are wanted, each once."""
    return tuple(sorted({min(keeps, key=lambda keep: abs(keep - near)) for near in wanted}))


def contenders(
    site: Site, methods: Sequence[str], keeps: Sequence[float], error: Callable[[Choice], float]
) -> dict[str, list[float]]:
    """Method -> the keeps at which it is worth fitting: the few, and those at an end of whose gap it is not beaten."""
    few = nearest_keeps(keeps, TRIED)
    known = {method: facts(site, method, (0.0, *few), error) for method in methods}
    found = {}
    for method in methods:
        rivals = [list(dict.fromkeys(own.values())) for other, own in known.items() if other != method and own]
        stands = [k in known[method] and not any(beats(r, known[method][k]) for r in rivals) for k in few]
        ends = [(np.searchsorted(few, k, "right") - 1, np.searchsorted(few, k)) for k in keeps]
        near = [any(stands[i] for i in pair if 0 <= i < len(few)) for pair in ends]
        found[method] = [keep for keep, worth in zip(keeps, near, strict=True) if worth or keep in few]
    return found


def facts(site: Site, method: str, keeps: Sequence[float], error: Callable[[Choice], float]) -> dict[float, Fact]:
    """Keep -> the fact of what it means, from the smallest to the largest; none where that is the intact layer."""
    choices = {keep: choice_of(site.op, method, keep) for keep in sorted(keeps)}
    chains = {keep: chain_of(site.op, choice) for keep, choice in choices.items() if choice != INTACT}
    return {keep: (error(choices[keep]), chain.params, site.macs(chain)) for keep, chain in chains.items()}


def beats(rival: Sequence[Fact], fact: Fact) -> bool:
    """Whether a method, by its facts from small to large, clearly beats another one's fact.

    Between its own sizes its errors go with a power of the weights, beyond the largest they stay; below the smallest it
    beats nothing.
    """
    errors, params, macs = (np.array(column, float) for column in zip(*rival, strict=True))
    error, weights, work = fact
    there = np.exp(np.interp(np.log(weights), np.log(params), np.log(errors + LEAST)))
    less = CLEARLY * there <= error + LEAST and np.interp(weights, params, macs) <= MACS * work
    return bool(less and params[0] <= weights)
