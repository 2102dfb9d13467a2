"""A Ctrl-C that Python throws away is raised at the next step."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from contextlib import nullcontext
from typing import Any

import pytest

from lrf_optuna.interrupts import Interrupts
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import search_front


class Thing:
    """Something that can be referred to weakly."""


def swallow() -> None:
    """A Ctrl-C whose KeyboardInterrupt is thrown away, as in any callback of the garbage collection."""
    thing = Thing()
    keeper = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del thing
    assert keeper() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_thrown_away_is_raised_at_the_next_check() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.check()
        swallow()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is usual


class Swallowing:
    """A Ctrl-C at every step of the trials, thrown away."""

    def task(self, label: str, total: int, done: int = 0) -> Any:
        return nullcontext(lambda n, note="": swallow() if label == "trials" else None)

    def say(self, text: str) -> None:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_search_is_stopped_by_an_interrupt_that_was_thrown_away(proxy: Proxy, table: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        search_front(proxy, table, trials=1000, population=10, progress=Swallowing())


def test_in_another_thread_nothing_is_changed() -> None:
    found = []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupts.check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
