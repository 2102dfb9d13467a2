"""How long work tells how far it is: one small protocol, and the silent one for libraries and tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """Moves a task on by `n`; `note` says how it stands in a few words."""

    def __call__(self, n: int, note: str = "") -> None: ...


class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Step]:
        """Show a task of `total` steps, `done` of them before now, for as long as the block runs."""

    def say(self, text: str) -> None:
        """A line that stays."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        yield lambda n, note="": None

    def say(self, text: str) -> None:
        pass


SILENT = Silent()
