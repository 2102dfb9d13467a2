"""Building the option table: every layer's options with their costs and the network's loss that each should lead to.

An option's loss follows from its data-aware error, by a curve that is measured for each layer. Finished layers go to
the proxy's cache one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lrf_optuna.decompositions.registry import is_built_in
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.processes import cores
from lrf_optuna.progress import Progress
from lrf_optuna.scoring.latency import LATENCY, LatencyTable, LayerTimer, scaled_table
from lrf_optuna.scoring.option_table import COUNTED, SIZES, Option, OptionTable
from lrf_optuna.scoring.parallel import SiteFits, fit_in_processes
from lrf_optuna.scoring.screening import NO_TIMES, anchor_choices, keep_grid_for, screened_choices
from lrf_optuna.scoring.sensitivity import measure_sensitivity, sensitivity_key

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

PARALLEL_FITS = 200
"""Fits above which more processes save more than their start of some seconds."""
MEASURED_NETWORKS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Loss a unit of size: multipliers of the Lagrangian plans that are measured as whole networks."""


def build_option_table(proxy: Proxy, keeps: Sequence[float], progress: Progress) -> OptionTable:
    """The option table at these keeps, as `Proxy.table` gives it."""
    grids = {
        name: keep_grid_for(keeps, proxy.shares(name, INTACT).params, site.limits) for name, site in proxy.sites.items()
    }
    proxy.latencies = anchor_latencies(proxy, grids, proxy.timer) if proxy.timer else None
    proxy.check_choices()  # some methods cannot run
    table = {name: site_options(proxy, name, grid) for name, grid in grids.items() if is_stored(proxy, name, grid)}
    missing = {name: grid for name, grid in grids.items() if name not in table}
    _ = proxy.moments if missing else None  # before the task: progress shows one task at a time
    with proxy.single_blas_thread(), progress.task("option table, by layer", len(grids), len(table)) as step:
        for name in fitted_elsewhere_first(proxy, missing):
            table[name] = site_options(proxy, name, grids[name])
            proxy.kernels.save(name, str((proxy.options_key(name), grids[name])))
            step(1)
    if missing and proxy.cache:
        proxy.cache.trim()
    space = {name: (proxy.methods_of(name), grid) for name, grid in grids.items()}
    found = OptionTable({name: table[name] for name in grids}, proxy.fixed, space, sizes_of(proxy.objectives))
    return with_latencies(proxy, found, proxy.timer) if proxy.timer else found


def sizes_of(objectives: Iterable[str]) -> tuple[str, ...]:
    """The sizes among the objectives; parameters and MACs where there is none."""
    return tuple(name for name in SIZES if name in objectives) or COUNTED


def anchor_latencies(proxy: Proxy, grids: Mapping[str, tuple[float, ...]], timer: LayerTimer) -> LatencyTable:
    """The milliseconds of the choices by which methods are screened; methods that cannot run have none."""
    proxy.latencies = None  # of an earlier table: all methods are tried again
    wanted = {name: anchor_choices(proxy.sites[name], proxy.methods_of(name), grid) for name, grid in grids.items()}
    return LatencyTable(timer.place, 1.0, timer.layers(proxy, wanted))


def with_latencies(proxy: Proxy, table: OptionTable, timer: LayerTimer) -> OptionTable:
    """The table with the milliseconds of every option, which the proxy keeps for the costs of plans.

    Whole networks of a few sizes say by how much layers in a network are faster or slower than alone.
    """
    layers = timer.layers(proxy, {site: [option.choice for option in options] for site, options in table.items()})
    known = (
        {site: {**proxy.latencies.layers[site], **times} for site, times in layers.items()} if proxy.latencies else {}
    )
    weights = np.full((len(MEASURED_NETWORKS), len(table.sizes)), 1 / len(table.sizes))
    plans = [table.decode(row) for row in table.allocate(np.array(MEASURED_NETWORKS), weights)]
    proxy.latencies = scaled_table(timer, proxy, known, list(dict.fromkeys(plans)))
    options = {
        site: [
            replace(option, latency=proxy.latencies.share(proxy.sites[site], option.choice))
            for option in options
            if option.choice in layers[site]
        ]
        for site, options in table.items()
    }
    return replace(table, options=options, fixed=proxy.fixed)


def times_of(proxy: Proxy, site: str) -> Mapping[Choice, float]:
    """The milliseconds by which a site's methods are screened, where these are an objective."""
    return proxy.latencies.layers[site] if proxy.latencies and LATENCY in proxy.objectives else NO_TIMES


def is_stored(proxy: Proxy, site: str, keeps: Sequence[float]) -> bool:
    """Whether all errors of a site's screened choices and its sensitivity are stored."""
    record = proxy.kernels.record(site)
    try:
        choices = screened_choices(
            proxy.sites[site], proxy.methods_of(site), keeps, record.errors.__getitem__, times_of(proxy, site)
        )
    except KeyError:
        return False
    return sensitivity_key(proxy, site, keeps) in record.losses and choices.keys() - {INTACT} <= record.errors.keys()


def fitted_elsewhere_first(proxy: Proxy, grids: Mapping[str, tuple[float, ...]]) -> Iterator[str]:
    """The sites: first those that other processes have fitted, where that pays, then those to be fitted here."""
    left = dict(grids)
    if pays_in_processes(proxy, grids):
        store = proxy.kernels
        tasks = [
            SiteFits(
                proxy.sites[name],
                store.fitter(name),
                proxy.methods_of(name),
                grid,
                store.record(name).errors,
                times_of(proxy, name),
            )
            for name, grid in grids.items()
        ]
        for name, fits in fit_in_processes(tasks, min(cores(), len(tasks))):
            store.add(name, fits)
            del left[name]
            yield name
    yield from left


def pays_in_processes(proxy: Proxy, grids: Mapping[str, tuple[float, ...]]) -> bool:
    """Whether several processes fit these sites sooner: not a few fits, large kernels or a user's own methods."""
    fits = sum(
        len(proxy.methods_of(name)) * len(grids[name]) - len(proxy.kernels.record(name).errors) for name in grids
    )
    built_in = all(is_built_in(method) for name in grids for method in proxy.methods_of(name))
    return min(cores(), len(grids)) > 1 and fits >= PARALLEL_FITS and proxy.small and built_in


def site_options(proxy: Proxy, site: str, keeps: Sequence[float]) -> list[Option]:
    """The distinct options of one site, fitted where they are not stored."""
    error = partial(proxy.kernels.error, site)
    choices = screened_choices(proxy.sites[site], proxy.methods_of(site), keeps, error, times_of(proxy, site))
    errors = {choice: error(choice) for choice in choices}
    loss = measure_sensitivity(proxy, site, keeps, errors)
    return [
        Option(method, keep, choice, loss(errors[choice]), *proxy.counted_shares(site, choice))
        for choice, (method, keep) in choices.items()
    ]
