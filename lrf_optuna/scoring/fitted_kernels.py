"""Where the kernels and errors of a layer's options come from: out of memory, off the disk, else fitted now.

Moments are asked for only where something must be fitted: with all options on disk nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache, cachedmethod

from lrf_optuna.chains.conv import Array, Kernels
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, compose, is_built_in
from lrf_optuna.files import digest
from lrf_optuna.fitting.layer_fit import COPIES, LayerFitter
from lrf_optuna.fitting.second_moment import SecondMoments
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.scoring.disk_cache import NetworkFolder, removed_if_broken

FITTER_MEMORY = 4
"""Ratio of the memory for factorizations that ranks are cut from to that for kernels."""
Fits = dict[Choice, tuple[Kernels, float]]
"""Choice -> its stage kernels and its error."""


@dataclass
class SiteRecord:
    """A site's errors by choice, the files of its kernels, and measured pairs of its error and the network's loss.

    `files`: choice -> file and digest of its kernels there; `losses`: how sensitivity was measured -> the pairs.
    """

    errors: dict[Choice, float] = field(default_factory=dict)
    files: dict[Choice, tuple[Path, str]] = field(default_factory=dict)
    losses: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, file: Path, description: Mapping[str, Any]) -> None:
        """Add what the description in a file says."""
        fits = [(Choice(str(method), tuple(map(int, ranks))), *rest) for method, ranks, *rest in description["fits"]]
        losses = {
            key: [(float(error), float(loss)) for error, loss in pairs] for key, pairs in description["losses"].items()
        }
        self.errors |= {choice: float(error) for choice, error, _ in fits}
        self.files |= {choice: (file, stored_digest) for choice, _, stored_digest in fits if stored_digest}
        self.losses |= losses


class FittedKernels:
    """The stage kernels, composed kernels and errors of every (site, choice).

    `originals`: site -> the layer's own kernel, as in `Conv`; `moments`: gives the moments of every site's inputs, None
    for fits to the weights alone. Kernels take at most `memory` bytes; fitters take `FITTER_MEMORY` times that, and
    one layer's in any case. `disk`: the files of the network, where there are any.
    """

    def __init__(
        self,
        sites: Mapping[str, Site],
        originals: Mapping[str, Array],
        moments: Callable[[], Mapping[str, SecondMoments]] | None,
        memory: int,
        disk: NetworkFolder | None = None,
    ) -> None:
        self.sites, self.originals, self.moments, self.disk = sites, originals, moments, disk
        self.fitted: LRUCache[tuple[str, Choice], Kernels] = LRUCache(memory // 2, getsizeof=nbytes)
        self.composed: LRUCache[tuple[str, Choice], Array] = LRUCache(memory // 4, getsizeof=lambda k: k.nbytes)
        largest = COPIES * max((kernel.nbytes for kernel in originals.values()), default=0)
        self.fitters: LRUCache[str, LayerFitter] = LRUCache(
            max(FITTER_MEMORY * memory, largest), getsizeof=lambda fitter: fitter.nbytes
        )
        self.records: dict[str, SiteRecord] = {}

    def stages(self, site: str, choice: Choice) -> Kernels:
        """The stage kernels of a choice, fitted to the site's inputs."""
        return (self.originals[site],) if choice == INTACT else self.fitted_stages(site, choice)

    @cachedmethod(lambda self: self.fitted)
    def fitted_stages(self, site: str, choice: Choice) -> Kernels:
        """The stage kernels of a choice that is not intact."""
        return self.read(site, choice) or self.fit(site, choice)

    @cachedmethod(lambda self: self.composed)
    def dense(self, site: str, choice: Choice) -> Array:
        """The kernel that a choice composes to, in the layer's own shape."""
        return np.ascontiguousarray(compose(self.sites[site].op, choice, self.stages(site, choice)))

    def error(self, site: str, choice: Choice) -> float:
        """Relative squared error of the site's outputs under a choice."""
        errors = self.record(site).errors
        if choice == INTACT:
            return 0.0
        if choice not in errors:
            errors[choice] = self.fitter(site).error(self.dense(site, choice))
        return errors[choice]

    def fit(self, site: str, choice: Choice) -> Kernels:
        """The stage kernels of a choice, fitted now."""
        return self.fitter(site).fit(choice)

    def add(self, site: str, fits: Fits) -> None:
        """Add fits that another process has made."""
        for choice, (kernels, error) in fits.items():
            self.record(site).errors[choice] = error
            with suppress(ValueError):  # larger than the whole memory
                self.fitted[site, choice] = kernels

    @cachedmethod(lambda self: self.fitters, key=lambda _, site: site)
    def fitter(self, site: str) -> LayerFitter:
        """The fitter of a site, with the factorizations that its ranks are cut from; the latest ones stay."""
        moments = self.moments()[site] if self.moments else None
        return LayerFitter(self.sites[site].op, self.originals[site], moments)

    @cachedmethod(lambda self: self.records, key=lambda _, site: site)
    def record(self, site: str) -> SiteRecord:
        """The record of a site; its files are read once."""
        found = SiteRecord()
        for file, description in self.disk.descriptions(name_on_disk(self.sites[site])) if self.disk else ():
            with removed_if_broken(file):
                found.add(file, description)
        return found

    def read(self, site: str, choice: Choice) -> Kernels | None:
        """The stage kernels of a choice off the disk, if they are there."""
        place = self.record(site).files.get(choice)
        data = self.disk.read(place[0], array_name(choice), place[1]) if self.disk and place else None
        if data is None:
            self.record(site).files.pop(choice, None)
            return None
        shapes = [stage.kernel_shape for stage in chain_of(self.sites[site].op, choice).stages]
        parts = np.split(data, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    def save(self, site: str, key: str) -> None:
        """Write the record of a site to disk, with the kernels that are in no other file; its fitter is released.

        A user's own methods are left out: they may change under their names.
        """
        if self.disk:
            record, file = self.record(site), self.disk.path(name_on_disk(self.sites[site]), key)
            errors = {choice: error for choice, error in record.errors.items() if is_built_in(choice.method)}
            arrays = {}
            for choice in errors:
                place = record.files.get(choice)
                if place[0] == file if place else (site, choice) in self.fitted:
                    arrays[choice] = np.concatenate([kernel.ravel() for kernel in self.stages(site, choice)])
            digests = {choice: digest(array) for choice, array in arrays.items()}
            fits = [(choice.method, choice.ranks, error, digests.get(choice)) for choice, error in errors.items()]
            named = {array_name(choice): array for choice, array in arrays.items()}
            if self.disk.write(file, {"fits": fits, "losses": record.losses}, named):
                record.files |= {choice: (file, found) for choice, found in digests.items()}
        self.fitters.pop(site, None)


def name_on_disk(site: Site) -> str:
    """What tells a site from all others of its network; its limits decide no fit."""
    return str((site.name, site.op, site.maps))


def array_name(choice: Choice) -> str:
    """The name of a choice's kernels in a file."""
    return "-".join((choice.method, *map(str, choice.ranks)))


def nbytes(kernels: Kernels) -> int:
    """Bytes of a tuple of arrays."""
    return sum(kernel.nbytes for kernel in kernels)
