"""The table of errors: what every option of every layer costs, and what it should make the network lose.

An option's loss is its data-aware error times the layer's sensitivity: how much the network's loss rises for each unit
of that layer's error, with the layer compressed alone. What is worked out goes to the proxy's cache, layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrf_optuna.allocate import Option, Table
from lrf_optuna.decompositions import built_in, chain_of
from lrf_optuna.plan import INTACT, Choice, Plan
from lrf_optuna.progress import Progress

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

PROBED_KEEPS = (0.15, 0.4)
"""Budgets at which each layer is compressed alone, to see how much its error hurts the network."""
SIMILARITIES_HOME = "lrf_optuna.similarity"


def table_of(proxy: Proxy, keeps: Sequence[float], progress: Progress) -> Table:
    """See `Proxy.table`."""
    missing = [name for name in proxy.sites if not settled(proxy, name, keeps)]
    there, words = len(proxy.sites) - len(missing), str((proxy.sense, tuple(keeps)))
    _ = proxy.moments if missing else None
    with proxy.calm(), progress.task("a table of errors", len(proxy.sites), there) as step:
        for name in missing:
            with proxy.fits.recording(name, words):
                options(proxy, name, keeps)
            step(1)
    if missing and proxy.cache:
        proxy.cache.trim()
    return {name: options(proxy, name, keeps) for name in proxy.sites}


def settled(proxy: Proxy, name: str, keeps: Sequence[float]) -> bool:
    """Whether all that the table says of a site is known."""
    known = proxy.fits.of(name)
    choices = {proxy.choice(name, method, share) for method in proxy.methods_of(name) for share in keeps}
    return proxy.sense in known.sensitivities and choices - {INTACT} <= known.errors.keys()


def options(proxy: Proxy, name: str, keeps: Sequence[float]) -> list[Option]:
    """The distinct options of one site."""
    site = proxy.sites[name]
    found: dict[Choice, Option] = {}
    weight = sensitivity(proxy, name)
    for method in proxy.methods_of(name):
        for share in (max(keeps),) if method == "intact" else keeps:
            choice = proxy.choice(name, method, share)
            if choice in found:
                continue
            chain = chain_of(site.op, choice)
            lost = 0.0 if choice == INTACT else weight * proxy.error(name, choice)
            costs = chain.params / proxy.inventory.params, site.macs(chain) / proxy.inventory.macs
            found[choice] = Option(method, share, choice, lost, *costs)
    return list(found.values())


def sensitivity(proxy: Proxy, site: str) -> float:
    """How much the network's loss rises for each unit of this site's error, with the site compressed alone."""
    known = proxy.fits.of(site).sensitivities
    if proxy.sense in known:
        return known[proxy.sense]
    ratios = []
    for share in PROBED_KEEPS:
        choices = {proxy.choice(site, method, share) for method in proxy.methods_of(site)} - {INTACT}
        if choices:
            best = min(choices, key=lambda choice: proxy.error(site, choice))
            alike = proxy.measure(Plan.of({site: best})).similarity.values()
            ratios.append((1 - np.mean(list(alike)) + 1e-6) / (proxy.error(site, best) + 1e-6))
    found = float(np.exp(np.mean(np.log(ratios)))) if ratios else 1.0
    if all(map(built_in, proxy.methods)) and proxy.similar.__module__ == SIMILARITIES_HOME:
        known[proxy.sense] = found
    return found
