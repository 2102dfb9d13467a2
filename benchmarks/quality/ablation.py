"""What each part of the search is worth: one is switched off at a time, on the same networks, images and trials.

    python benchmarks/quality/ablation.py [NETWORK...] [--rows ROW...] [--trials N] [--seeds N...] [--work DIR]
                                          [--models DIR] [--data DIR]

The front of every search is scored again on 2,048 other images. Reported are the hypervolume of that front, and the
test accuracy, without training, of the point with the least loss within each of six budgets of the parameters. Rows
that have been measured into the work folder are not run again. Writes benchmarks/results/ablation.md after every row.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.lib.beside import SHARED, read
from benchmarks.lib.tables import publish
from lrf_optuna.plans.front import Front, pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.scoring import proxy as proxy_module
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import cosine
from lrf_optuna.search.children import ChildGenerator
from lrf_optuna.search.initial_plans import budget_plans, initial_plans
from lrf_optuna.search.loop import search_front
from lrf_optuna.search.surrogate import Surrogate, layer_damages
from lrf_optuna.sections import BUDGETS

NETWORKS = ("cnn_fashion", "lenet5_mnist", "vgg6_cifar10", "resnet20_cifar10")
CALIBRATION, RESCORED = 1024, 2048
"""Training images that layers are fitted to and plans are scored on, and others that fronts are scored on again."""
AS_IT_IS = "the search as it is"
NO_SEARCH, INITIAL = "no search: the Lagrangian plan of each budget", "the initial plans alone"
Patches = Callable[[], list[AbstractContextManager[Any]]]


@dataclass(frozen=True)
class Row:
    """A search with one thing switched off: keywords of `search_front`, patches, methods, images that score a plan."""

    options: dict[str, Any] = field(default_factory=dict)
    patches: Patches = list
    methods: tuple[str, ...] | None = None
    images: int | None = None
    seeds: int = 9
    """Seeds that are run at most: one where nothing is random, or where a search takes hours."""


def scaled_sum(surrogate: Surrogate, plans: Any) -> Any:
    """The surrogate's prediction without its Gaussian process: the scaled sum of the layers' damages."""
    return -np.expm1(-surrogate.scale * layer_damages(surrogate.damages, plans).sum(axis=1))


def any_child(generator: ChildGenerator, costs: Any, front: Any) -> int:
    """Any of the children that were drawn."""
    return int(generator.rng.integers(len(costs)))


ROWS = {
    AS_IT_IS: Row(),
    NO_SEARCH: Row(seeds=1),
    INITIAL: Row(seeds=1),
    "Optuna's NSGA-II, same initial plans": Row({"sampler": "nsga2"}),
    "Optuna's GPSampler, same initial plans": Row({"sampler": "gp"}, seeds=1),
    "no initial plans": Row({"initial_plans": False}),
    "no Gaussian process": Row(patches=lambda: [patch.object(Surrogate, "losses", scaled_sum)]),
    "children not chosen by the surrogate": Row(patches=lambda: [patch.object(ChildGenerator, "choose", any_child)]),
    "methods cp, cp3, svd, kronecker": Row(methods=("cp", "cp3", "svd", "kronecker")),
    "methods cp3, svd": Row(methods=("cp3", "svd")),
    "32 images score a plan": Row(images=32),
    "64 images score a plan": Row(images=64),
    "128 images score a plan": Row(images=128),
    "256 images score a plan": Row(images=256),
}
HEAD = ("row", "seeds", "hypervolume", "left", "test accuracy", *(f"{b:.0%}" for b in BUDGETS), "table", "search")
ABOUT = f"""Each row is a search of 300 trials with one thing changed. The hypervolume is that of its front, scored
again on {RESCORED:,} images that the search has not seen. *Left*: by how much the volume outside the front is larger
than that of the search as it is; minus is better. Test accuracies, in percent, are those of the point with the least
loss within each budget of the parameters, without refit and training, and their mean. *Table*: CPU seconds for the
option table, of a cold cache in a network's first row of its kind, else little. *Search*: CPU time of a trial, in
passes over 128 images. The row of GPSampler is missing where it was stopped: on vgg6 it had not ended its 300 trials
after half an hour, in which the other rows take three minutes each."""


class Judge:
    """Scores plans on images that the search has not seen, and measures their test accuracy; remembers both."""

    def __init__(self, images: Any, data: Any) -> None:
        self.images, self.data, self.test = images, data, data.preprocess(data.test.pixels)
        self.losses: dict[Plan, float] = {}
        self.accuracies: dict[Plan, float] = {}

    def loss(self, proxy: Proxy, plan: Plan) -> float:
        """The loss of a plan on the other images."""
        if plan not in self.losses:
            reference = proxy.network.logits(self.images, {})
            self.losses[plan] = 1 - cosine(reference, proxy.logits(plan, self.images))
        return self.losses[plan]

    def accuracy(self, proxy: Proxy, plan: Plan) -> float:
        """The share of the test images that the network of a plan classifies correctly."""
        if plan not in self.accuracies:
            found = proxy.logits(plan, self.test).argmax(axis=1)
            self.accuracies[plan] = float(np.mean(found == self.data.test.labels))
        return self.accuracies[plan]


def main() -> None:
    """Run the rows that are missing, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="of the models' models.json")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", choices=list(ROWS))
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "ablation")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        model, data = read(network, args.models, args.data, args.work)
        images = data.preprocess(data.calibration(CALIBRATION + RESCORED, 0).pixels)
        judge = Judge(images[CALIBRATION:], data)
        for seed, name in ((seed, name) for seed in args.seeds for name in args.rows):
            file = args.work / f"{network}-{list(ROWS).index(name):02d}-{seed}.json"
            if file.exists() or seed >= ROWS[name].seeds:
                continue
            found = measured(name, model, images[:CALIBRATION], judge, seed, args)
            file.write_text(json.dumps({"network": network, "row": name, "seed": seed, "trials": args.trials} | found))
            print(network, name, seed, f"{found['volume']:.4f}", found["accuracies"], flush=True)
            write(args.work)


