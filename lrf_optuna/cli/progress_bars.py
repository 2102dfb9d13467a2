"""What a person sees in the terminal: progress bars, the closing tables, the front, the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from lrf_optuna.progress import Step

if TYPE_CHECKING:
    pass

FEW = 2
"""Steps of a task up to which percents say more than a count."""
WIDEST, BESIDE = 32, 76
"""Columns of a progress bar at most, and of what stands beside it: the bar gives way where a terminal is narrow."""


class Steps(MofNCompleteColumn):
    """How many steps of a task are done, or percents where they are few."""

    def render(self, task: Task) -> Text:
        return super().render(task) if (task.total or 0) > FEW else Text(f"{task.percentage:>3.0f} %")


class Bars:
    """Progress as bars on a console; a line a task where the output is not a terminal. Every step calls `check`.

    A task within another one has its bar below that one's for as long as it runs, and leaves no line.
    """

    def __init__(self, console: Console, check: Callable[[], None] = lambda: None) -> None:
        self.console, self.check = console, check
        self.around: Progress | None = None
        """The bars of the task that is under way."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        with self.bars() as bars:
            task = bars.add_task(label, total=total, completed=done, note="")

            def step(n: float, note: str = "") -> None:
                self.check()
                bars.update(task, advance=n, **({"note": note} if note else {}))  # type: ignore[arg-type]

            try:
                yield step
            finally:
                if task != bars.task_ids[0]:
                    bars.remove_task(task)

    @contextmanager
    def bars(self) -> Iterator[Progress]:
        """Those of the task around this one, else new ones."""
        if self.around:
            yield self.around
            return
        columns = (
            TextColumn("{task.description:<20}"),
            BarColumn(min(max(self.console.width - BESIDE, 4), WIDEST)),
            Steps(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as self.around:
            try:
                yield self.around
            finally:
                self.around = None

    def say(self, text: str) -> None:
        self.console.print(text, style="cyan", highlight=False)
