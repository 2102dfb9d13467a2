"""Ctrl-C that is not lost: Python discards a KeyboardInterrupt that is raised in a callback, such as a destructor."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


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
