"""The number of channels that a runtime computes at once: ranks between its multiples cost time and give nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

from lrf_optuna.errors import LrfError
from lrf_optuna.runtimes.graph_timing import time_graphs
from lrf_optuna.runtimes.graphs import write_graph
from lrf_optuna.runtimes.timing import TimingSettings

RANKS = (4, 7, 10, 13, 16, 18, 21, 24, 28, 32, 34, 37, 40, 44, 48, 56, 64)
"""Ranks of the chain that is timed, on both sides of the steps that processors have: 4, 8 or 16 numbers at once.

Some are no multiples of 4: all multiples of 4 would fit the steps 1 and 4 alike.
"""
SHAPE = (16, 16, 64)
"""The input of the chain: its largest rank is as large as its channels."""
STEPS = (1, 4, 8, 16)
"""Steps that are compared, in channels."""
EQUAL = 1.02
"""Ratio of two deviations that counts as none: of steps that explain times equally well, the largest is taken."""


def rank_step(runtime: str, threads: int, rounds: int = 20) -> int:
    """The step, in channels, that explains the milliseconds of a chain of two 1 x 1 convolutions of different ranks."""
    with TemporaryDirectory(prefix="lrf-optuna-") as folder:
        graphs = [write_graph(chain(rank), SHAPE, "float32", 1, Path(folder, f"{rank}.pb")) for rank in RANKS]
        times, problems = time_graphs(graphs, runtime, TimingSettings(threads, rounds))
    if any(problems):
        raise LrfError(f"{runtime} cannot run a 1 x 1 convolution: {next(filter(None, problems))}")
    return best_step(RANKS, [time or 0.0 for time in times])


def chain(rank: int) -> keras.Sequential:
    """Two 1 x 1 convolutions with `rank` channels between them."""
    stages = [keras.layers.Conv2D(channels, 1, use_bias=False) for channels in (rank, SHAPE[-1])]
    return keras.Sequential([keras.Input(SHAPE), *stages])


def best_step(ranks: Sequence[int], times: Sequence[float]) -> int:
    """The largest step for which times are closest to a straight line over the ranks rounded up to its multiples."""
    deviations = {}
    for step in STEPS:
        columns = np.column_stack([np.ones(len(ranks)), np.ceil(np.array(ranks) / step) * step])
        line = np.linalg.lstsq(columns, np.array(times), rcond=None)[0]
        deviations[step] = float(np.square(columns @ line - times).sum())
    least = min(deviations.values())
    return max(step for step, deviation in deviations.items() if deviation <= EQUAL**2 * least)
