"""Progress of long work: the protocol that every long function reports to, and the silent one for libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """Advances a task by `n` steps. `note` is a short text beside its bar."""

    def __call__(self, n: int, note: str = "") -> None: ...


class Progress(Protocol):
    """Shows tasks and messages to a user."""

    def task(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Step]:
        """Show a task of `total` steps while the block runs; `done` steps are finished already."""

    def say(self, text: str) -> None:
        """Show a line of text that stays."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        yield lambda n, note="": None

    def say(self, text: str) -> None:
        pass

    def __repr__(self) -> str:
        return "SILENT"


SILENT = Silent()
