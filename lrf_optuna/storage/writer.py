"""Recording beside a search: trials are put down at no cost to it, and a thread appends them by batches.

The thread takes what is there at most every `INTERVAL` seconds, in one transaction, so that a `kill -9` loses the
trials of the last second at most. Where the numbers show that other processes have appended to the study, it reads
their trials too.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from lrf_optuna.storage.study import StudyStore

INTERVAL = 0.5
"""Seconds from one transaction to the next, at least."""


class BackgroundWriter:
    """Finished trials on their way to a study, and those of other processes on their way back.

    A context: leaving it, be it by an exception or Ctrl-C, records what was put. `most` is how many complete trials
    the study shall have in all. Trials with the number `known` or higher that are not from here are news. What goes
    wrong in the thread is raised once, as an LrfError that says how many trials were lost, by the next `put`, `news` or
    `flush` or by leaving the context.
    """

    def __init__(
        self, record: StudyStore, most: int | None = None, *, known: int = 0, interval: float = INTERVAL
    ) -> None:
        self.record, self.most, self.known, self.interval = record, most, known, interval
        self.numbers: list[int] = []
        """Those that the trials got, in the order of `put`; a trial that came when the study was full got none."""
        self.surplus = 0
        """How many trials came when the study was full."""
        self.count = 0
        """How many complete trials the study has in all, as last seen."""
        self.queue: list[FrozenTrial] = []
        self.underway = 0
        self.others: list[FrozenTrial] = []
        self.asked = self.answered = 0
        self.closing = self.told = False
        self.trouble: BaseException | None = None
        self.change = threading.Condition()
        self.thread = threading.Thread(target=self.run, name="recorder", daemon=True)

    def __enter__(self) -> BackgroundWriter:
        self.count = self.record.count()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.change:
            self.closing = True
            self.change.notify_all()
        self.thread.join()
        if not self.told:
            self.check()

    @property
    def pending(self) -> int:
        """How many trials were put and are not recorded yet."""
        return len(self.queue) + self.underway

    @property
    def expected(self) -> int:
        """How many complete trials the study will have with those that are pending."""
        with self.change:
            return self.count + self.pending

    @property
    def full(self) -> bool:
        """Whether the study has as many trials as it shall have."""
        return self.most is not None and self.count >= self.most

    def put(self, trial: FrozenTrial) -> None:
        """Hand over a finished trial; never waits for the database."""
        with self.change:
            self.queue.append(trial)
            if len(self.queue) == 1:  # a thread that rests need not be woken by each
                self.change.notify_all()
        self.check()

    def news(self) -> list[FrozenTrial]:
        """Complete trials of other processes that were found since the last call, in the order of their numbers."""
        self.check()
        with self.change:
            found, self.others = self.others, []
        return found

    def flush(self) -> None:
        """Wait until what was put is recorded, and what others recorded before now is among the news."""
        with self.change:
            self.asked += 1
            mine = self.asked
            self.change.notify_all()
            self.change.wait_for(lambda: self.answered >= mine or self.trouble or not self.thread.is_alive())
        self.check()

    def check(self) -> None:
        """Raise what went wrong in the thread."""
        if self.trouble is None:
            return
        self.told = True
        if not isinstance(self.trouble, LrfError):
            raise self.trouble
        lost = f" ({self.pending} finished trials could not be recorded and are lost)" if self.pending else ""
        raise LrfError(f"{self.trouble}{lost}") from self.trouble

    def run(self) -> None:
        """What the thread does: it waits for work, does it, and rests."""
        try:
            while batch := self.work():
                trials, asked = batch
                self.append(trials)
                self.look()
                with self.change:
                    self.answered = asked
                    self.change.notify_all()
                    self.change.wait_for(lambda: self.closing or self.asked > self.answered, self.interval)
        except BaseException as reason:  # it is raised where the caller is
            with self.change:
                self.trouble = reason
                self.change.notify_all()

    def work(self) -> tuple[list[FrozenTrial], int] | None:
        """Wait for trials or a `flush`: what to append, and how many flushes that answers. None at the end."""
        with self.change:
            self.change.wait_for(lambda: self.queue or self.closing or self.asked > self.answered)
            if not self.queue and self.asked == self.answered:
                return None
            batch, self.queue = self.queue, []
            self.underway = len(batch)
            return batch, self.asked

    def append(self, trials: list[FrozenTrial]) -> None:
        """Record a batch."""
        numbers = self.record.append(trials, self.most) if trials else []
        with self.change:
            self.underway = 0
            self.count += len(numbers)
            self.surplus += len(trials) - len(numbers)
            self.numbers += numbers

    def look(self) -> None:
        """Read what others have appended, where there is more than is known of and was recorded from here."""
        total, complete = self.record.trials.counts()
        own = [number for number in self.numbers if number >= self.known]
        edges = [self.known, own[0], own[-1] + 1, total] if own else [self.known, total]
        found = [
            trial
            for first, end in zip(edges[::2], edges[1::2], strict=True)
            if first < end
            for trial in self.record.since(first, end)
        ]
        with self.change:
            self.known = total
            self.count = complete
            self.others += found
