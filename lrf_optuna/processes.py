"""Processors, Ctrl-C that is not lost, and silence while libraries load.

Python discards a KeyboardInterrupt that is raised while it runs a callback, such as a destructor.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of libraries for linear algebra."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Interrupts:
    """In the block, `check` raises the KeyboardInterrupt that Python discarded. It works in the main thread only."""

    def __init__(self) -> None:
        self.seen = False
        self.usual: Any = None

    def __enter__(self) -> Interrupts:
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(usual):
            self.usual = usual
            signal.signal(signal.SIGINT, self.note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.usual:
            signal.signal(signal.SIGINT, self.usual)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember a Ctrl-C, and call the handler of before."""
        self.seen = True
        self.usual(number, frame)

    def check(self) -> None:
        """Raises KeyboardInterrupt where there was a Ctrl-C since the last check."""
        if self.seen:
            self.seen = False
            raise KeyboardInterrupt


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which libraries write nothing to stderr while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
