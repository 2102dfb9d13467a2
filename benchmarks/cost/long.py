"""A long study: the cost of its last trials beside the first ones, its memory, its database, and its resumption.

    python benchmarks/cost/long.py [--networks NAME...] [--at TRIAL...] [--width N]
                                   [--work DIR] [--models DIR] [--data DIR]

The networks are one of a hundred small convolutions on images of noise (`deep100`) and networks of the models'
models.json, each in a process of its own. A search records to a new SQLite file; the last of `--at` is the number of
its trials. Trials are timed around each of `--at`. Then a new process searches for one trial more. Writes
benchmarks/results/long.md after each network, with all networks of the work folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.lib.beside import SHARED, alone, loaded, results
from benchmarks.lib.stopwatch import Between, Stopwatch, replaced
from benchmarks.lib.tables import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from lrf_optuna.scoring.option_table import OptionTable
    from lrf_optuna.scoring.proxy import Proxy

DEEP = "deep100"
LAYERS, CHANNELS, SIZE, IMAGES, BRANCH = 100, 16, 8, 512, 0.4
"""Of the deep network. The weight of a residual branch, the last number, keeps signals from dying or exploding."""
METHODS, KEEPS = ("channel_svd", "spatial_svd", "tucker2"), (0.1, 0.25, 0.45, 0.7)
"""Few, so that the set-up is short."""
AT, WIDTH = (200, 1000, 2500, 5000), 100


def main() -> None:
    """Search on every network, resume, and write the table after each."""
    args = parsed()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        for file in args.work.glob(f"{network}.db*"):
            file.unlink()
        found = alone(searched, network, args)
        found |= alone(resumed, network, args)
        (args.work / f"{network}.json").write_text(json.dumps(found))
        publish("long", page(results(args.work)))
    print(page(results(args.work)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=(DEEP, "resnet20_cifar10"), metavar="NAME")
    parser.add_argument("--at", type=int, nargs="+", default=AT, metavar="TRIAL", help="the last is how many there are")
    parser.add_argument("--width", type=int, default=WIDTH, metavar="N", help="trials that are timed around each")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "long")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def deep(layers: int = LAYERS, channels: int = CHANNELS) -> Any:
    """A residual network of 3 x 3 convolutions with random weights; its output is the mean of the last maps."""
    import keras

    keras.utils.set_random_seed(0)
    kept = {"padding": "same", "use_bias": False, "kernel_initializer": "lecun_normal"}
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(channels, 3, name="conv0", **kept)(inputs)
    for i in range(1, layers - 1, 2):
        y = keras.layers.Conv2D(channels, 3, activation="tanh", name=f"conv{i}", **kept)(x)
        y = keras.layers.Conv2D(channels, 3, name=f"conv{i + 1}", **kept)(y)
        x = keras.layers.Add()([x, keras.layers.Rescaling(BRANCH)(y)])
    if layers % 2 == 0:
        x = keras.layers.Conv2D(channels, 3, name=f"conv{layers - 1}", **kept)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def made(network: str, args: argparse.Namespace) -> tuple[Proxy, OptionTable]:
    """The proxy of a network and its table, from the work folder's cache where they are there."""
    import optuna

    from lrf_optuna.scoring.proxy import Proxy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if network == DEEP:
        noise = np.random.default_rng(0).standard_normal((IMAGES, SIZE, SIZE, 3)).astype(np.float32)
        model, images = deep(), noise
    else:
        model, images = loaded(network, IMAGES, args.models, args.data, args.work)
    proxy = Proxy(model, images, methods=METHODS, cache=args.work / "cache")
    return proxy, proxy.table(KEEPS)


class Noted(Between):
    """Notes the memory too, at some of the trials."""

    def __init__(self, watch: Stopwatch, at: tuple[int, ...]) -> None:
        super().__init__(watch)
        self.at, self.memory = at, dict[int, float]()

    def step(self, n: int, note: str = "") -> None:
        """After each step of the search."""
        super().step(n, note)
        for at in self.at:
            if at <= len(self.came) and at not in self.memory:
                self.memory[at] = resident()


