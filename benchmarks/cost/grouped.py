"""A training step of networks with grouped convolutions, as Keras computes these and group by group.

    python benchmarks/cost/grouped.py [--models DIR]

Writes benchmarks/results/grouped.md. Both ways are timed on one thread in one process, after a first step; each has the
least of three steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.beside import SHARED
from benchmarks.lib.tables import publish

NETWORKS = {"resnext29a_cifar10": (32, 32, 3)}
"""Network -> the shape of its images."""
BATCH, STEPS = 128, 3
"""Images of a step, as in a fine-tune, and the steps that are timed."""
HEAD = ("network", "images of a step", "by Keras", "group by group", "ratio")


def main() -> None:
    """Measure every network and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    args = parser.parse_args()
    rows = [row(name, shape, args.models) for name, shape in NETWORKS.items()]
    publish("grouped", "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *rows, "", ABOUT, ""]))


def row(name: str, shape: tuple[int, ...], models: Path) -> str:
    """The row of a network."""
    import tensorflow as tf

    from lrf_optuna.models.load import load_model
    from lrf_optuna.training.grouped_conv import grouped_by_parts

    tf.config.threading.set_intra_op_parallelism_threads(1)
    model = load_model(str(models / f"{name}.keras"))
    x = tf.constant(np.random.default_rng(0).normal(size=(BATCH, *shape)).astype(np.float32))
    plain, parts = (seconds(model, x, how) for how in (lambda _: nullcontext(), grouped_by_parts))
    return f"| {name} | {BATCH} | {plain:.2f} s | {parts:.2f} s | {plain / parts:.1f} |"


def seconds(model: Any, x: Any, how: Callable[[Any], Any]) -> float:
    """Seconds of the gradients of all weights, the least of a few steps."""
    import tensorflow as tf

    @tf.function
    def step() -> Any:
        with how(model), tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    step()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


ABOUT = """Seconds of a forward and a backward pass on one thread."""

if __name__ == "__main__":
    main()
