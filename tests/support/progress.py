"""A progress that remembers what it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lrf_optuna.progress import Step


class Heard:
    """Progress whose messages and tasks are in lists."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[str] = []

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        self.tasks.append(label)
        yield lambda n, note="": None

    def say(self, text: str) -> None:
        self.lines.append(text)
