"""Recording beside a search: `put` costs nothing, and a thread records trials in batches.

There is a transaction at most every `INTERVAL` seconds, so that a `kill -9` loses the trials of the last second at
most. Where numbers show that other processes have recorded trials, their candidates are read too.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from lrf_optuna.plans.plan import Candidate
    from lrf_optuna.storage.study import StudyStore

INTERVAL = 0.5
"""Seconds from one transaction to the next: half of the second that a kill may cost."""


class BackgroundWriter:
    """Finished trials on their way to a study, and the candidates of other processes on their way back.

    A context: leaving it, be it by an exception or Ctrl-C, records every trial that was put. `most` is the number of
    candidates at which the study is full. News are the candidates of other processes with the number `known` or higher.
    An error of the thread is raised once, by the next `put`, `news` or `flush` or by leaving the context. The LrfError
    says how many trials were lost.
    """

    def __init__(
        self, store: StudyStore, most: int | None = None, *, known: int = 0, interval: float = INTERVAL
    ) -> None:
        self.store, self.most, self.known, self.interval = store, most, known, interval
        self.numbers: list[int] = []
        """The numbers of recorded trials, in the order of `put`; a trial for which the study is full gets none."""
        self.queue: list[FrozenTrial] = []
        self.others: list[Candidate] = []
        self.error: BaseException | None = None
        self.raised = False
        self.recording, self.closing = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.run, name="recorder", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.closing.set()
        self.thread.join()
        if not self.raised:
            self.check()

    @property
    def pending(self) -> int:
        """How many trials were put and are not recorded yet."""
        return len(self.queue)

    def put(self, trial: FrozenTrial) -> None:
        """Hand over a finished trial; never waits for the database."""
        self.queue.append(trial)
        self.check()

    def news(self) -> list[Candidate]:
        """Candidates of other processes that were found since the last call, in the order of their numbers."""
        self.check()
        found = self.others[:]
        del self.others[: len(found)]
        return found

    def flush(self) -> None:
        """Record every trial that was put now; earlier trials of other processes are among the news then."""
        self.try_to_record()
        self.check()

    def check(self) -> None:
        """Raise the error of the thread."""
        if self.error is None:
            return
        self.raised = True
        if not isinstance(self.error, LrfError):
            raise self.error
        lost = f" ({self.pending} finished trials could not be recorded and are lost)" if self.pending else ""
        raise LrfError(f"{self.error}{lost}") from self.error

    def run(self) -> None:
        """Record batches until the context is left or an error occurs; this is what the thread runs."""
        while not self.closing.wait(self.interval) and not self.error:
            if self.queue:
                self.try_to_record()
        self.try_to_record()

    def try_to_record(self) -> None:
        """Record what was put, unless there was an error; keep the error of this time for `check`."""
        with self.recording:
            try:
                if not self.error:
                    self.record()
            except Exception as error:
                self.error = error

    def record(self) -> None:
        """Record a batch, and read the candidates that other processes have recorded since the last one."""
        batch = self.queue[:]
        own = self.store.append(batch, self.most) if batch else []
        del self.queue[: len(batch)]
        self.numbers += own
        total = self.store.trials.counts().total
        if total - self.known > len(own):
            self.others += [one for one in self.store.candidates(self.known, total) if one.trial not in own]
        self.known = total
