"""What fitting to data is worth, step by step: the mean error of a network's layers at a few keeps, for every method.

    python benchmarks/quality/refit.py [NETWORK] [--models DIR] [--data DIR] [--work DIR]

Relative squared error of the layers' outputs, the mean over the network's sites, on images that no kernel was fitted
to. Columns: the plain factorization of the weights; whitened by what the first stage sees, with the last stage solved
for; then all stages by variable projection, in up to 40 steps (what a search does) and up to 160. Writes
benchmarks/results/refit.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.lib.beside import SHARED, loaded
from benchmarks.lib.tables import publish
from lrf_optuna.decompositions.registry import choice_of, compose
from lrf_optuna.fitting import variable_projection as projection
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.scoring.proxy import Proxy

KEEPS = 0.15, 0.35, 0.6
COUNT = 1024
STEPS = {"weights": None, "last stage": 0, "all, 40 steps": 40, "all, 160 steps": 160}
HEAD = ("| method | keep | " + " | ".join([*STEPS, "s a fit"]) + " |", "|---" * (3 + len(STEPS)) + "|")


def main() -> None:
    """Fit every option of every site in every way, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="resnet20_cifar10", help="of the models' models.json")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "methods")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    model, images = loaded(args.network, 2 * COUNT, args.models, args.data, args.work)
    proxy, other = Proxy(model, images[:COUNT]), Proxy(model, images[COUNT:])
    rows: dict[tuple[str, float], list[list[float]]] = defaultdict(list)
    with proxy.single_blas_thread():
        for name in proxy.sites:
            for key, cells in errors_of(proxy, other, name).items():
                rows[key].append(cells)
            print(name, flush=True)
    lines = [line(*key, np.mean(cells, axis=0)) for key, cells in sorted(rows.items())]
    publish("refit", "\n".join([*HEAD, *lines]) + "\n")
    print(*HEAD, *lines, sep="\n")


def errors_of(proxy: Proxy, other: Proxy, name: str) -> dict[tuple[str, float], list[float]]:
    """(method, keep) -> the error in every way of fitting, and the seconds that the search's way took."""
    op, kernel = proxy.sites[name].op, proxy.kernels.originals[name]
    judge = LayerFitter(op, kernel, other.moments[name])
    fitters = {True: LayerFitter(op, kernel, proxy.moments[name]), False: LayerFitter(op, kernel)}
    found = {}
    for method in proxy.methods_of(name)[1:]:
        for keep in KEEPS:
            choice = choice_of(op, method, keep)
            if choice == INTACT:
                continue
            cells, seconds = [], 0.0
            for steps in STEPS.values():
                start = time.perf_counter()
                with patch.multiple(projection, MOST_STEPS=steps or 0, MOST_PRODUCTS=1e12 if steps == 160 else 3e9):
                    kernels = fitters[steps is not None].fit(choice)
                seconds = time.perf_counter() - start if steps == 40 else seconds
                cells.append(judge.error(compose(op, choice, kernels)))
            found[method, keep] = [*cells, seconds]
    return found


def line(method: str, keep: float, cells: list[float]) -> str:
    """One line of the table."""
    *errors, seconds = cells
    return f"| {method} | {keep:g} | " + " | ".join(f"{error:.4f}" for error in errors) + f" | {seconds:.2f} |"


if __name__ == "__main__":
    main()
