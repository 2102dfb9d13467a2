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
from dataclasses import dataclass, field

from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.processes import THREADS
from lrf_optuna.scoring.fitted_kernels import Fits
from lrf_optuna.scoring.screening import screened_choices

log = logging.getLogger(__name__)
POLL = 1.0
"""Seconds between two checks of whether the parent process is still there."""


@dataclass(frozen=True)
class SiteFits:
    """A task for a process: to screen one site's choices and fit those without an error in `errors`.

    `times`: milliseconds of the choices that are fitted for every method, where these count.
    """

    site: Site
    fitter: LayerFitter
    methods: tuple[str, ...]
    keeps: tuple[float, ...]
    errors: Mapping[Choice, float]
    times: Mapping[Choice, float] = field(default_factory=dict)

    def run(self) -> Fits:
        """The fits that this process has made."""
        fits, errors = Fits(), {INTACT: 0.0, **self.errors}

        def error(choice: Choice) -> float:
            if choice not in errors:
                kernels = self.fitter.fit(choice)
                errors[choice] = self.fitter.error(compose(self.site.op, choice, kernels))
                fits[choice] = kernels, errors[choice]
            return errors[choice]

        for choice in screened_choices(self.site, self.methods, self.keeps, error, self.times):
            error(choice)
        return fits


def fit_in_processes(tasks: Sequence[SiteFits], processes: int) -> Iterator[tuple[str, Fits]]:
    """Site and its fits, in the order in which they are ready.

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
            yield names[future], future.result()
    except (BrokenProcessPool, OSError) as reason:
        log.warning("fitting goes on in one process: %r", reason)
    finally:
        if pool:
            pool.shutdown(kill_workers=True)


def follow_parent(parent: int) -> None:
    """Leave Ctrl-C to the parent process, which then ends this one, and end when the parent is gone."""

    def end_without_parent() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_without_parent, daemon=True).start()
