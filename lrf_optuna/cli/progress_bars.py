"""Progress as bars in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from lrf_optuna.progress import Step

FEW = 2
"""Steps of a task, at most, for which a percentage is shown in the place of a count: 1/2 says less than 50 %."""
WIDEST, BESIDE = 32, 76
"""Columns of a bar at most, and columns of the texts beside it: in a narrow terminal the bar is shorter."""


class Steps(rich_progress.MofNCompleteColumn):
    """The steps of a task that are done, as a count or as a percentage."""

    def render(self, task: rich_progress.Task) -> Text:
        return super().render(task) if (task.total or 0) > FEW else Text(f"{task.percentage:>3.0f} %")


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
            Steps(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TimeRemainingColumn(compact=True),
            rich_progress.TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
        )

    def say(self, text: str) -> None:
        self.console.print(text, style="cyan", highlight=False)
