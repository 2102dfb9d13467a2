"""The command line in tests: in this process or in one of its own, and what it may print."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from lrf_optuna.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result as Outcome

SPACE = ("--methods", "svd,tucker2", "--keep", "0.2,0.4,0.7", "--calibration", "64", "--population", "6")
NET = ("--model", "net.keras", "--data", "net.npz", "--divide", "16", "--name", "net")
FAST = (*NET, *SPACE, "--no-tune", "--no-timing")
DEFAULT = (*SPACE, "--trials", "8", "--epochs", "1", "--rate", "0.001")
LEFT = {"study.db", "plan.json", "model.keras", "models", "result.json", "report.html", "log.txt"}
LEFT |= {"facts.json", "README.md", "artifacts"}


def plain() -> dict[str, str]:
    """A user's environment: without what the tests tell TensorFlow."""
    return {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


def started(*args: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lrf_optuna", *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=plain(),
    )


def called(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own."""
    command = [sys.executable, "-m", "lrf_optuna", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False, env=plain())


def invoked(*args: str) -> Outcome:
    """A command in this process."""
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200", "NO_COLOR": "1"})


def done(*args: str) -> str:
    """What a command that succeeds prints."""
    outcome = invoked(*args)
    assert outcome.exit_code == 0, outcome.stderr or outcome.exception
    return outcome.stdout


def refused(outcome: Outcome, words: str = "") -> str:
    """The one line that a refused command writes."""
    assert outcome.exit_code == 2, (outcome.stdout, outcome.stderr, outcome.exception)
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    return line


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Until the condition holds, or the process has ended."""
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def contents(folder: Path) -> dict[str, Any]:
    """Every file's bytes; of a database what it holds."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: held(path) for name, path in files.items() if not name.endswith(("-wal", "-shm"))}


def held(path: Path) -> Any:
    if path.suffix != ".db":
        return path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
