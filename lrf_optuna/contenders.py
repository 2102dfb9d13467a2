"""Which methods are worth fitting to a layer at every keep: those that no other clearly beats at a few of them.

All methods are fitted at these few. Where another one has less error there for no more weights and MACs, a method is
tried no further: most fits of a table are of methods that no plan would ever have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lrf_optuna.decompositions import chain_of, choice_of
from lrf_optuna.plan import INTACT, Choice
from lrf_optuna.stages import Site

TRIED = (0.0, 0.15, 0.4, 0.7)
"""Near these keeps every method is fitted, and at its smallest."""
CLEARLY = 1.1
"""To beat a method at a size, so many times less must be lost there, """
MACS = 1.03
"""with at most so many times its MACs."""
LEAST = 1e-9
"""Errors below are rounding."""

Fact = tuple[float, int, int]
"""The error of a choice, its weights and MACs."""


def drawn(
    site: Site, methods: Sequence[str], keeps: Sequence[float], error: Callable[[Choice], float]
) -> dict[Choice, tuple[str, float]]:
    """The distinct choices of a site that are worth a look, each with the first (method, keep) that means it.

    The intact layer, every method at a few keeps, contenders at all of them. `methods`: of the site, `intact` first;
    `error`: fits what it is asked for.
    """
    few, worth = nearest(keeps, TRIED), contenders(site, methods[1:], keeps, error)
    found = {INTACT: (INTACT.method, max(keeps))}
    for method in methods[1:]:
        for share in keeps if method in worth else few:
            found.setdefault(choice_of(site.op, method, share), (method, share))
    return found


def nearest(keeps: Sequence[float], wanted: Sequence[float]) -> tuple[float, ...]:
    """Those of the keeps that are nearest to some that are wanted, each once."""
    return tuple(sorted({min(keeps, key=lambda keep: abs(keep - near)) for near in wanted}))


def contenders(
    site: Site, methods: Sequence[str], keeps: Sequence[float], error: Callable[[Choice], float]
) -> set[str]:
    """The methods that no other one clearly beats at each of the few keeps.

    From the last to the first, each against those that are left, so that of equals one stays.
    """

    def facts(method: str) -> list[Fact]:
        choices = dict.fromkeys(choice_of(site.op, method, keep) for keep in (0.0, *nearest(keeps, TRIED)))
        chains = {choice: chain_of(site.op, choice) for choice in choices if choice != INTACT}
        return [(error(choice), chain.params, site.macs(chain)) for choice, chain in chains.items()]

    left = {method: facts(method) for method in methods}
    for method in reversed(methods):
        if any(beats(other, left[method]) for rival, other in left.items() if rival != method):
            del left[method]
    return set(left)


def beats(one: Sequence[Fact], other: Sequence[Fact]) -> bool:
    """Whether one method clearly beats another at every size that the other was fitted at, but its very smallest.

    Between its own sizes its errors go with a power of the weights, beyond the largest they stay; below the smallest it
    beats nothing.
    """
    errors, params, macs = (np.array(column, float) for column in zip(*one, strict=True))
    own_errors, own_params, own_macs = (
        np.array(column, float)[-len(other) + 1 :] for column in zip(*other, strict=True)
    )
    there = np.exp(np.interp(np.log(own_params), np.log(params), np.log(errors + LEAST)))
    cost = np.interp(own_params, params, macs)
    less = (CLEARLY * there <= own_errors + LEAST) & (cost <= MACS * own_macs) & (params[0] <= own_params)
    return bool(less.all())
