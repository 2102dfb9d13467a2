"""The memory of a network as large as VGG-16: how much the process had at most by the end of each phase.

    python benchmarks/cost/memory.py [--images N] [--trials N] [--keeps SHARE...] [--methods NAME...] [--work DIR]

keras.applications.VGG16 without weights, 224 x 224 pixels, 138 million parameters, on images of noise. A
quarter of the images score plans. Fits are kept in the work folder, and the second set-up starts from them. Writes
benchmarks/results/memory.md: seconds and peak resident memory of set-up, search, build, and that of the cache.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import optuna

from benchmarks.lib.tables import publish

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data
    from lrf_optuna.scoring.option_table import OptionTable
    from lrf_optuna.scoring.proxy import Proxy

T = TypeVar("T")
HEAD = ("| phase | seconds | peak memory so far, GiB |", "|---|---|---|")


def main() -> None:
    """Run the phases and write the table."""
    args = parsed()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    import keras

    from lrf_optuna.data.load_data import data_from_arrays

    phases, kept = Phases(), args.work / "cache"
    shutil.rmtree(kept, ignore_errors=True)
    keras.utils.set_random_seed(0)
    model = phases.run("load", lambda: keras.applications.VGG16(weights=None, classifier_activation=None))
    data = data_from_arrays(noise(args.images), input_shape=(224, 224, 3), classes=1000)
    size = compressed(model, data, args, kept, phases)
    phases.run("set-up again, from the cache", lambda: made(model, data, args, kept))
    phases.rows.append(f"| (the cache: {size / 2**30:.1f} GiB on disk) | | |")
    methods, keeps = ", ".join(args.methods or ["all methods"]), ", ".join(f"{keep:g}" for keep in args.keeps)
    about = f"VGG16, {args.images} images of 224 x 224, {methods}, keeps {keeps}, {args.trials} trials."
    publish("memory", "\n".join([*HEAD, *phases.rows, "", about]) + "\n")


def made(model: Any, data: Data, args: argparse.Namespace, kept: Path) -> tuple[Proxy, OptionTable]:
    """The proxy and its table."""
    from lrf_optuna.scoring.proxy import Proxy

    images = data.preprocess(data.calibration(args.images, 0).pixels)
    proxy = Proxy(model, images, methods=args.methods, cache=kept)
    return proxy, proxy.table(args.keeps)


def compressed(model: Any, data: Data, args: argparse.Namespace, kept: Path, phases: Phases) -> int:
    """Set-up, search, build; the bytes of the cache. Their memory is free afterwards."""
    from lrf_optuna.pipeline.build import build
    from lrf_optuna.plans.front import pareto_front
    from lrf_optuna.search.loop import search_front
    from lrf_optuna.selection.choose import choose_point
    from lrf_optuna.selection.plan_refits import refits_on_validation
    from lrf_optuna.selection.validation import validation_of

    proxy, table = phases.run("set-up", lambda: made(model, data, args, kept))
    found = phases.run("search", lambda: search_front(proxy, table, trials=args.trials, population=10))
    chosen, _ = choose_point(pareto_front(found))
    images = data.calibration(args.images, 0).pixels[len(proxy.scored) :]
    corrections = refits_on_validation(validation_of(proxy, data, images, 0), images)
    phases.run("build", lambda: build(model, chosen.plan, proxy, corrections.result(chosen.plan)))
    return proxy.cache.size if proxy.cache else 0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--keeps", type=float, nargs="+", default=[0.1, 0.3], metavar="SHARE")
    parser.add_argument("--methods", nargs="*", metavar="NAME", help="all where none is named")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "memory")
    return parser.parse_args()


def noise(count: int) -> dict[str, Any]:
    """Images of noise with labels, enough for a study."""
    rng = np.random.default_rng(0)
    images = {part: rng.integers(0, 256, (n, 224, 224, 3), np.uint8) for part, n in (("train", count), ("test", 8))}
    images["val"] = images["test"]
    labels = {part: np.arange(len(pixels)) % 1000 for part, pixels in images.items()}
    return {f"x_{part}": pixels for part, pixels in images.items()} | {f"y_{part}": y for part, y in labels.items()}


class Phases:
    """Runs one phase after the other and writes down the seconds and the memory of each."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def run(self, name: str, work: Callable[[], T]) -> T:
        """The result of a phase."""
        start = time.perf_counter()
        found = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        self.rows.append(f"| {name} | {time.perf_counter() - start:.0f} | {peak:.1f} |")
        print(self.rows[-1], flush=True)
        return found


if __name__ == "__main__":
    main()