def resident() -> float:
    """GiB that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def searched(network: str, args: argparse.Namespace) -> dict[str, Any]:
    """A search into a new file: the trials' times and the memory."""
    from lrf_optuna.search.loop import search_front
    from lrf_optuna.storage.study import StudyStore

    proxy, table = made(network, args)
    watch, at = Stopwatch(), tuple(args.at)
    noted = Noted(watch, at)
    with watch.running():
        store = StudyStore.open(url(network, args), "s", objectives=tuple(proxy.objectives), identity={})
        search_front(proxy, table, trials=at[-1], store=store, progress=noted)
    around = {n: window(noted.came, *edges(n, args.width, at[-1])) for n in at}
    size = sum(file.stat().st_size for file in args.work.glob(f"{network}.db*")) / 2**20
    facts = {"network": network, "layers": len(proxy.sites), "trials": at[-1], "seconds": noted.came[-1][0]}
    facts |= {"wall": watch.wall, "cpu": watch.cpu}
    return facts | {"around": around, "memory": noted.memory, "database": size}


def edges(at: int, width: int, trials: int) -> tuple[int, int]:
    """The first and the last trial that are timed around one; where possible half of them come after it."""
    start = max(0, min(at - width // 2, trials - width))
    return start, min(start + width, trials)


def window(came: list[tuple[float, float, float]], start: int, end: int) -> dict[str, float]:
    """Milliseconds of the trials from `start` to `end`: in all, without passes, on the processor, and their mean."""
    whole, passing, cpu = 1000 * np.diff(np.array([(0.0, 0.0, 0.0), *came])[start : end + 1], axis=0).T
    found = {"ms": np.median(whole), "own": np.median(whole - passing), "cpu": np.median(cpu), "mean": np.mean(whole)}
    return {name: float(value) for name, value in found.items()}


def resumed(network: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds until a search for one trial more asks for it, after its set-up."""
    from lrf_optuna.search.loop import Search, search_front
    from lrf_optuna.storage.study import StudyStore

    proxy, table = made(network, args)
    asked: list[float] = []

    def noting(next_trial: Callable[[Search], Any]) -> Callable[[Search], Any]:
        def noted(search: Search) -> Any:
            asked.append(time.perf_counter())
            return next_trial(search)

        return noted

    start = time.perf_counter()
    with replaced(Search, "next_trial", noting):
        store = StudyStore.read(url(network, args), "s")
        search_front(proxy, table, trials=args.at[-1] + 1, store=store)
    return {"resumed": asked[0] - start, "there": store.count()}


def url(network: str, args: argparse.Namespace) -> str:
    """The database of a network."""
    return f"sqlite:///{args.work / network}.db"


def page(rows: list[dict[str, Any]]) -> str:
    """The table of all networks that were measured."""
    lines = [*HEAD, *(line for row in rows for line in lines_of(row))]
    ends = [
        f"| {row['network']} | {row['layers']} | {row['trials']:,} | {row['seconds']:.0f} | {row['database']:.0f} | "
        f"{row['resumed']:.1f} |"
        for row in rows
    ]
    return "\n".join([*lines, "", *ENDS, *ends, "", ABOUT]) + "\n"


def lines_of(row: dict[str, Any]) -> list[str]:
    """A network's lines: one for each place in the study."""
    lines, first = [], next(iter(row["around"].values()))
    for at, one in row["around"].items():
        times = f"{one['ms']:.1f} | {one['ms'] / first['ms']:.2f} | {one['own']:.1f} | {one['own'] / first['own']:.2f}"
        cpu = f"{one['cpu']:.1f} | {one['cpu'] / first['cpu']:.2f}"
        lines.append(
            f"| {row['network']} | {int(at):,} | {times} | {cpu} | {one['mean']:.1f} | {row['memory'][at]:.2f} |"
        )
    return lines


HEAD = (
    "| network | trial | ms | of the first | without the pass, ms | of the first | CPU, ms | of the first | "
    "mean, ms | memory, GiB |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
ENDS = ("| network | layers | trials | seconds | database, MiB | resumed after, s |", "|---|---|---|---|---|---|")
ABOUT = f"""Medians (and the mean) of the trials around each; *CPU*: processor seconds of the main thread.
*Memory*: resident in the process at that trial. *Resumed*: from opening the database, in a new process after its
set-up, until the first new trial is asked for. `{DEEP}` has {LAYERS} convolutions of 3 x 3 x {CHANNELS} x {CHANNELS}
on {SIZE} x {SIZE} maps; methods {", ".join(METHODS)}, keeps {", ".join(map(str, KEEPS))}."""

if __name__ == "__main__":
    main()
