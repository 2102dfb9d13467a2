"""Progress as bars in a terminal, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich import progress as rich_progress
from rich.console import Console

from lrf_optuna.progress import Step

WIDEST, BESIDE = 32, 76
"""Columns of a bar at most, and columns of the texts beside it: in a narrow terminal the bar is shorter."""


class Bars:
    """Progress (`lrf_optuna.progress.Progress`) as bars on a console. Every step calls `check`.

    Where the output is not a terminal, each task is one line. A task inside another has its bar below the other's bar
    while it runs, and no line stays of it.
    """

    def __init__(self, console: Console, check: Callable[[], None] = lambda: None) -> None:
        self.console, self.check = console, check
        self.around: rich_progress.Progress | None = None
        """The bars of the outermost task that runs, if any."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        with ExitStack() as stack:
            bars, is_outermost = self.around or self.new_bars(), self.around is None
            if is_outermost:
                self.around = stack.enter_context(bars)
                stack.callback(setattr, self, "around", None)
            task = bars.add_task(label, total=total, completed=done, note="")
            if not is_outermost:
                stack.callback(bars.remove_task, task)

            def step(n: float, note: str = "") -> None:
                self.check()
                bars.update(task, advance=n, **({"note": note} if note else {}))  # type: ignore[arg-type]

            yield step

    def new_bars(self) -> rich_progress.Progress:
        """Bars that fit the console."""
        return rich_progress.Progress(
            rich_progress.TextColumn("{task.description:<20}"),
            rich_progress.BarColumn(min(max(self.console.width - BESIDE, 4), WIDEST)),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TimeRemainingColumn(compact=True),
            rich_progress.TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
        )

    def say(self, text: str) -> None:
        self.console.print(text, style="cyan", highlight=False)
