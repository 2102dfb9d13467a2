"""Progress as bars in a terminal or a notebook, as lines of a log elsewhere, or not at all; what is left is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lrf_optuna.progress import Step

LABEL, NARROWEST, WIDEST, BESIDE = 30, 4, 32, 76
"""Columns of a label, of a bar at least and at most, and of the texts beside a bar."""
FULL, EMPTY = "━", "╌"
"""Characters of a bar: what is done, and what is not."""
LINE_SECONDS = 30.0
"""Seconds between two lines of a log about one task, so that no log is silent for longer."""
FRAMES = 5
"""Times in a second that bars are drawn: a reader sees no more, and each takes about a millisecond."""
UNKNOWN_TIME = "unknown"
"""What stands for a time that nothing tells yet."""


def duration(seconds: float) -> str:
    """Seconds in the units that read best: 0.4 s, 40 s, 2 min 10 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 2 else f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class ShownTask:
    """A task of `total` steps: `completed` of them, the first of which were `done` before it began."""

    label: str
    total: int
    done: int = 0
    note: str = ""
    completed: float = 0.0
    started: float = field(default_factory=time.monotonic)
    restarted: float = 0.0
    """When it went back to earlier steps for the last time: its pace counts from there."""
    has_ended: bool = False
    """Whether its block has ended, perhaps before all steps were done."""

    def __post_init__(self) -> None:
        self.completed, self.restarted = self.done, self.started

    def advance(self, n: float, note: str) -> None:
        """Take `n` steps; fewer than none go back, as where training begins again. A note stays until the next one."""
        self.completed += n
        self.note = note or self.note
        if n < 0:
            self.done, self.restarted = int(self.completed), time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Seconds that it still takes at its pace so far; None before the first step."""
        steps = self.completed - self.done
        pace = (time.monotonic() - self.restarted) / steps if steps > 0 else None
        return None if pace is None else pace * max(self.total - self.completed, 0)

    def bar(self, width: int) -> str:
        """A bar of this many columns."""
        filled = round(width * min(self.completed / max(self.total, 1), 1))
        return FULL * filled + EMPTY * (width - filled)


class Shown:
    """What bars and lines have in common: the tasks that run, each inside the one before, and `check` at every step.

    `rest`: gives the seconds that a whole run takes after the outermost task, None where nothing tells; it is not
    called where it is None itself.
    """

    def __init__(self, console: Console, check: Callable[[], None] = lambda: None) -> None:
        self.console, self.check = console, check
        self.tasks: list[ShownTask] = []
        self.rest: Callable[[], float | None] | None = None

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        task = ShownTask(label, total, done)

        def step(n: float, note: str = "") -> None:
            self.check()
            task.advance(n, note)

        with ExitStack() as stack:
            if not self.tasks:
                stack.enter_context(self.shown(task))
            self.tasks.append(task)
            try:
                yield step
            finally:
                task.has_ended = True
                if len(self.tasks) > 1:
                    self.tasks.remove(task)

    @contextmanager
    def shown(self, task: ShownTask) -> Iterator[None]:
        """The outermost task is shown while the block runs."""
        try:
            yield
        finally:
            self.tasks.clear()

    def say(self, text: str) -> None:
        self.console.print(text, style="cyan", highlight=False, markup=False)

    def left(self) -> str:
        """How long the whole run still takes, in words; empty where there is no whole run."""
        if self.rest is None or not self.tasks:
            return ""
        own, after = self.tasks[0].seconds_left, self.rest()
        known = own is not None and after is not None
        return f"whole run: {f'about {duration((own or 0) + (after or 0))}' if known else UNKNOWN_TIME} left"


class Bars(Shown):
    """Progress (`lrf_optuna.progress.Progress`) as bars on a console that is a terminal or a notebook.

    A task inside another has its bar below the other's bar while it runs, and no line stays of it.
    """

    @contextmanager
    def shown(self, task: ShownTask) -> Iterator[None]:
        live = Live(get_renderable=self.rendered, console=self.console, refresh_per_second=FRAMES)
        with super().shown(task), live:
            yield

    def rendered(self) -> Text:
        """The bars of the tasks that run, and below them what is left of the whole run."""
        running = bool(self.tasks) and not self.tasks[0].has_ended
        lines = [self.line(task) for task in self.tasks]
        return Text("\n".join(lines + ([self.left()] if running and self.left() else [])), overflow="fold")

    def line(self, task: ShownTask) -> str:
        """A task with its bar; its note is below where a line is too short for it."""
        width = min(max(self.console.width - BESIDE, NARROWEST), WIDEST)
        left = task.seconds_left
        took = duration(task.seconds) if task.has_ended else f"{UNKNOWN_TIME if left is None else duration(left)} left"
        text = f"{task.label:<{LABEL}} {task.bar(width)} {task.completed:g}/{task.total} {took}"
        if not task.note:
            return text
        return f"{text}{'  ' if len(text) + 2 + len(task.note) <= self.console.width else f'{chr(10)}  '}{task.note}"


class Lines(Shown):
    """Progress as lines of a log: one when a task ends, and one every `every` seconds before."""

    def __init__(self, console: Console, check: Callable[[], None] = lambda: None, every: float = LINE_SECONDS) -> None:
        super().__init__(console, check)
        self.every = every

    @contextmanager
    def shown(self, task: ShownTask) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self.report, args=(ended,), daemon=True)
        with super().shown(task):
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
                took = f"{task.label}: {task.completed:g} of {task.total} in {duration(task.seconds)}"
                self.write(took + (f", {task.note}" if task.note else ""))

    def say(self, text: str) -> None:
        self.write(text)

    def report(self, ended: threading.Event) -> None:
        """Write a line about the tasks that run every few seconds, until the outermost has ended."""
        while not ended.wait(self.every):
            texts = [f"{task.label}: {task.completed:g} of {task.total}" for task in self.tasks]
            left = self.tasks[0].seconds_left if self.tasks else None
            texts.append(f"{UNKNOWN_TIME if left is None else f'about {duration(left)}'} left")
            self.write(", ".join(texts) + (f"; {self.left()}" if self.left() else ""))

    def write(self, line: str) -> None:
        """Write a line at once, and never break it."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self.console.file.flush()


class Quiet:
    """Shows nothing, but every step calls `check`."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.check = check

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        yield lambda n, note="": self.check()

    def say(self, text: str) -> None:
        pass


def progress_on(console: Console, check: Callable[[], None] = lambda: None) -> Shown:
    """Progress in the form that a console can show: bars in a terminal or a notebook, else lines."""
    return (Bars if console.is_terminal or console.is_jupyter else Lines)(console, check)
