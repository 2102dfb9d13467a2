"""Which fast measure predicts the accuracy of a compressed network: Kendall tau of many measures, on real networks.

    python benchmarks/quality/proxy.py [--networks NAME...] [--plans N] [--trials N] [--tuned N]
                               [--work DIR] [--models DIR] [--data DIR]

Plans of three kinds are measured in one pass each: random ones, the Lagrangian sweep, and the front of a search.
Measurements of a network are kept in the work folder as JSON, so that a run goes on after an interrupted one. The page,
benchmarks/results/proxy.md, is written from all networks of the work folder (see lib/ranking.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import optuna

from benchmarks.lib.beside import SHARED, read
from benchmarks.lib.ranking import COUNTED, COUNTS, NETWORKS, Found, page
from benchmarks.lib.tables import publish
from benchmarks.lib.taps import TappedPass
from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import batches_of
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import SCORED_IMAGES, Proxy
from lrf_optuna.scoring.sensitivity import measure_sensitivity
from lrf_optuna.scoring.similarity import SIMILARITIES, cosine, similarity_of_finite
from lrf_optuna.search.allocation import lagrangian_sweep
from lrf_optuna.search.loop import search_front
from lrf_optuna.sections import KEEP, TuneSpec
from lrf_optuna.selection.plan_refits import stage_kernels
from lrf_optuna.training.finetune import finetune

CALIBRATION = 1024
"""Images that the proxy gets, at most three quarters of those there are: the others score too."""
TEST = 2000
"""Test images, on which the true accuracy of a plan is measured."""
TUNED = NETWORKS[0]
MOST_DRAWS = 10
"""Random plans are drawn at most, for every one that is wanted: of a small network many are the same."""
STEPS, BATCH, RATE, VALIDATION = 100, 128, 3e-4, 512
Item = TypeVar("Item")


def main() -> None:
    """Measure every network that has not been, and write the page after each."""
    args = parsed()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        complete(network, args)
        found = {name: json.loads(cached(name, args.work).read_text()) for name in known(args.work)}
        publish("proxy", page(found))
        keras.backend.clear_session()
        gc.collect()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="of the models' models.json")
    parser.add_argument("--plans", type=int, default=150, help="for each network, a third of every kind")
    parser.add_argument("--trials", type=int, default=200, help="of the search whose front is taken")
    parser.add_argument("--tuned", type=int, default=12, help=f"plans of {TUNED} that are fine-tuned")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "proxy")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def cached(network: str, work: Path) -> Path:
    """Where a network's figures are kept."""
    return work / f"{network}.json"


def known(work: Path) -> list[str]:
    """The networks that have been measured, in the order of `NETWORKS`, others after them."""
    there = sorted(file.stem for file in work.glob("*.json"))
    return sorted(there, key=lambda name: NETWORKS.index(name) if name in NETWORKS else len(NETWORKS))


def complete(network: str, args: argparse.Namespace) -> None:
    """Measure what is missing of a network, and keep it: after all its plans, then after every tuned one."""
    file, asked = cached(network, args.work), {"plans": args.plans, "trials": args.trials}
    found = json.loads(file.read_text()) if file.exists() else {}
    wanted = args.tuned if network == TUNED else 0
    fresh = found.get("asked") != asked
    if not fresh and sum("tuned" in row for row in found["rows"]) >= wanted:
        return
    model, data = read(network, args.models, args.data, args.work)
    proxy, pool = prepared(model, data)
    if fresh:
        found = {"asked": asked} | measured(proxy, pool, data, args)
        file.write_text(json.dumps(found))
    for row in spread(sorted(found["rows"], key=lambda row: row["accuracy"]), wanted):
        if "tuned" not in row:
            row["tuned"] = tuned(model, proxy, data, Plan.from_dict(row["plan"]))
            print(f"{network} tuned: {row['accuracy']:.2%} -> {row['tuned']:.2%}", flush=True)
            file.write_text(json.dumps(found))