def measured(name: str, model: Any, images: Any, judge: Judge, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """What one row comes to with one seed."""
    row = ROWS[name]
    with ExitStack() as stack:
        for one in row.patches():
            stack.enter_context(one)
        if row.images:
            stack.enter_context(patch.object(proxy_module, "SCORED_IMAGES", row.images))
        proxy = Proxy(model, images, cache=args.work / "cache", methods=row.methods)
        unit, start = unit_of(proxy), cpu_seconds()
        table = proxy.table()
        prepared, start = cpu_seconds() - start, cpu_seconds()
        candidates = searched(name, proxy, table, seed, args.trials)
        seconds = cpu_seconds() - start
    return judged(judge, proxy, candidates) | {"table": prepared, "search": seconds / len(candidates) / unit}


def searched(name: str, proxy: Proxy, table: OptionTable, seed: int, trials: int) -> list[Candidate]:
    """The candidates of a row."""
    if name in (NO_SEARCH, INITIAL):
        plans = budget_plans(table) if name == NO_SEARCH else initial_plans(table, 50, {})
        return [Candidate(i, plan, proxy.costs(plan)) for i, plan in enumerate(plans)]
    return search_front(proxy, table, trials=trials, seed=seed, **ROWS[name].options)


def judged(judge: Judge, proxy: Proxy, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """The hypervolume of the front on the other images, and the test accuracy of the best point within each budget."""
    ends = pareto_front(candidates)
    points = [Candidate(p.trial, p.plan, {**p.costs, "loss": judge.loss(proxy, p.plan)}) for p in ends]
    accuracies = []
    for budget in BUDGETS:
        inside = [point for point in points if point.costs["params"] <= budget]
        best = min(inside, key=lambda point: point.costs["loss"], default=None)
        accuracies.append(judge.accuracy(proxy, best.plan) if best else None)
    return {"volume": Front.of(points).volume, "front": len(points), "accuracies": accuracies}


def unit_of(proxy: Proxy) -> float:
    """CPU seconds of one pass over 128 images, the least of five, by the images that score plans."""
    seconds = []
    for _ in range(6):
        start = time.process_time()
        proxy.network.run(proxy.scored.tensors, {})
        seconds.append(time.process_time() - start)
    return min(seconds[1:]) * 128 / len(proxy.scored)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    found = time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found + children.ru_utime + children.ru_stime


def write(work: Path) -> None:
    """The table of all rows that have been run, network by network, and their mean over the networks."""
    found = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    lines = [ABOUT, ""]
    for network in NETWORKS:
        rows = {name: [o for o in found if (o["network"], o["row"]) == (network, name)] for name in ROWS}
        if rows[AS_IT_IS]:
            lines += [f"### {network}", "", f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
            lines += [line_of(name, ones, rows[AS_IT_IS]) for name, ones in rows.items() if ones] + [""]
    publish("ablation", "\n".join(lines))


def line_of(name: str, ones: list[dict[str, Any]], base: list[dict[str, Any]]) -> str:
    """A line of the table: means over the seeds."""

    def mean(key: str, rows: list[dict[str, Any]]) -> float:
        return float(np.mean([row[key] for row in rows]))

    accuracies = 100 * np.mean([[np.nan if a is None else a for a in one["accuracies"]] for one in ones], axis=0)
    left = (mean("volume", base) - mean("volume", ones)) / (1 - mean("volume", base))
    cells = [f"{mean('volume', ones):.4f}", f"{left:+.1%}" if name != AS_IT_IS else "", f"{np.nanmean(accuracies):.2f}"]
    cells += [f"{a:.2f}" for a in accuracies]
    cells += [f"{max(one['table'] for one in ones):.0f}", f"{mean('search', ones):.2f}"]
    return f"| {name} | {len(ones)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
