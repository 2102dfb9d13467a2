"""Options that are not worth fitting: what dominates them stays, and nothing is lost that a plan would have."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from lrf_optuna import sections
from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of, choice_of, saving_methods
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.screening import (
    ERROR_RATIO,
    LARGE_SHARE,
    MANY_SITES,
    SCREENING_KEEPS,
    SMALL_KEEP,
    Fit,
    default_keeps,
    dominates,
    fits_at,
    keep_grid_for,
    nearest_keeps,
    screened_choices,
    screened_keeps,
)

SITE = Site("a", Conv((3, 3), 24, 24, (1, 1), (1, 1), "same"), ((8, 8),))
DENSE = Site("b", Conv((), 96, 80, (), ()), ((),))
KEEP = keep_grid_for(sections.KEEP, 0.1)
METHODS = {site.name: ("intact", *saving_methods(site.op)) for site in (SITE, DENSE)}


def power(rates: dict[str, float], choice: Choice, site: Site = SITE) -> float:
    """An error that falls with the share of the weights, at a rate of the method."""
    return float(np.exp(-rates.get(choice.method, 1.0) * chain_of(site.op, choice).params / site.op.params))


def test_the_keeps_nearest_to_some_are_each_there_once() -> None:
    assert nearest_keeps((0.2, 0.4, 0.6), (0.0, 0.15, 0.4, 0.7)) == (0.2, 0.4, 0.6)
    assert nearest_keeps((0.3,), SCREENING_KEEPS) == (0.3,)
    assert nearest_keeps(KEEP, (0.0, 1.0)) == (min(KEEP), max(KEEP))


def test_the_smallest_keeps_are_for_layers_that_hold_much_of_the_network() -> None:
    tiny = {keep for keep in sections.KEEP if keep < SMALL_KEEP}
    assert tiny
    assert keep_grid_for(sections.KEEP, 0.9) == sections.KEEP
    assert set(sections.KEEP) - set(keep_grid_for(sections.KEEP, 0.1)) == tiny
    assert min(sections.KEEP) < LARGE_SHARE / SMALL_KEEP, (
        "what such a layer keeps at least is little beside the network"
    )
    assert keep_grid_for((0.01, 0.02), 0.1) == (0.01, 0.02), "where there are no others"


ANCHORS = nearest_keeps(KEEP, SCREENING_KEEPS)


def test_a_method_that_is_beaten_everywhere_is_fitted_at_a_few_keeps_and_the_best_at_all() -> None:
    rates = dict.fromkeys(METHODS["a"], 2.0) | {"cp3": 9.0}
    found = screened_keeps(SITE, METHODS["a"][1:], KEEP, partial(power, rates))
    assert {method: tuple(keeps) for method, keeps in found.items()} == (
        dict.fromkeys(METHODS["a"][1:], ANCHORS) | {"cp3": KEEP}
    )


def test_equals_are_all_fitted_everywhere() -> None:
    def alike(choice: Choice) -> float:
        return float((chain_of(SITE.op, choice).params / SITE.op.params) ** -1.5)

    found = screened_keeps(SITE, METHODS["a"][1:], KEEP, alike)
    assert {method: tuple(keeps) for method, keeps in found.items()} == dict.fromkeys(METHODS["a"][1:], KEEP)


@pytest.mark.parametrize("place", range(len(ANCHORS)))
def test_what_is_best_at_one_size_alone_is_fitted_around_it(place: int) -> None:
    def at_one_size(choice: Choice) -> float:
        lucky = choice == choice_of(SITE.op, "tucker2", ANCHORS[place])
        return power({"cp3": 9.0}, choice) * (1e-3 if lucky else 1)

    edges = (0.0, *ANCHORS, 1.0)
    around = [keep for keep in KEEP if edges[place] < keep < edges[place + 2]]
    found = screened_keeps(SITE, METHODS["a"][1:], KEEP, at_one_size)["tucker2"]
    assert found == sorted({*ANCHORS, *around})
    assert len(ANCHORS) < len(found) < len(KEEP)


def test_a_method_is_not_beaten_by_one_that_takes_more_milliseconds() -> None:
    fit, rival = Fit(0.5, 100, 1000, 1.0), Fit(0.1, 100, 1000, 1.5)
    assert not dominates([rival], fit)
    assert dominates([rival._replace(time=1.0)], fit)


def test_a_choice_without_milliseconds_is_no_fit_where_they_count() -> None:
    method = METHODS[SITE.name][1]
    choices = {keep: choice_of(SITE.op, method, keep) for keep in (0.2, 0.6)}
    times = {INTACT: 1.0, choices[0.6]: 0.5}
    assert list(fits_at(SITE, method, (0.2, 0.6), lambda choice: 0.5)) == [0.2, 0.6]
    (fit,) = fits_at(SITE, method, (0.2, 0.6), lambda choice: 0.5, times).values()
    assert fit.time == 0.5


def test_a_method_is_beaten_by_less_error_for_no_more_weights_and_macs() -> None:
    fits = [Fit(0.5, 100, 1000), Fit(0.3, 200, 2000), Fit(0.1, 400, 4000)]
    better = [Fit(error / 2, params, macs) for error, params, macs, _ in fits]
    barely = [Fit(error / ERROR_RATIO * 1.01, params, macs) for error, params, macs, _ in fits]
    for fit in fits:
        assert dominates(better, fit)
        assert not dominates([Fit(error, params, 2 * macs) for error, params, macs, _ in better], fit)
        assert not dominates(barely, fit)
        assert not dominates(fits, fit)
    between = Fit((0.5 * 0.3) ** 0.5 * 1.04, 141, 1500)  # at half way of the logarithms
    assert dominates(fits, between)
    assert not dominates(fits, between._replace(error=between.error / 1.04))
    assert not dominates(better, Fit(0.9, 99, 1000)), "below its smallest a method dominates nothing"
    assert dominates(better, Fit(0.1, 800, 8000)), "beyond its largest it has the error of that"


def test_a_method_is_fitted_at_all_keeps_where_it_stands_and_at_a_few_where_it_is_dominated() -> None:
    rates = dict.fromkeys(METHODS["a"], 2.0) | {"cp3": 9.0}
    asked: list[Choice] = []

    def error(choice: Choice) -> float:
        asked.append(choice)
        return power(rates, choice)

    worth = screened_choices(SITE, METHODS["a"], KEEP, error)
    assert next(iter(worth)) == INTACT
    of = {method: {choice for choice in worth if choice.method == method} for method in METHODS["a"]}
    assert of["cp3"] == {choice_of(SITE.op, "cp3", keep) for keep in KEEP} - {INTACT}
    for method in set(METHODS["a"]) - {"cp3", "intact"}:
        assert of[method] == {choice_of(SITE.op, method, keep) for keep in ANCHORS} - {INTACT}
    assert all(choice_of(SITE.op, *pair) == choice for choice, pair in worth.items() if choice != INTACT)
    assert INTACT not in asked


@pytest.mark.parametrize("site", [SITE, DENSE], ids=["window", "point"])
def test_with_few_keeps_all_of_every_method_is_drawn(site: Site) -> None:
    keeps = (0.2, 0.4, 0.7)
    worth = screened_choices(site, METHODS[site.name], keeps, lambda choice: power({"cp3": 9.0}, choice, site))
    assert set(worth) == {INTACT, *(choice_of(site.op, m, k) for m in METHODS[site.name][1:] for k in keeps)}


def test_on_a_real_layer_the_front_of_errors_and_sizes_is_not_touched(proxy: Proxy) -> None:
    """What is left out has, at its keep, more error than something of about its size that is there."""
    for name in ("deep", "hidden"):
        site, methods = proxy.sites[name], proxy.methods_of(name)
        worth = screened_choices(site, methods, KEEP, partial(proxy.kernels.error, name))
        every = {choice_of(site.op, method, keep) for method in methods[1:] for keep in KEEP} - {INTACT}
        for gone in every - worth.keys():
            size = chain_of(site.op, gone).params
            rivals = [c for c in worth.keys() - {INTACT} if chain_of(site.op, c).params <= 1.1 * size]
            assert min(proxy.kernels.error(name, c) for c in rivals) <= proxy.kernels.error(name, gone) * 1.1
    assert set(DECOMPOSITIONS) >= {c.method for c in worth}


def test_a_network_of_many_sites_has_every_other_keep_and_the_smallest() -> None:
    few, many = default_keeps(MANY_SITES - 1), default_keeps(MANY_SITES)
    assert few == sections.KEEP
    assert many == sections.KEEP[::2]
    assert min(few) == min(many)
