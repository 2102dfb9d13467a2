"""Kernels as large as VGG-16's: how long each method takes for one option and for a whole grid, and the memory.

    python benchmarks/cost/large.py [--methods NAME...]

A Dense layer of 25,088 x 4,096 fitted to 896 images, and a 3 x 3 convolution of 512 x 512 channels fitted to 36,864
patches. Kernels and inputs have falling spectra, like those of trained networks. Writes benchmarks/results/large.md:
seconds for the first option (factorization included) and for all twelve keeps of the default grid, the relative error
at the keep of 0.2, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from benchmarks.lib.tables import publish
from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, choice_of, compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import SecondMoment
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.sections import KEEP

LAYERS = {
    "Dense 25,088 x 4,096": (Conv((), 25088, 4096, (), ()), 896),
    "Conv2D 3 x 3 x 512 x 512": (Conv((3, 3), 512, 512, (1, 1), (1, 1), "same"), 36864),
}
SHOWN = 0.2
HEAD = (
    "| layer | method | options | first, s | all, s | error at 0.2 | peak memory, GiB |",
    "|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Time the methods and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=list(DECOMPOSITIONS))
    methods = parser.parse_args().methods
    rows = []
    for name, (op, count) in LAYERS.items():
        start = time.perf_counter()
        moment = moment_of(op, count)
        rows.append(f"| {name} | (its moment) | | | {time.perf_counter() - start:.0f} | | {peak():.1f} |")
        print(rows[-1], flush=True)
        kernel = falling(np.random.default_rng(1), op.params // op.cout, op.cout).reshape(op.kernel_shape)
        for method in methods:
            if method != "intact" and DECOMPOSITIONS[method].applies(op):
                rows.append(f"| {name} | {timed(LayerFitter(op, kernel, (moment,)), op, method)} | {peak():.1f} |")
                print(rows[-1], flush=True)
    publish("large", "\n".join([*HEAD, *rows]) + "\n")


def moment_of(op: Conv, count: int) -> SecondMoment:
    """The moment of random patches with a falling spectrum; from the patches themselves where they are few."""
    rows = falling(np.random.default_rng(0), count, op.params // op.cout)
    return (
        SecondMoment.of_rows(op.window, rows)
        if count < rows.shape[1]
        else SecondMoment.of(op.window, rows.T @ rows / count)
    )


def falling(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A random matrix whose first directions are the strongest."""
    few = min(rows, columns) // 4
    strong = rng.standard_normal((rows, few)).astype(np.float32) * np.geomspace(1, 0.02, few).astype(np.float32)
    noise = rng.standard_normal((rows, columns), np.float32)
    return strong @ rng.standard_normal((few, columns)).astype(np.float32) + 0.5 * noise


def timed(fitter: LayerFitter, op: Conv, method: str) -> str:
    """The cells of one method: its distinct options, seconds for the first and for all, the error at one of them."""
    choices = dict.fromkeys(choice_of(op, method, keep) for keep in KEEP)
    seconds, errors = [], {}
    for choice in choices.keys() - {INTACT}:
        start = time.perf_counter()
        errors[choice] = fitter.error(compose(op, choice, fitter.fit(choice)))
        seconds.append(time.perf_counter() - start)
    shown = f"{errors[choice]:.3f}" if (choice := choice_of(op, method, SHOWN)) in errors else "–"
    return f"{method} | {len(seconds)} | {seconds[0]:.1f} | {sum(seconds):.0f} | {shown}"


def peak() -> float:
    """GiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
