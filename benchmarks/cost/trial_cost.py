"""What a trial costs with everything in, measured in forward passes of the original network over the same images.

    python benchmarks/cost/trial_cost.py [MODEL...] [--trials N] [--naive N] [--work DIR] [--models DIR] [--data DIR]

Each network of the models' models.json has a process of its own. Measured are the set-up with an empty cache and again
from the cache, a search that records to a new SQLite file with the unit measured between its trials, and a few plans
scored the naive way. Results are kept in the work folder, a file a network; benchmarks/results/trial_cost.md has all.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.lib.beside import SHARED, alone, loaded, peak, results
from benchmarks.lib.naive import STEPS, naive
from benchmarks.lib.stopwatch import PARTS, RECORDER, REST, UNIT, Between, Stopwatch, Unit
from benchmarks.lib.tables import publish

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

MODELS = ("resnet20_cifar10", "resnet44_cifar10", "vgg6_cifar10", "mobilenetv1_050_160_imagenet")
CALIBRATION = 1024
HEAD = "| network | layers | unit, ms | trial, units | its CPU, units | hypervolume | naive trial, units |"
SHARES = f"| network | {' | '.join((*PARTS, REST))} | all | recorder's CPU | before the first trial, s |"
SETUP = (
    "| network | cold set-up, s | units | units a layer | from the cache, s | units | "
    "peak memory after set-up / search, GiB |"
)
WAYS = f"| network | {' | '.join(STEPS)} | all |"


def main() -> None:
    """Measure every network in a process of its own, and write the tables after each."""
    args = parsed()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        found = alone(measured, network, args)
        (args.work / f"{network}.json").write_text(json.dumps(found, indent=1))
        publish("trial_cost", page(results(args.work)))
    print(page(results(args.work)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=MODELS, metavar="MODEL", help="of the models' models.json")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--naive", type=int, default=5, metavar="N", help="plans that are scored the naive way")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "trial_cost")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def measured(network: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of a network."""
    import optuna

    from lrf_optuna.processes import cores

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    model, images = loaded(network, CALIBRATION, args.models, args.data, args.work)
    with tempfile.TemporaryDirectory(dir=args.work) as place:
        return {
            "network": network,
            "trials": args.trials,
            "cores": cores(),
            "load": os.getloadavg()[0],
        } | phases(model, images, args, Path(place))


