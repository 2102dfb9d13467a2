"""Recording beside a search: `put` costs nothing, and a thread records trials in batches.

There is a transaction at most every `INTERVAL` seconds, so that a `kill -9` loses the trials of the last second at
most. Where numbers show that other processes have recorded trials, the thread reads their candidates too.
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
"""Seconds from one transaction to the next, at least: half of the second that a kill may cost."""


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
        self.batch: list[FrozenTrial] = []
        self.others: list[Candidate] = []
        self.flushes = self.flushed = 0
        """How many times `flush` was called, and how many of these calls have been served."""
        self.closing = self.raised = False
        self.error: BaseException | None = None
        self.change = threading.Condition()
        self.thread = threading.Thread(target=self.run, name="recorder", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        with self.change:
            self.closing = True
            self.change.notify_all()
        self.thread.join()
        if not self.raised:
            self.check()

    @property
    def pending(self) -> int:
        """How many trials were put and are not recorded yet."""
        return len(self.queue) + len(self.batch)

    def put(self, trial: FrozenTrial) -> None:
        """Hand over a finished trial; never waits for the database."""
        with self.change:
            self.queue.append(trial)
            if len(self.queue) == 1:  # the thread wakes up for the first trial of a batch
                self.change.notify_all()
        self.check()

    def news(self) -> list[Candidate]:
        """Candidates of other processes that were found since the last call, in the order of their numbers."""
        self.check()
        with self.change:
            found, self.others = self.others, []
        return found

    def flush(self) -> None:
        """Wait until every trial that was put is recorded, and earlier trials of other processes are among the news."""
        with self.change:
            self.flushes += 1
            own = self.flushes
            self.change.notify_all()
            self.change.wait_for(lambda: self.flushed >= own or self.error or not self.thread.is_alive())
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
        """Record batches until the context is left; this is what the thread runs."""
        try:
            while (flushes := self.next_batch()) is not None:
                self.record()
                with self.change:
                    self.flushed = flushes
                    self.change.notify_all()
                    self.change.wait_for(lambda: self.closing or self.flushes > self.flushed, self.interval)
        except BaseException as error:  # `check` raises it in the thread of the search
            with self.change:
                self.error = error
                self.change.notify_all()

    def next_batch(self) -> int | None:
        """Wait for trials or a `flush`, and return how many flushes the batch serves; None at the end."""
        with self.change:
            self.change.wait_for(lambda: self.queue or self.closing or self.flushes > self.flushed)
            if not self.queue and self.flushes == self.flushed:
                return None
            self.batch, self.queue = self.queue, []
            return self.flushes

    def record(self) -> None:
        """Record the batch, and read the candidates that other processes have recorded since the last one."""
        own = self.store.append(self.batch, self.most) if self.batch else []
        with self.change:
            self.batch = []
            self.numbers += own
        total = self.store.trials.counts().total
        if total - self.known > len(own):
            others = [one for one in self.store.candidates(self.known, total) if one.trial not in own]
            with self.change:
                self.others += others
        self.known = total
