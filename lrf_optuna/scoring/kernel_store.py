"""Where the kernels and errors of a layer's options come from: out of memory, off the disk, else fitted now.

Moments are asked for only where something must be fitted: with all options on disk nothing is gathered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache

from lrf_optuna.chains.conv import Array, Kernels
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, compose, is_built_in
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import SecondMoments
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.scoring.kernel_cache import NetworkCache, Writing

log = logging.getLogger(__name__)
FITTERS = 4
"""Times the memory of kernels that is for what they are cut from."""
ALIKE = 1e-3
"""Of the largest logit, by which those of the same network may differ from one run to the next."""


@dataclass
class SiteRecord:
    """What is known of a site: the error of every choice seen, where its kernels are, what errors did to the network.

    `harms`: how it was asked -> pairs of an error of the site and the loss of the network with it.
    """

    errors: dict[Choice, float] = field(default_factory=dict)
    files: dict[Choice, Path] = field(default_factory=dict)
    harms: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


class KernelStore:
    """The stage kernels, composed kernels and errors of every (site, choice).

    `kernels`: site -> the layer's own, as in `Conv`; `moments`: gives those of every site's inputs, none without a
    refit. Kernels are kept in at most `memory` bytes, what they are cut from in `FITTERS` times that, and one layer in
    any case. `shelf`: where they are kept on disk, if at all, and `witness` some of the network's logits: files of
    another network, whose weights and images are the same, are told by them.
    """

    def __init__(
        self,
        sites: Mapping[str, Site],
        kernels: Mapping[str, Array],
        moments: Callable[[], Mapping[str, SecondMoments]],
        memory: int,
        shelf: NetworkCache | None = None,
        witness: Array | None = None,
    ) -> None:
        self.sites, self.kernels, self.moments, self.shelf = sites, kernels, moments, shelf
        self.witness = np.zeros(0) if witness is None else witness
        self.fitted: LRUCache[tuple[str, Choice], Kernels] = LRUCache(memory // 2, getsizeof=nbytes)
        self.composed: LRUCache[tuple[str, Choice], Array] = LRUCache(
            memory // 4, getsizeof=lambda kernel: kernel.nbytes
        )
        self.fitters: dict[str, LayerFitter] = {}
        self.room = FITTERS * memory
        self.known: dict[str, SiteRecord] = {}
        self.out: Recording | None = None

    def stages(self, site: str, choice: Choice) -> Kernels:
        """The stage kernels of a choice, fitted to the site's inputs."""
        key = (site, choice)
        if choice == INTACT:
            return (self.kernels[site],)
        if key in self.fitted:
            return self.fitted[key]
        kernels = self.read(site, choice) or self.fit(site, choice)
        put_if_fits(self.fitted, key, kernels)
        return kernels

    def dense(self, site: str, choice: Choice) -> Array:
        """The kernel that a choice composes to, in the layer's own shape."""
        key = (site, choice)
        if key in self.composed:
            return self.composed[key]
        kernel = np.ascontiguousarray(compose(self.sites[site].op, choice, self.stages(site, choice)))
        put_if_fits(self.composed, key, kernel)
        return kernel

    def error(self, site: str, choice: Choice) -> float:
        """Relative squared error of the site's outputs under a choice."""
        errors = self.of(site).errors
        if choice not in errors:
            errors[choice] = self.fitter(site).error(self.dense(site, choice))
        return errors[choice]

    def fit(self, site: str, choice: Choice) -> Kernels:
        """Fit a choice now; it goes to disk where the site is being recorded."""
        kernels = tuple(map(np.ascontiguousarray, self.fitter(site).fit(choice)))
        if self.out and self.out.site == site:
            self.out.add(choice, kernels)
        return kernels

    def take_in(self, site: str, found: Mapping[Choice, tuple[Kernels, float]]) -> None:
        """Take in what was fitted elsewhere: choice -> stage kernels and error; it goes to disk as by `fit`."""
        for choice, (kernels, error) in found.items():
            self.of(site).errors[choice] = error
            put_if_fits(self.fitted, (site, choice), kernels)
            if self.out and self.out.site == site:
                self.out.add(choice, kernels)

    def fitter(self, site: str) -> LayerFitter:
        """What fits chains to a site, with the factorizations that its ranks are cut from; the latest are kept."""
        found = self.fitters.pop(site, None)
        if found is None:
            found = LayerFitter(self.sites[site].op, self.kernels[site], self.moments().get(site))
        self.fitters[site] = found
        while len(self.fitters) > 1 and sum(fitter.nbytes for fitter in self.fitters.values()) > self.room:
            del self.fitters[next(iter(self.fitters))]
        return found

    def of(self, site: str) -> SiteRecord:
        """What is known of a site; what the disk knows is read once."""
        if site not in self.known:
            self.known[site] = found = SiteRecord()
            for file, head in self.shelf.heads(site) if self.shelf else ():
                self.take(found, file, head)
        return self.known[site]

    def take(self, known: SiteRecord, file: Path, head: Mapping[str, Any]) -> None:
        """Take in what a file says, if it is about this network."""
        try:
            if not self.seen(np.asarray(head["witness"], np.float64)):
                return
            fits = [(Choice(str(method), tuple(map(int, ranks))), *rest) for method, ranks, *rest in head["fits"]]
            known.errors |= {choice: float(error) for choice, error, _ in fits}
            known.files |= {choice: file for choice, _, there in fits if there}
            known.harms |= {
                words: [(float(error), float(loss)) for error, loss in pairs] for words, pairs in head["harms"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as reason:
            log.warning("%s is not what it should be (%r): it is made again", file, reason)

    def seen(self, witness: Array) -> bool:
        """Whether the logits in a file are those of this network."""
        own = self.witness
        return witness.shape == own.shape and bool(np.all(np.abs(witness - own) <= ALIKE * np.abs(own).max(initial=0)))

    def read(self, site: str, choice: Choice) -> Kernels | None:
        """The stage kernels of a choice off the disk, if they are there."""
        file = self.of(site).files.get(choice)
        data = self.shelf.read(file, member(choice)) if self.shelf and file else None
        shapes = [stage.kernel_shape for stage in chain_of(self.sites[site].op, choice).stages]
        sizes = [int(np.prod(shape)) for shape in shapes]
        if data is None or len(data) != 4 * sum(sizes):
            self.of(site).files.pop(choice, None)
            return None
        parts = np.split(np.frombuffer(data, np.float32), np.cumsum(sizes)[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))

    @contextmanager
    def recording(self, site: str, words: str) -> Iterator[None]:
        """While the block runs, what is fitted to a site is also kept on disk, and then what is known of it."""
        if not self.shelf:
            yield
            return
        with self.shelf.writing(site, words) as file:
            self.out = Recording(site, file)
            for choice in [choice for choice, at in self.of(site).files.items() if at == file.file]:
                self.out.add(choice, self.stages(site, choice))
            try:
                yield
            finally:
                out, self.out = self.out, None
            file.head(self.head(site, out))
        self.of(site).files |= dict.fromkeys(out.added, file.file)
        self.fitters.pop(site, None)

    def head(self, site: str, out: Recording) -> dict[str, Any]:
        """What is kept of a site besides kernels."""
        known = self.of(site)
        own = {choice: error for choice, error in known.errors.items() if is_built_in(choice.method)}
        fits = [(choice.method, choice.ranks, error, choice in out.added) for choice, error in own.items()]
        return {"witness": self.witness.tolist(), "fits": fits, "harms": known.harms}


@dataclass
class Recording:
    """The site whose fits go to a file now, and those that did."""

    site: str
    file: Writing
    added: set[Choice] = field(default_factory=set)

    def add(self, choice: Choice, kernels: Kernels) -> None:
        """Put the kernels of a choice into the file, unless its method is a user's: that may change under its name."""
        plain = all(kernel.dtype == np.float32 for kernel in kernels)
        if plain and is_built_in(choice.method) and choice not in self.added:
            flat = np.concatenate([kernel.ravel() for kernel in kernels])
            if self.file.add(member(choice), flat):
                self.added.add(choice)


def member(choice: Choice) -> str:
    """The name of a choice's kernels in a file."""
    return "-".join((choice.method, *map(str, choice.ranks)))


def put_if_fits(cache: LRUCache[Any, Any], key: Any, value: Any) -> None:
    """Remember a value unless it alone is larger than the whole cache."""
    if cache.getsizeof(value) <= cache.maxsize:
        cache[key] = value


def nbytes(kernels: Kernels) -> int:
    """Bytes of a tuple of arrays."""
    return sum(kernel.nbytes for kernel in kernels)
