"""The terminal while a command runs: one-line errors, Ctrl-C, progress bars, log.txt, no messages of libraries."""

from __future__ import annotations

import codecs
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrf_optuna.errors import LrfError
from lrf_optuna.processes import Interrupts, quiet

if TYPE_CHECKING:
    from lrf_optuna.cli.progress_bars import Bars

PLAIN_CHARACTERS = {"→": "->", "←": "<-", "…": "...", "×": "x"} | dict.fromkeys("–−━╸╺", "-")
"""Character -> what stands for it where the terminal's or the pipe's encoding lacks it."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with user mistakes as one line and exit code 2, and with Ctrl-C as one line and exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LrfError as mistake:
            typer.secho(f"error: {mistake}", err=True, fg="red")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.secho(
                "stopped: every finished trial is kept, the same command goes on from there", err=True, fg="yellow"
            )
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as reason:  # a full disk, a folder that is not ours
            typer.secho(f"error: {reason.filename or 'the system'}: {reason.strerror or reason}", err=True, fg="red")
            raise typer.Exit(2) from None

    return run


def plain_streams() -> None:
    """Let stdout and stderr write plain characters for those that their encoding lacks, as of a pipe in ASCII."""
    codecs.register_error("plain", plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def plain_characters(error: UnicodeError) -> tuple[str, int]:
    """The handler of `codecs`: the characters that cannot be encoded, each as its plain form or a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN_CHARACTERS.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


@contextmanager
def session(folder: Path, loads: bool = True, on_stderr: bool = False) -> Iterator[Bars]:
    """Progress bars on the terminal, and log.txt in the run folder once there is one.

    `loads`: the pipeline is imported, with TensorFlow, before anything is printed.
    """
    from rich.console import Console

    from lrf_optuna.cli.progress_bars import Bars

    if loads:
        with quiet():
            import lrf_optuna.pipeline.run  # noqa: F401  TensorFlow's greetings are not for the user
    with logged(folder), Interrupts() as interrupts:
        yield Bars(Console(stderr=on_stderr), interrupts.check)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """The library's log goes to log.txt in the run folder, once the folder exists."""
    log = logging.getLogger("lrf_optuna")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = LogFile(folder / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except LrfError as mistake:
        log.error("%s", mistake)
        raise
    except KeyboardInterrupt:
        log.warning("stopped by the user")
        raise
    except Exception:
        log.exception("stopped by an error")
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


class LogFile(logging.Handler):
    """Appends to a file, once the run folder exists and something was done: a run that is refused leaves no file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.waiting.append(self.format(record))
        if self.path.exists() or (record.levelno == logging.INFO and self.path.parent.is_dir()):
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in self.waiting)
            self.waiting.clear()
