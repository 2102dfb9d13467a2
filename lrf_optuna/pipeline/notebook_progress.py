"""Progress in a notebook: one output of the cell, which needs no widgets; and the choice between it and a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rich.console import Console

from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.progress_bars import Shown, ShownTask, duration, progress_on

PAUSE = 0.25
"""Seconds between two updates of the output, at least: each is a message to the browser."""


@dataclass
class NotebookProgress:
    """Progress (`lrf_optuna.progress.Progress`) as one output of a notebook cell.

    Messages stay. The bar is that of the innermost task of `tasks`, and nothing stays of it.
    """

    lines: list[str] = field(default_factory=list)
    tasks: list[ShownTask] = field(default_factory=list)
    rest: Callable[[], float | None] | None = None
    """Gives the seconds that the run takes after the outermost task; None where nothing tells."""
    output: Any = None
    """IPython's handle of the output, once there is one."""
    cell: int | None = None
    """The number of the cell that the output belongs to."""
    updated: float = 0.0
    """The time of the last update, of the monotonic clock in seconds."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        """Show a task while the block runs, in the place of a task around it."""
        self.begin_cell(current_cell())
        task = ShownTask(label, total, done)
        self.tasks.append(task)
        self.update()

        def step(n: float, note: str = "") -> None:
            task.advance(n, note)
            if time.monotonic() - self.updated > PAUSE:
                self.update()

        try:
            yield step
        finally:
            self.tasks.remove(task)
            self.update()

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self.begin_cell(current_cell())
        self.lines.append(text)
        self.update()

    def update(self) -> None:
        """Show what there is now."""
        self.updated = time.monotonic()
        if self.output is None:
            from IPython.display import display

            self.output = display(self, display_id=True)
        else:
            self.output.update(self)

    def begin_cell(self, cell: int | None) -> None:
        """In another cell than before, begin another output: the steps of a result have the progress of its run."""
        if cell != self.cell:
            self.cell, self.output, self.lines = cell, None, []

    def left(self) -> str:
        """About how long the whole run still takes, in words; empty where nothing tells."""
        own, after = self.tasks[0].seconds_left, self.rest() if self.rest else None
        return "" if own is None or after is None else f"about {duration(own + after)} left"

    def words(self) -> str:
        """The innermost task in words."""
        task = self.tasks[-1]
        return " ".join(filter(None, [f"{task.label} {task.completed:g}/{task.total}", task.note, self.left()]))

    def __repr__(self) -> str:
        """The messages and the task that runs as plain text."""
        return "\n".join([*self.lines, *([self.words()] if self.tasks else [])])

    def _repr_html_(self) -> str:
        lines = [f"<div>{escape(line)}</div>" for line in self.lines]
        for task in self.tasks[-1:]:
            bar = f'<progress value="{task.completed:g}" max="{task.total}"></progress>'
            lines.append(f"<div>{bar} {escape(self.words())}</div>")
        return "".join(lines)


def shell() -> Any:
    """The interactive shell of IPython that this process is; None where it is none."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook: Jupyter's, Colab's, an editor's."""
    return getattr(shell(), "kernel", None) is not None


def current_cell() -> int | None:
    """The number of the cell that runs; None outside IPython."""
    return getattr(shell(), "execution_count", None)


def shown_progress(progress: Progress | bool | None) -> Progress:
    """What shows progress: the given object; with True a notebook's output or bars on stderr; else nothing."""
    if progress is None or progress is False:
        return SILENT
    if progress is not True:
        return progress
    if in_notebook():
        return NotebookProgress()
    return progress_on(Console(stderr=True))


def say_what_is_left(progress: Progress, rest: Callable[[], float | None]) -> None:
    """Let progress say what is left of a run, where it can: `rest` gives the seconds after the outermost task."""
    if isinstance(progress, NotebookProgress | Shown):
        progress.rest = rest
