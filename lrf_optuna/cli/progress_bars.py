"""Progress as bars in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

FEW = 2
"""Steps of a task, at most, for which a percentage is shown in the place of a count: 1/2 says less than 50 %."""
WIDEST, BESIDE = 32, 76
"""Columns of a bar at most, and columns of the texts beside it: in a narrow terminal the bar is shorter."""


class Steps(MofNCompleteColumn):
    """The steps of a task that are done, as a count or as a percentage."""

    def render(self, task: Task) -> Text:
        return super().render(task) if (task.total or 0) > FEW else Text(f"{task.percentage:>3.0f} %")


class Bars:
    """Progress (`lrf_optuna.progress.Progress`) as bars on a console. Every step calls `check`.

    Where the output is not a terminal, each task is one line. A task inside another has its bar below the other's bar
    while it runs, and no line stays of it.
    """

    def __init__(self, console: Console, check: Callable[[], None] = lambda: None) -> None:
        self.console, self.check = console, check
        self.around: Progress | None = None
        """The bars of the outermost task that runs, if any."""

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
        """The bars of the task around this one, or new bars."""
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
