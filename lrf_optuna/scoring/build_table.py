"""The table of errors: what every option of every layer costs, and what it should make the network lose.

An option's loss is what its data-aware error does to the network: each layer is compressed alone to a few degrees, and
the network's loss is interpolated between them. One factor a layer would not do: in ResNet-20's last convolution the
largest errors hurt 26 times more than the small ones say. Every method is fitted at a few keeps; at the others only
those that no other method clearly beats there. What is worked out goes to the proxy's cache, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lrf_optuna.decompositions.registry import is_built_in
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.processes import cores
from lrf_optuna.progress import Progress
from lrf_optuna.scoring.parallel import Found, SiteFits, fit_in_processes
from lrf_optuna.scoring.screening import keep_grid_for, screened_choices
from lrf_optuna.scoring.sensitivity import measure_sensitivity, sensitivity_key

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.option_table import Option, OptionTable, Shares

MANY = 200
"""Choices to fit from which more processes are worth their start."""


def build_option_table(proxy: Proxy, keeps: Sequence[float], progress: Progress) -> OptionTable:
    """See `Proxy.table`."""
    grids = keep_grids(proxy, keeps)
    missing = [name for name in proxy.sites if not settled(proxy, name, grids[name])]
    there = len(proxy.sites) - len(missing)
    _ = proxy.moments if missing else None
    with proxy.calm(), progress.task("option table", len(proxy.sites), there) as step:
        for name, found in made(proxy, {name: grids[name] for name in missing}):
            with proxy.fits.recording(name, str((proxy.sense, grids[name]))):
                proxy.fits.take_in(name, found)
                site_options(proxy, name, grids[name])
            step(1)
    if missing and proxy.cache:
        proxy.cache.trim()
    options = {name: site_options(proxy, name, own) for name, own in grids.items()}
    space = {name: (proxy.methods_of(name), own) for name, own in grids.items()}
    return OptionTable(options, Shares(**proxy.fixed), space)


def keep_grids(proxy: Proxy, keeps: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Site -> those of the keeps that it may have."""
    return {name: keep_grid_for(keeps, proxy.shares(name, INTACT)[0]) for name in proxy.sites}


def made(proxy: Proxy, grids: Mapping[str, tuple[float, ...]]) -> Iterator[tuple[str, Found]]:
    """Sites with their keeps -> each with what was fitted to it elsewhere: nothing where this process does it alone."""
    methods = {name: proxy.methods_of(name) for name in grids}
    known = {name: proxy.fits.of(name).errors for name in grids}
    count = sum(len(few) * len(grids[name]) - len(known[name]) for name, few in methods.items())
    processes = min(cores(), len(grids))
    if processes < 2 or count < MANY or not proxy.small or not all(map(is_built_in, proxy.methods)):
        yield from ((name, {}) for name in grids)
        return
    works = [
        SiteFits(proxy.sites[name], proxy.kernels[name], proxy.moments.get(name), methods[name], own, known[name])
        for name, own in grids.items()
    ]
    yield from fit_in_processes(works, processes)


def settled(proxy: Proxy, name: str, keeps: Sequence[float]) -> bool:
    """Whether all that the table says of a site is known."""
    known = proxy.fits.of(name)
    try:
        worth = screened_choices(proxy.sites[name], proxy.methods_of(name), keeps, known.errors.__getitem__)
    except KeyError:
        return False
    return sensitivity_key(proxy, keeps) in known.harms and worth.keys() - {INTACT} <= known.errors.keys()


def site_options(proxy: Proxy, name: str, keeps: Sequence[float]) -> list[Option]:
    """The distinct options of one site."""
    worth = screened_choices(proxy.sites[name], proxy.methods_of(name), keeps, partial(proxy.error, name))
    errors = {choice: 0.0 if choice == INTACT else proxy.error(name, choice) for choice in worth}
    harm = measure_sensitivity(proxy, name, keeps, errors)
    return [
        Option(method, share, choice, harm(errors[choice]), *proxy.shares(name, choice))
        for choice, (method, share) in worth.items()
    ]