def prepared(model: Any, data: Data) -> tuple[Proxy, Array]:
    """The proxy of a network, and all images that may score plans: its own first, none that a kernel was fitted to."""
    train = data.calibration(len(data.train), 0).pixels
    count = min(CALIBRATION, 3 * len(train) // 4)
    proxy = Proxy(model, data.preprocess(train[:count]))
    others = np.concatenate([train[count : count + max(COUNTS)], data.val.pixels])[: max(COUNTS)]
    return proxy, np.concatenate([proxy.scored.images, data.preprocess(others)])[: max(COUNTS)]


def measured(proxy: Proxy, pool: Array, data: Data, args: argparse.Namespace) -> Found:
    """The original's accuracy; for every plan its kind, its true accuracy and its value by each measure."""
    table = proxy.table(KEEP)
    test = data.test.take(slice(TEST))
    pixels, labels = data.preprocess(test.pixels), test.labels
    tapped = TappedPass(proxy)
    errors, reference = Errors(proxy, table), maps_of(tapped, proxy, pool, Plan.of({}))
    rows = []
    for kind, plan in plans_of(proxy, table, args.plans, args.trials):
        right = np.argmax(proxy.logits(plan, pixels), axis=1) == labels
        maps = maps_of(tapped, proxy, pool, plan)
        values = (
            alike(cut(reference, SCORED_IMAGES), cut(maps, SCORED_IMAGES)) | errors.of_plan(plan) | left(proxy, plan)
        )
        true = {"accuracy": float(right.mean()), "halves": [float(right[i::2].mean()) for i in (0, 1)]}
        rows.append(
            {"kind": kind, "plan": plan.to_dict(), "values": values, "counts": by_count(reference, maps)} | true
        )
        print(f"{len(rows)} {kind}: {true['accuracy']:.2%}", flush=True)
    original = float(np.mean(np.argmax(proxy.logits(Plan.of({}), pixels), axis=1) == labels))
    return {"original": original, "test": len(labels), "rows": rows}


def plans_of(proxy: Proxy, table: OptionTable, count: int, trials: int) -> list[tuple[str, Plan]]:
    """(kind, plan), at most a third of each kind; no plan comes twice, and every plan changes something."""
    swept = dict.fromkeys(table.decode(row) for row in lagrangian_sweep(table))
    evolved = [candidate.plan for candidate in pareto_front(search_front(proxy, table, trials=trials))]
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys(random_plan(table, rng) for _ in range(MOST_DRAWS * (count // 3)))
    kinds = {
        "sweep": spread([plan for plan in swept if plan.changed], count // 3),
        "front": spread([plan for plan in evolved if plan.changed and plan not in swept], count // 3),
    }
    taken = {plan for plans in kinds.values() for plan in plans}
    kinds["random"] = [plan for plan in drawn if plan.changed and plan not in taken][: count // 3]
    return [(kind, plan) for kind, plans in kinds.items() for plan in plans]


def random_plan(table: OptionTable, rng: np.random.Generator) -> Plan:
    """In every layer any option, or intact: the share of intact layers, and the least keep, are the plan's own.

    Without those two nearly all random plans are broken beyond any use.
    """
    intact, least = rng.random(), rng.choice(KEEP)
    choices = {}
    for site, options in table.items():
        open_to = [option.choice for option in options if option.keep >= least and option.choice != INTACT]
        alone = not open_to or rng.random() < intact
        choices[site] = INTACT if alone else open_to[rng.integers(len(open_to))]
    return Plan.of(choices)


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items, evenly spaced, the first and the last among them."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def maps_of(tapped: TappedPass, proxy: Proxy, images: Array, plan: Plan) -> dict[str, Array]:
    """The maps at all taps for many images: the only pass that similarities need."""
    swaps = proxy.dense_kernels(plan)
    parts = [tapped.run(tapped.as_tensors(part), swaps) for part in batches_of(images, 256)]
    return {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]}


def cut(maps: dict[str, Array], count: int) -> dict[str, Array]:
    """The maps of the first images."""
    return {tap: values[:count] for tap, values in maps.items()}


def alike(reference: dict[str, Array], maps: dict[str, Array]) -> dict[str, float]:
    """Every similarity: the mean over the taps, and at each of them (one deep map counts as first and last)."""
    deep = [tap for tap in reference if tap != OUTPUT] or [OUTPUT]
    places = {"last map": deep[0], "last vector": deep[-1], "logits": OUTPUT}
    found = {}
    for name, similar in SIMILARITIES.items():
        values = {tap: similarity_of_finite(similar, reference[tap], maps[tap]) for tap in reference}
        found[f"{name}, mean over taps"] = float(np.mean(list(values.values())))
        found |= {f"{name}, {place}": values[tap] for place, tap in places.items()}
    return found


def by_count(reference: dict[str, Array], maps: dict[str, Array]) -> dict[str, dict[int, float]]:
    """The cosine over the first images, as the mean over the taps and at the logits alone."""
    found: dict[str, dict[int, float]] = {measure: {} for measure in COUNTED}
    for count in (count for count in COUNTS if count <= len(reference[OUTPUT])):
        values = {tap: similarity_of_finite(cosine, reference[tap][:count], maps[tap][:count]) for tap in reference}
        for measure, value in zip(COUNTED, (float(np.mean(list(values.values()))), values[OUTPUT]), strict=True):
            found[measure][count] = value
    return found


def left(proxy: Proxy, plan: Plan) -> dict[str, float]:
    """How much of the network a plan leaves, as if size alone said how good it is."""
    found = proxy.measure(plan)
    return {"parameters left": found.params_share, "MACs left": found.macs_share}


class Errors:
    """What needs no pass of the network: the errors of each layer's kernel, worked out once for every choice."""

    def __init__(self, proxy: Proxy, table: OptionTable) -> None:
        self.proxy = proxy
        self.harms = {site: self.harm(site, [option.choice for option in table[site]]) for site in table}
        self.plain = {name: LayerFitter(site.op, proxy.kernels.originals[name]) for name, site in proxy.sites.items()}
        self.known: dict[tuple[str, Choice], tuple[float, ...]] = {}

    def harm(self, site: str, choices: Sequence[Choice]) -> Callable[[float], float]:
        """The network's loss by the error of a site, as in the option table, also for choices outside the table."""
        errors = {choice: 0.0 if choice == INTACT else self.proxy.kernels.error(site, choice) for choice in choices}
        return measure_sensitivity(self.proxy, site, KEEP, errors)

    def of(self, site: str, choice: Choice) -> tuple[float, ...]:
        """Of the outputs on data, the same as the table weighs it, and of the weights: as fitted, and plain."""
        if (site, choice) not in self.known:
            op, kernel, fitted = (
                self.proxy.sites[site].op,
                self.proxy.kernels.originals[site],
                self.proxy.kernels.dense(site, choice),
            )
            plain = compose(op, choice, self.plain[site].fit(choice))
            weights = (float(np.linalg.norm(kernel - other) / np.linalg.norm(kernel)) for other in (fitted, plain))
            error = self.proxy.kernels.error(site, choice)
            self.known[site, choice] = (error, self.harms[site](error), *weights)
        return self.known[site, choice]

    def of_plan(self, plan: Plan) -> dict[str, float]:
        """Minus the error of a plan by every rule, so that more is better."""
        each = np.array([self.of(site, choice) for site, choice in plan.changed.items()])
        total, largest, sites = each.sum(axis=0), each.max(axis=0), len(self.proxy.sites)
        return {
            "data-aware errors, sum": -total[0],
            "data-aware errors by sensitivity, sum": -total[1],
            "weight error as fitted, mean": -total[2] / sites,
            "weight error as fitted, max": -largest[2],
            "weight error of plain factorizations, mean": -total[3] / sites,
            "weight error of plain factorizations, max": -largest[3],
        }


def tuned(model: Any, proxy: Proxy, data: Data, plan: Plan) -> float:
    """The true accuracy of a plan after a short fine-tune of what was scored."""
    keras.utils.set_random_seed(0)
    built = materialize(model, plan, stage_kernels(proxy, plan))
    parts = {"train": data.train.take(slice(STEPS * BATCH)), "val": data.val.take(slice(VALIDATION))}
    finetune(built, model, dataclasses.replace(data, **parts), TuneSpec(epochs=1, rate=RATE, batch=BATCH))
    return Evaluator(built, data.preprocess).metric(data, data.test.take(slice(TEST)))


if __name__ == "__main__":
    main()
