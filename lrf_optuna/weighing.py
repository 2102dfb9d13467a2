"""The table of errors: what every option of every layer costs, and what it should make the network lose.

An option's loss is what its data-aware error does to the network: each layer is compressed alone to a few degrees, and
the network's loss is interpolated between them. One factor a layer would not do: in ResNet-20's last convolution the
largest errors hurt 26 times more than the small ones say. Every method is fitted at a few keeps; at the others only
those that no other method clearly beats there. What is worked out goes to the proxy's cache, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lrf_optuna.allocate import Option, Table
from lrf_optuna.contenders import SMALL, drawn, grid, nearest
from lrf_optuna.crew import Found, Work, fitted
from lrf_optuna.decompositions import built_in
from lrf_optuna.plan import INTACT, Choice, Plan
from lrf_optuna.processors import cores
from lrf_optuna.progress import Progress
from lrf_optuna.stages import Array

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

PROBED = (0.0, SMALL, 0.07, 0.15, 0.26, 0.4, 0.7)
"""Near these keeps each layer is compressed alone, to see what its errors do to the network."""
LEAST = 1e-6
"""Errors and losses below are rounding."""
MANY = 200
"""Choices to fit from which more processes are worth their start."""
SIMILARITIES_HOME = "lrf_optuna.similarity"


def table_of(proxy: Proxy, keeps: Sequence[float], progress: Progress) -> Table:
    """See `Proxy.table`."""
    grids = grids_of(proxy, keeps)
    missing = [name for name in proxy.sites if not settled(proxy, name, grids[name])]
    there = len(proxy.sites) - len(missing)
    _ = proxy.moments if missing else None
    with proxy.calm(), progress.task("a table of errors", len(proxy.sites), there) as step:
        for name, found in made(proxy, {name: grids[name] for name in missing}):
            with proxy.fits.recording(name, str((proxy.sense, grids[name]))):
                proxy.fits.take_in(name, found)
                options(proxy, name, grids[name])
            step(1)
    if missing and proxy.cache:
        proxy.cache.trim()
    return {name: options(proxy, name, own) for name, own in grids.items()}


def grids_of(proxy: Proxy, keeps: Sequence[float]) -> dict[str, tuple[float, ...]]:
    """Site -> those of the keeps that it may have."""
    return {name: grid(keeps, proxy.shares(name, INTACT)[0]) for name in proxy.sites}


def made(proxy: Proxy, grids: Mapping[str, tuple[float, ...]]) -> Iterator[tuple[str, Found]]:
    """Sites with their keeps -> each with what was fitted to it elsewhere: nothing where this process does it alone."""
    methods = {name: proxy.methods_of(name) for name in grids}
    known = {name: proxy.fits.of(name).errors for name in grids}
    count = sum(len(few) * len(grids[name]) - len(known[name]) for name, few in methods.items())
    processes = min(cores(), len(grids))
    if processes < 2 or count < MANY or not proxy.small or not all(map(built_in, proxy.methods)):
        yield from ((name, {}) for name in grids)
        return
    works = [
        Work(proxy.sites[name], proxy.kernels[name], proxy.moments.get(name), methods[name], own, known[name])
        for name, own in grids.items()
    ]
    yield from fitted(works, processes)


def settled(proxy: Proxy, name: str, keeps: Sequence[float]) -> bool:
    """Whether all that the table says of a site is known."""
    known = proxy.fits.of(name)
    try:
        worth = drawn(proxy.sites[name], proxy.methods_of(name), keeps, known.errors.__getitem__)
    except KeyError:
        return False
    return words_of(proxy, keeps) in known.harms and worth.keys() - {INTACT} <= known.errors.keys()


def options(proxy: Proxy, name: str, keeps: Sequence[float]) -> list[Option]:
    """The distinct options of one site."""
    worth = drawn(proxy.sites[name], proxy.methods_of(name), keeps, partial(proxy.error, name))
    errors = {choice: 0.0 if choice == INTACT else proxy.error(name, choice) for choice in worth}
    harm = harm_of(proxy, name, keeps, errors)
    return [
        Option(method, share, choice, harm(errors[choice]), *proxy.shares(name, choice))
        for choice, (method, share) in worth.items()
    ]


@dataclass(frozen=True)
class Harm:
    """What the errors of one layer do to the network's loss: known for some, interpolated as logarithms between them.

    Below the least of them and above the largest the loss goes with the error.
    """

    errors: Array
    losses: Array

    @classmethod
    def of(cls, known: Sequence[tuple[float, float]]) -> Harm:
        """From pairs of an error and the loss that it led to; the loss does not fall with the error."""
        pairs = np.array(sorted(known) or [(1.0, 1.0)]) + LEAST
        return cls(pairs[:, 0], np.maximum.accumulate(pairs[:, 1]))

    def __call__(self, error: float) -> float:
        """The loss that is expected of an error."""
        ratio = np.interp(np.log(error + LEAST), np.log(self.errors), np.log(self.losses / self.errors))
        return error * float(np.exp(ratio))


def harm_of(proxy: Proxy, site: str, keeps: Sequence[float], errors: Mapping[Choice, float]) -> Harm:
    """What errors of a site do to the network; measured with the best choice at each of a few keeps."""
    known, words = proxy.fits.of(site).harms, words_of(proxy, keeps)
    if words in known:
        return Harm.of(known[words])
    found: dict[Choice, tuple[float, float]] = {}
    for share in nearest(keeps, PROBED):
        choices = {proxy.choice(site, method, share) for method in proxy.methods_of(site)} & errors.keys() - {INTACT}
        if choices:
            best = min((choice for choice in errors if choice in choices), key=errors.__getitem__)
            alike = proxy.measure(Plan.of({site: best})).similarity.values()
            found[best] = errors[best], 1 - float(np.mean(list(alike)))
    if all(map(built_in, proxy.methods)) and proxy.similar.__module__ == SIMILARITIES_HOME:
        known[words] = list(found.values())
    return Harm.of(list(found.values()))


def words_of(proxy: Proxy, keeps: Sequence[float]) -> str:
    """What decides how harmful errors are found to be, besides the network and its images."""
    return str((proxy.sense, nearest(keeps, PROBED)))
