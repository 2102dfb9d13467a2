"""Fitting the layers of a network in several processes: what they give is what this process would fit, but sooner.

A fit is many small products with Python between them, so threads would only wait for each other.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lrf_optuna.chains.conv import Array, Kernels
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import SecondMoments
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.processes import THREADS
from lrf_optuna.scoring.screening import screened_choices

log = logging.getLogger(__name__)
LOOK = 1.0
"""Seconds between two looks at whether the process that waits is still there."""

Found = dict[Choice, tuple[Kernels, float]]
"""Choice -> its stage kernels and its error."""


@dataclass(frozen=True)
class SiteFits:
    """The choices of one site to fit: those worth a look of which no error is `known`."""

    site: Site
    kernel: Array
    moments: SecondMoments | None
    methods: tuple[str, ...]
    keeps: tuple[float, ...]
    known: Mapping[Choice, float]

    @cached_property
    def fitter(self) -> LayerFitter:
        """What fits them."""
        return LayerFitter(self.site.op, self.kernel, self.moments)

    def done(self) -> Found:
        """The fits."""
        found: Found = {}

        def error(choice: Choice) -> float:
            if choice in self.known:
                return self.known[choice]
            if choice not in found:
                kernels = tuple(map(np.ascontiguousarray, self.fitter.fit(choice)))
                found[choice] = kernels, self.fitter.error(compose(self.site.op, choice, kernels))
            return found[choice][1]

        for choice in screened_choices(self.site, self.methods, self.keeps, error):
            if choice != INTACT:
                error(choice)
        return found


def fit_in_processes(works: Sequence[SiteFits], processes: int) -> Iterator[tuple[str, Found]]:
    """Site -> its fits, as they come; nothing for those that are left where processes cannot be had, or die.

    At the end, whatever it is, no process is left.
    """
    left = {work.site.name: work for work in sorted(works, key=lambda work: -work.site.op.params)}
    try:
        for name, found in shared(list(left.values()), processes):
            del left[name]
            yield name, found
    except (BrokenProcessPool, OSError) as reason:
        log.warning("fitting goes on in one process: %r", reason)
        yield from ((name, {}) for name in left)


def shared(works: Sequence[SiteFits], processes: int) -> Iterator[tuple[str, Found]]:
    """The same, of processes that live."""
    from loky import ProcessPoolExecutor, as_completed  # its processes do not run the caller's script again

    alone = dict.fromkeys(THREADS, "1")
    pool = ProcessPoolExecutor(processes, env=alone, initializer=undisturbed, initargs=(os.getpid(),))
    try:
        asked = {pool.submit(SiteFits.done, work): work.site.name for work in works}
        for future in as_completed(asked):
            yield asked[future], future.result()
        pool.shutdown()
    finally:
        pool.shutdown(kill_workers=True)


def undisturbed(parent: int) -> None:
    """Leave Ctrl-C to the process that waits for this one, which then ends it; end when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_without, args=(parent,), daemon=True).start()


def end_without(parent: int) -> None:
    """End this process as soon as another one is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
