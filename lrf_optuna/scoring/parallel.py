"""Fitting the layers of a network in several processes: their fits equal those of one process, but come sooner.

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

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import SecondMoments
from lrf_optuna.plans.plan import Choice
from lrf_optuna.processes import THREADS
from lrf_optuna.scoring.kernel_store import Fits
from lrf_optuna.scoring.screening import ScreenedChoices, screened_choices

log = logging.getLogger(__name__)
POLL = 1.0
"""Seconds between two checks of whether the parent process is still there."""


@dataclass(frozen=True)
class SiteFits:
    """A task for a process: to screen one site's choices and fit those whose `errors` are not known yet."""

    site: Site
    kernel: Array
    moments: SecondMoments | None
    methods: tuple[str, ...]
    keeps: tuple[float, ...]
    errors: Mapping[Choice, float]

    def run(self) -> tuple[ScreenedChoices, Fits]:
        """The screened choices, and the fits that this process has made."""
        fitter, fits = LayerFitter(self.site.op, self.kernel, self.moments), Fits()

        def error(choice: Choice) -> float:
            if choice in self.errors:
                return self.errors[choice]
            if choice not in fits:
                kernels = tuple(map(np.ascontiguousarray, fitter.fit(choice)))
                fits[choice] = kernels, fitter.error(compose(self.site.op, choice, kernels))
            return fits[choice][1]

        return screened_choices(self.site, self.methods, self.keeps, error), fits


def fit_in_processes(tasks: Sequence[SiteFits], processes: int) -> Iterator[tuple[str, ScreenedChoices, Fits]]:
    """Site, its screened choices and its fits, in the order in which they are ready.

    Sites are missing where processes cannot be started, or die. At the end no process is left, whatever ended it.
    """
    from loky import ProcessPoolExecutor, as_completed  # its processes do not run the caller's script again

    pool = None
    try:
        single_thread = dict.fromkeys(THREADS, "1")
        pool = ProcessPoolExecutor(processes, env=single_thread, initializer=follow_parent, initargs=(os.getpid(),))
        largest_first = sorted(tasks, key=lambda task: -task.site.op.params)
        names = {pool.submit(SiteFits.run, task): task.site.name for task in largest_first}
        for future in as_completed(names):
            yield names[future], *future.result()
    except (BrokenProcessPool, OSError) as reason:
        log.warning("fitting goes on in one process: %r", reason)
    finally:
        if pool:
            pool.shutdown(kill_workers=True)


def follow_parent(parent: int) -> None:
    """Leave Ctrl-C to the parent process, which then ends this one, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_without, args=(parent,), daemon=True).start()


def end_without(parent: int) -> None:
    """End this process as soon as another one is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)