def phases(model: Any, images: Any, args: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Set-ups, searches and the naive way of a model; `place` is an empty folder."""
    cold, proxy = set_up(model, images, place / "cache")
    unit = Unit(proxy)
    unit.measure(9)
    found = {"images": len(proxy.scored), "layers": len(proxy.sites), "cold": cold, "set-up peak": peak()}
    found["warm"], proxy = set_up(model, images, place / "cache")
    unit.measure(9)
    found["unit"] = float(np.median(unit.wall))
    found["search"] = search(proxy, unit, args.trials, place / "search.db")
    found["peak"] = peak()
    found["naive"] = naive(proxy, unit, args.naive, place / "naive.db")
    return found


def set_up(model: Any, images: Any, cache: Path) -> tuple[float, Proxy]:
    """Seconds until a search can begin, and the proxy."""
    from lrf_optuna.scoring.proxy import Proxy

    start = time.perf_counter()
    proxy = Proxy(model, images, cache=cache)
    proxy.table()
    return time.perf_counter() - start, proxy


def search(proxy: Proxy, unit: Unit, trials: int, path: Path) -> dict[str, Any]:
    """A search into a new SQLite file, and the parts of its time; its graph is traced anew."""
    import tensorflow as tf

    from lrf_optuna.plans.front import Front
    from lrf_optuna.search.loop import search_front
    from lrf_optuna.storage.study import StudyStore

    table = proxy.table()
    proxy.network.compiled = tf.function(proxy.network.compute_logits, reduce_retracing=True)
    unit.wall, unit.cpu = [], []
    watch = Stopwatch()
    between = Between(watch, unit)
    with watch.running():
        start = time.process_time()
        store = StudyStore.open(f"sqlite:///{path}", "s", objectives=tuple(proxy.objectives), identity={})
        candidates = search_front(proxy, table, trials=trials, store=store, progress=between)
        cpu = time.process_time() - start - sum(unit.cpu)
    if not unit.wall:
        unit.measure()
    recorder = watch.cpu.pop(RECORDER, 0.0)
    return {
        "unit": float(np.median(unit.wall)),
        "unit cpu": float(np.median(unit.cpu)),
        "wall": {part: watch.wall.get(part, 0.0) for part in (*PARTS, REST)},
        "own cpu": {part: watch.cpu.get(part, 0.0) for part in (*PARTS, REST)},
        "measuring": watch.wall.get(UNIT, 0.0),
        "recorder": recorder,
        "cpu": cpu,
        "first": between.came[0][0],
        "volume": Front.of(candidates).volume,
        "trials": trials,
    }


def page(rows: list[dict[str, Any]]) -> str:
    """The tables of all networks that were measured, and the definition of a unit."""
    blocks = []
    for head, line in ((HEAD, trial_line), (SHARES, shares_line), (SETUP, set_up_line), (WAYS, naive_line)):
        blocks.append("\n".join([head, "|" + "---|" * (head.count("|") - 1), *map(line, rows)]))
    images, cores, trials = (
        " or ".join(map(str, sorted({row[key] for row in rows}))) for key in ("images", "cores", "trials")
    )
    return "\n\n".join([*blocks, ABOUT.format(images=images, cores=cores, trials=trials)]) + "\n"


def units(search: dict[str, Any]) -> float:
    """Units of time that a trial of a search takes."""
    return sum(search["wall"].values()) / search["trials"] / search["unit"]


def trial_line(row: dict[str, Any]) -> str:
    """A network in the first table."""
    found, ways = row["search"], row["naive"]
    slow = sum(ways["wall"].values()) / ways["plans"] / ways["unit"]
    cpu = found["cpu"] / found["trials"] / found["unit cpu"]
    cells = f"{1000 * found['unit']:.1f} | **{units(found):.2f}** | {cpu:.2f} | {found['volume']:.4f} | {slow:.0f}"
    return f"| {row['network']} | {row['layers']} | {cells} |"


def shares_line(row: dict[str, Any]) -> str:
    """A network in the table of the main thread's parts: on the clock, and in brackets on the processor."""
    found = row["search"]
    each = found["trials"] * found["unit"]
    cells = [f"{found['wall'][part] / each:.3f} ({found['own cpu'][part] / each:.3f})" for part in (*PARTS, REST)]
    cpu = sum(found["own cpu"].values()) / each
    whole = f"{units(found):.2f} ({cpu:.2f}) | {found['recorder'] / each:.3f} | {found['first']:.1f}"
    return f"| {row['network']} | {' | '.join(cells)} | {whole} |"


def set_up_line(row: dict[str, Any]) -> str:
    """A network in the table of set-ups."""
    unit = row["unit"]
    cold = f"{row['cold']:.1f} | {row['cold'] / unit:.0f} | {row['cold'] / unit / row['layers']:.1f}"
    memory = f"{row['set-up peak']:.2f} / {row['peak']:.2f}"
    return f"| {row['network']} | {cold} | {row['warm']:.1f} | {row['warm'] / unit:.0f} | {memory} |"


def naive_line(row: dict[str, Any]) -> str:
    """A network in the table of the naive way, in units."""
    ways = row["naive"]
    cells = [ways["wall"][step] / ways["plans"] / ways["unit"] for step in STEPS]
    return f"| {row['network']} | {' | '.join(f'{cell:.1f}' for cell in (*cells, sum(cells)))} |"


ABOUT = """A *unit* is one forward pass of the original network over the {images} images that score a plan. It is
compiled, has the network's own weights, takes as many images at a time as the search, and runs in the same threads on
{cores} cores. It is measured three times after every hundred trials of the search, in the same process, when all
trials are recorded; its median counts. *Trial*: all seconds of a search of {trials} trials without the unit's own
passes, divided by the number of trials. The seconds run from opening a new SQLite file until the last trial is read
back: initial plans, sampling, composing, tracing the graph, passes, comparing and recording. *Its CPU*: processor
seconds of all threads, in processor seconds of a unit. The second table has the parts of the search's main thread in
units a trial, in brackets the time on the processor. *Naive*: a random method and keep for each layer in a study of
Optuna's own SQLite storage, every kernel factorized without data, the model rebuilt, and its predictions compared.
*Cold*: with an empty cache."""

if __name__ == "__main__":
    main()
