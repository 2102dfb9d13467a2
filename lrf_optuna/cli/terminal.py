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
from typing import Any

import typer

from lrf_optuna.cli.output import Output
from lrf_optuna.errors import LrfError
from lrf_optuna.interrupts import Interrupts
from lrf_optuna.processes import quiet
from lrf_optuna.progress import Progress

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What typer raises for a command line that is none: it has no public name for it."""
PLAIN_CHARACTERS = {"→": "->", "←": "<-", "…": "...", "×": "x", "±": "+-", "━": "#"} | dict.fromkeys("–−╌", "-")
"""Character -> what stands for it where the terminal's or the pipe's encoding lacks it; others are as in Python."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with user mistakes as one line and exit code 2, and with Ctrl-C as one line and exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LrfError as mistake:
            code, text = 2, f"error: {mistake}"
        except KeyboardInterrupt:
            code, text = 130, "stopped: what is finished is kept, and the same command goes on from there"
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as reason:  # a full disk, a folder that is not ours
            code, text = 2, f"error: {reason.filename or 'the system'}: {reason.strerror or reason}"
        else:
            return
        typer.secho(text, err=True, fg="red" if code == 2 else "yellow")
        raise typer.Exit(code)

    return run


def call(app: typer.Typer) -> None:
    """Run the command that is asked for, and end; a command line that is none is one line and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except USAGE_ERROR as mistake:
        text, where = mistake.format_message().rstrip("."), mistake.ctx.command_path if mistake.ctx else "lrf-optuna"
        if text:  # without any argument there was help
            typer.secho(f"error: {text[0].lower()}{text[1:]} (see {where} -h)", err=True, fg="red")
        sys.exit(mistake.exit_code)
    except typer.Abort:
        sys.exit(130)


def plain_streams() -> None:
    """Let stdout and stderr write plain characters for those that their encoding lacks, as of a pipe in ASCII."""

    def plain(error: Any) -> tuple[str, int]:
        letters = error.object[error.start : error.end]
        return "".join(PLAIN_CHARACTERS.get(letter) or ascii(letter)[1:-1] for letter in letters), error.end

    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


@contextmanager
def session(folder: Path | None, output: Output, loads: bool = True) -> Iterator[Progress]:
    """Progress of a command, as its options ask for it, and the library's log in log.txt of the run folder, if any.

    `loads`: the pipeline is imported, with TensorFlow, before anything is printed.
    """
    if loads:
        with quiet():
            import lrf_optuna.pipeline.run  # noqa: F401  TensorFlow's greetings are not for the user
    with logged(folder), Interrupts() as interrupts:
        yield output.progress(interrupts.check)


@contextmanager
def logged(folder: Path | None) -> Iterator[None]:
    """The library's log goes to log.txt of a run folder; nowhere without a folder.

    A run that is refused leaves no log.txt: there is one once the folder exists and something was done.
    """
    log, path = logging.getLogger("lrf_optuna"), (folder or Path()) / "log.txt"
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = logging.FileHandler(path, encoding="utf-8", delay=True) if folder else logging.NullHandler()
    handler.addFilter(lambda line: path.exists() or (line.levelno == logging.INFO and path.parent.is_dir()))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    except BaseException as reason:
        log.error("stopped by %r", reason, exc_info=not isinstance(reason, LrfError | KeyboardInterrupt))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
