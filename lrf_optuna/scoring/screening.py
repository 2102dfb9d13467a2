"""Screening: which options of a layer are fitted at all.

Every method is fitted at a few keeps. At a keep between two of these a method is fitted only where it is not dominated
at both, by a method that has less error there for no more weights and MACs. Most options would be in no plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lrf_optuna.chains.site import UNLIMITED, ChoiceLimits, Site
from lrf_optuna.decompositions.registry import chain_of, choice_within_limits
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.sections import KEEP

MANY_SITES = 12
"""Sites from which on every other keep is left out: the option table of ResNet-20 takes 12 s instead of 19 s, and its
picks are as accurate within noise, because many layers fill a budget with coarse steps, too."""
SMALL_KEEP = 0.03
"""Keep below which only large layers are compressed: see `LARGE_SHARE`."""
LARGE_SHARE = 0.01
"""Share of the network's parameters that a layer has even at `SMALL_KEEP`, for smaller keeps to be tried. First Dense
layers of LeNets and VGGs have it, no layer of a ResNet has: there smaller keeps only distract the search."""
LARGE_LAYER = LARGE_SHARE / SMALL_KEEP
"""Share of the network's parameters of a large layer, for which smaller keeps are tried."""
SCREENING_KEEPS = (0.0, SMALL_KEEP, 0.15, 0.4, 0.7)
"""Near these keeps every method is fitted, and at its smallest chain."""
ERROR_RATIO, MACS_RATIO = 1.01, 1.03
"""A method is dominated by one with an error this many times smaller, for at most this many times its MACs and its
milliseconds."""
ROUNDING_OF_ERRORS = 1e-9
"""Errors below this are rounding."""

NO_TIMES: Mapping[Choice, float] = {}
"""What stands for milliseconds where they do not count."""
ScreenedChoices = dict[Choice, tuple[str, float]]
"""Choice -> the first (method, keep) that means it."""


class Fit(NamedTuple):
    """The error of a fitted choice, its weights, its MACs, and its milliseconds, 0 where it was not timed."""

    error: float
    params: int
    macs: int
    time: float = 0.0


def screened_choices(
    site: Site,
    methods: Sequence[str],
    keeps: Sequence[float],
    error: Callable[[Choice], float],
    times: Mapping[Choice, float] = NO_TIMES,
) -> ScreenedChoices:
    """The distinct choices of a site that are fitted, each with the first (method, keep) that means it.

    They are the intact layer, every method at the screening keeps, and methods that are not dominated at the keeps
    between. `methods`: of the site, `intact` among them where the layer may stay as it is; `error`: fits a choice.
    `times`: milliseconds of the `anchor_choices`, where these count; choices without are of methods that cannot run.
    """
    found = {INTACT: (INTACT.method, max(keeps))} if INTACT.method in methods else {}
    others = [method for method in methods if method != INTACT.method]
    for method, screened in screened_keeps(site, others, keeps, error, times).items():
        for keep in screened:
            found.setdefault(choice_within_limits(site, method, keep), (method, keep))
    return found


def default_keeps(sites: int) -> tuple[float, ...]:
    """The keeps of a network with this number of sites: all, or every other one where there are many sites."""
    return KEEP if sites < MANY_SITES else KEEP[::2]


def keep_grid_for(keeps: Sequence[float], share: float, limits: ChoiceLimits = UNLIMITED) -> tuple[float, ...]:
    """The keeps of a layer that has this share of the network's parameters: within its limits, with both of them."""
    large = [keep for keep in keeps if keep >= SMALL_KEEP]
    found = keeps if share > LARGE_LAYER else large or keeps
    ends = {end for end in (limits.least, limits.most) if 0 < end < 1}
    return tuple(sorted(ends.union(keep for keep in found if limits.least <= keep <= limits.most)))


def nearest_keeps(keeps: Sequence[float], wanted: Sequence[float]) -> tuple[float, ...]:
    """The keeps that are nearest to the wanted ones, each once."""
    return tuple(sorted({min(keeps, key=lambda keep: abs(keep - near)) for near in wanted}))


def screened_keeps(
    site: Site,
    methods: Sequence[str],
    keeps: Sequence[float],
    error: Callable[[Choice], float],
    times: Mapping[Choice, float] = NO_TIMES,
) -> dict[str, list[float]]:
    """Method -> its keeps: the screening keeps, and those with one of them beside where it is not dominated."""
    anchors = nearest_keeps(keeps, SCREENING_KEEPS)
    fits = {method: fits_at(site, method, (0.0, *anchors), error, times) for method in methods}
    beside = {k: {np.searchsorted(anchors, k, "right") - 1, np.searchsorted(anchors, k)} for k in keeps}
    found = {}
    for method in methods:
        rivals = [list(dict.fromkeys(own.values())) for other, own in fits.items() if other != method and own]
        stands = {
            i
            for i, k in enumerate(anchors)
            if k in fits[method] and not any(dominates(rival, fits[method][k]) for rival in rivals)
        }
        found[method] = [keep for keep in keeps if keep in anchors or beside[keep] & stands]
    return found


def anchor_choices(site: Site, methods: Sequence[str], keeps: Sequence[float]) -> list[Choice]:
    """The choices that are fitted for every method: near the screening keeps, and its smallest chain."""
    wanted = (0.0, *nearest_keeps(keeps, SCREENING_KEEPS))
    found = (choice_within_limits(site, method, keep) for method in methods for keep in wanted)
    return [choice for choice in dict.fromkeys(found) if choice != INTACT]


def fits_at(
    site: Site,
    method: str,
    keeps: Sequence[float],
    error: Callable[[Choice], float],
    times: Mapping[Choice, float] = NO_TIMES,
) -> dict[float, Fit]:
    """Keep -> the fit of a method there, from the smallest to the largest; none where it is the intact layer.

    So it is where milliseconds count and the choice has none, because it cannot run.
    """
    choices = {keep: choice_within_limits(site, method, keep) for keep in sorted(keeps)}
    known = {keep: choice for keep, choice in choices.items() if choice != INTACT and (not times or choice in times)}
    chains = {keep: chain_of(site.op, choice) for keep, choice in known.items()}
    return {
        keep: Fit(error(choices[keep]), chain.params, site.macs(chain), times.get(choices[keep], 0.0))
        for keep, chain in chains.items()
    }


def dominates(rival: Sequence[Fit], fit: Fit) -> bool:
    """Whether a method, by its fits from small to large, dominates another one's fit.

    Between its fits its error is a power of the weights, above the largest it stays; below the smallest it dominates
    nothing.
    """
    errors, params, macs, times = (np.array(column, float) for column in zip(*rival, strict=True))
    error = np.exp(np.interp(np.log(fit.params), np.log(params), np.log(errors + ROUNDING_OF_ERRORS)))
    less = ERROR_RATIO * error <= fit.error + ROUNDING_OF_ERRORS
    sizes = (macs, fit.macs), (times, fit.time)
    no_larger = all(np.interp(fit.params, params, own) <= MACS_RATIO * size for own, size in sizes)
    return bool(less and no_larger and params[0] <= fit.params)
