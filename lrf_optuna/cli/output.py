"""Where a command writes: its result on stdout, as tables or as one JSON document, and all else beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lrf_optuna.progress import Progress
from lrf_optuna.progress_bars import Quiet, progress_on


@dataclass(frozen=True, slots=True)
class Output:
    """The two options that every command has.

    `as_json`: stdout gets one JSON document, and all else goes to stderr; `quiet`: only results and errors are written.
    """

    as_json: bool = False
    quiet: bool = False

    def progress(self, check: Callable[[], None] = lambda: None) -> Progress:
        """What shows progress and messages. Every step calls `check`."""
        return Quiet(check) if self.quiet else progress_on(Console(stderr=self.as_json), check)

    def result(self, document: Any, *parts: Any, **how: Any) -> None:
        """Write the result of a command: the document as JSON, or tables and texts as `print_rich` does."""
        if self.as_json:
            print(json.dumps(document, indent=2))
        else:
            print_rich(*parts, **how)

    def remark(self, *parts: Any, **how: Any) -> None:
        """Write what stands beside a result for a reader; nothing where a program reads it, or with `quiet`."""
        if not (self.as_json or self.quiet):
            print_rich(*parts, **how)


def print_rich(*parts: Any, style: str = "", unbroken: bool = False) -> None:
    """Print tables (`report.tables.Table`) and texts to stdout, one below the other.

    `unbroken`: no text is broken into lines, because it is to be copied or read by a program.
    """
    Console().print(*parts, sep="\n", style=style, highlight=False, markup=False, soft_wrap=unbroken)
