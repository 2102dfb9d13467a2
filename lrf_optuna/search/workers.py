"""Several processes on one study: each searches as a single one does, and they meet in the record.

What a worker needs is left in a folder: the network, the images, the task; fits come out of the cache. The processes
that share a study on several machines do just the same, each by the same command with the database's URL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import Front
from lrf_optuna.processes import THREADS, Interrupts, cores
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.storage.study import StudyStore, candidate_of

TASK, MODEL, IMAGES = "task.json", "model.keras", "images.npy"
LOOK = 0.25
"""Seconds between two looks at the workers."""
PATIENCE = 30
"""Seconds that interrupted workers have to record what they finished."""


@dataclass(frozen=True)
class WorkerTask:
    """What every worker does: `scoring` are the proxy's keywords, `searching` those of `search`."""

    url: str
    name: str
    cache: str
    scoring: dict[str, Any]
    searching: dict[str, Any]
    module: str | None = None
    """What to import before the network is read: where its own layers are registered."""

    @classmethod
    def read(cls, folder: Path) -> WorkerTask:
        """The task of a folder."""
        return cls(**json.loads((folder / TASK).read_text()))


@dataclass(frozen=True)
class WorkerPool:
    """`workers` processes with so many `threads` each, else with their share of the processors.

    `folder`: where what they need is left meanwhile.
    """

    workers: int
    folder: Path
    progress: Progress = SILENT
    threads: int | None = None

    def search(self, task: WorkerTask, model: Any, images: Array, record: StudyStore) -> None:
        """Search on a study until it has as many trials as the task says.

        An interrupt goes to all workers, and loses nothing that is finished. Raises LrfError where none can go on.
        """
        with tempfile.TemporaryDirectory(prefix=".workers-", dir=self.folder) as left:
            place = Path(left)
            (place / TASK).write_text(json.dumps(asdict(task)))
            model.save(place / MODEL)
            np.save(place / IMAGES, images)
            with self.running(place) as processes:
                watch(processes, place, record, int(task.searching["trials"]), self.progress)

    @contextmanager
    def running(self, place: Path) -> Iterator[list[subprocess.Popen[str]]]:
        """The workers at work; at the end, whatever it is, they are asked to end, and waited for."""
        threads = str(self.threads or max(1, cores() // self.workers))
        command = [sys.executable, "-m", "lrf_optuna.search.worker", str(place), threads]
        processes = [
            subprocess.Popen(
                command,
                env=os.environ | dict.fromkeys(THREADS, threads),
                stdin=subprocess.PIPE,  # it ends with this process, however that ends
                stderr=errors_of(place, number).open("w"),
                text=True,
                start_new_session=True,  # Ctrl-C comes from here, once
            )
            for number in range(self.workers)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
            for process in processes:
                ended(process)


def ended(process: subprocess.Popen[str]) -> None:
    """Wait for a worker that was asked to end."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def watch(
    running: Sequence[subprocess.Popen[str]], place: Path, record: StudyStore, trials: int, progress: Progress
) -> None:
    """Show what the workers record, until all of them have ended. Raises LrfError where none reached the end."""
    front, known, told = Front(), 0, set[int]()
    before = record.count()
    with Interrupts() as interrupts, progress.task("trials", trials, done=min(trials, before)) as step:
        while True:
            interrupts.check()
            alive = any(process.poll() is None for process in running)
            found = record.since(known)
            for trial in found:
                front.add(candidate_of(trial, record.objectives))
            if found:
                fresh = sum(trial.number >= before for trial in found)
                step(fresh, note=f"front {len(front)}, hypervolume {front.volume:.4f}")
                known = found[-1].number + 1
            if not alive:
                break
            for number, reason in failed(running, place):
                if number not in told:
                    progress.say(f"a worker ended: {reason}; the others go on")
                    told.add(number)
            time.sleep(LOOK)
    reasons = failed(running, place)
    if reasons and record.count() < trials:
        raise LrfError(reasons[0][1])
    if record.count() < trials:
        progress.say(f"the hypervolume is flat after {record.count()} trials: enough")


def failed(running: Sequence[subprocess.Popen[str]], place: Path) -> list[tuple[int, str]]:
    """The workers that ended too early, each with what it said last."""
    found = []
    for number, process in enumerate(running):
        if process.poll():
            lines = errors_of(place, number).read_text(errors="replace").strip().splitlines()
            found.append((number, lines[-1].removeprefix("error: ") if lines else f"exit code {process.returncode}"))
    return found


def errors_of(place: Path, number: int) -> Path:
    """Where a worker says what went wrong."""
    return place / f"{number}.err"
