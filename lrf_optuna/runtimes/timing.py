"""Milliseconds of a call, measured in turns in a child process: noise of the machine then meets all networks alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.runtimes.child import in_child
from lrf_optuna.runtimes.sessions import CALLS, Call

BLOCK = 2e-3
"""Seconds that a network runs in one turn, at least: a clock's resolution and its own cost are far below."""


@dataclass(frozen=True, slots=True)
class TimingSettings:
    """How calls are timed. `threads`: of the runtime, 0 for all processors.

    `rounds`: turns that each network gets. The minimum of 20 differs by about 3 % from run to run on an idle machine.
    """

    threads: int = 1
    rounds: int = 20


@dataclass(frozen=True, slots=True)
class TimedFile:
    """A file to be timed: its runtime, its signature, the names and shapes of its inputs, the names of its outputs.

    `shapes`: input -> shape with the batch axis; `types`: input -> NumPy type.
    """

    runtime: str
    path: str
    signature: str
    shapes: dict[str, list[int]]
    types: dict[str, str]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one call: the least and the median of all turns, and the spread, (third - first quartile)."""

    least: float
    median: float
    spread: float


def time_files(files: Sequence[TimedFile], settings: TimingSettings = TimingSettings()) -> list[Timing]:
    """The milliseconds of a call of every file, on random inputs, in one child process and in turns."""
    answer = in_child("lrf_optuna.runtimes.timing:timing_job", {**asdict(settings), "files": list(map(asdict, files))})
    return [Timing(**row) for row in answer["timings"]]


def timing_job(job: dict[str, Any]) -> dict[str, Any]:
    """What the child does: open a session of every file, and call them in turns."""
    from lrf_optuna.processes import cores

    threads = job["threads"] or cores()
    if any(file["runtime"] in ("keras", "savedmodel") for file in job["files"]):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    rng, calls = np.random.default_rng(0), []
    for file in job["files"]:
        names, place = list(file["shapes"]), Path(file["path"])
        call = CALLS[file["runtime"]](place, file["signature"], names, file["outputs"], threads)
        arrays = [rng.random(shape, np.float32).astype(file["types"][name]) for name, shape in file["shapes"].items()]
        calls.append((call, arrays))
    return {"timings": [asdict(timing) for timing in time_in_turns(calls, job["rounds"])]}


def time_in_turns(calls: Sequence[tuple[Call, Sequence[Any]]], rounds: int) -> list[Timing]:
    """Milliseconds of every call: in each round each is called as often as fills `BLOCK`."""
    repeats = []
    for call, arrays in calls:
        call(arrays)
        once = min(seconds_of(call, arrays, 1) for _ in range(3))
        repeats.append(max(1, round(BLOCK / max(once, 1e-7))))
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for (call, arrays), times, own in zip(calls, repeats, found, strict=True):
            own.append(1e3 * seconds_of(call, arrays, times) / times)
    return [timing_of(each) for each in found]


def seconds_of(call: Call, arrays: Sequence[Any], times: int) -> float:
    """The seconds of a number of calls."""
    start = time.perf_counter()
    for _ in range(times):
        call(arrays)
    return time.perf_counter() - start


def timing_of(milliseconds: Sequence[float]) -> Timing:
    """Least, median and spread of repeated measurements."""
    if len(milliseconds) < 2:
        return Timing(milliseconds[0], milliseconds[0], 0.0)
    first, middle, third = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return Timing(min(milliseconds), middle, third - first)
