"""Several processes on one study: each searches as a single one does, and they meet in the database.

What a worker needs is left in a folder: the network, the images, the task. Its fits come from the cache. Processes on
several machines share a study in the same way, each by the same command with the database's URL.
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

TASK_FILE, MODEL_FILE, IMAGES_FILE = "task.json", "model.keras", "images.npy"
POLL_SECONDS = 0.25
"""Seconds between two looks at what the workers recorded: a progress bar needs no more."""
SHUTDOWN_SECONDS = 30
"""Seconds that interrupted workers have to record what they finished, before they are killed."""


@dataclass(frozen=True)
class WorkerTask:
    """What every worker does.

    `scoring`: keywords of `Proxy`; `keeps`: the keep grid of the option table; `search`: keywords of `search_front`;
    `module`: what to import before the network is loaded, where its own layers are registered.
    """

    url: str
    name: str
    cache: str
    scoring: dict[str, Any]
    keeps: tuple[float, ...]
    search: dict[str, Any]
    module: str | None = None

    @classmethod
    def read(cls, folder: Path) -> WorkerTask:
        """The task in a folder."""
        return cls(**json.loads((folder / TASK_FILE).read_text()))


@dataclass(frozen=True)
class WorkerPool:
    """`workers` processes with `threads` each, or with their share of the processors.

    `folder`: where a temporary folder with the workers' files is made.
    """

    workers: int
    folder: Path
    progress: Progress = SILENT
    threads: int | None = None

    def search(self, task: WorkerTask, model: Any, images: Array, store: StudyStore) -> None:
        """Search on a study until it has as many trials as the task asks for.

        Ctrl-C goes to all workers, and loses nothing that is finished. Raises LrfError where no worker can go on.
        """
        with tempfile.TemporaryDirectory(prefix=".workers-", dir=self.folder) as name:
            folder = Path(name)
            (folder / TASK_FILE).write_text(json.dumps(asdict(task)))
            model.save(folder / MODEL_FILE)
            np.save(folder / IMAGES_FILE, images)
            with self.running(folder) as processes:
                watch(processes, folder, store, int(task.search["trials"]), self.progress)

    @contextmanager
    def running(self, folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
        """Start the workers; at the end of the block, interrupt those that still run and wait for them."""
        threads = str(self.threads or max(1, cores() // self.workers))
        command = [sys.executable, "-m", "lrf_optuna.search.worker", str(folder), threads]
        processes = [
            subprocess.Popen(
                command,
                env=os.environ | dict.fromkeys(THREADS, threads),
                stdin=subprocess.PIPE,  # it ends with this process, however that ends
                stderr=error_file(folder, number).open("w"),
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
                wait_or_kill(process)


def wait_or_kill(process: subprocess.Popen[str]) -> None:
    """Wait for an interrupted worker, and kill it where it does not end."""
    try:
        process.wait(SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def watch(
    processes: Sequence[subprocess.Popen[str]], folder: Path, store: StudyStore, trials: int, progress: Progress
) -> None:
    """Show what the workers record, until all of them have ended. Raises LrfError where none reached the end."""
    front, next_number, reported = Front(), 0, set[int]()
    before = store.count()
    with Interrupts() as interrupts, progress.task("trials", trials, done=min(trials, before)) as step:
        while True:
            interrupts.check()
            alive = any(process.poll() is None for process in processes)
            recorded = store.since(next_number)
            for trial in recorded:
                front.add(candidate_of(trial, store.objectives))
            if recorded:
                fresh = sum(trial.number >= before for trial in recorded)
                step(fresh, note=f"front {len(front)}, hypervolume {front.volume:.4f}")
                next_number = recorded[-1].number + 1
            if not alive:
                break
            for number, reason in failures(processes, folder):
                if number not in reported:
                    progress.say(f"a worker ended: {reason}; the others go on")
                    reported.add(number)
            time.sleep(POLL_SECONDS)
    reasons = failures(processes, folder)
    if reasons and store.count() < trials:
        raise LrfError(reasons[0][1])
    if store.count() < trials:
        progress.say(f"the hypervolume is flat after {store.count()} trials: enough")


def failures(processes: Sequence[subprocess.Popen[str]], folder: Path) -> list[tuple[int, str]]:
    """The numbers of the workers that failed, each with the last line that it wrote."""
    found = []
    for number, process in enumerate(processes):
        if process.poll():
            lines = error_file(folder, number).read_text(errors="replace").strip().splitlines()
            found.append((number, lines[-1].removeprefix("error: ") if lines else f"exit code {process.returncode}"))
    return found


def error_file(folder: Path, number: int) -> Path:
    """The file that a worker writes its errors to."""
    return folder / f"{number}.err"
