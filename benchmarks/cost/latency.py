"""Milliseconds as an objective: how well they are predicted, and what a search for them gains, in every runtime.

    python benchmarks/cost/latency.py [NETWORK...] [--runtimes NAME...] [--trials N] [--images N] [--work DIR]
                                      [--models DIR] [--data DIR]

For every network and runtime five searches of as many trials: for milliseconds, for MACs, and for milliseconds with one
method for convolutions. From each front the best points within six budgets are measured as whole networks, in turns,
and their test accuracy is measured as they were scored, without refit and training; so are the Lagrangian plans of the
same budgets, without any search. Rows that are in the work folder are not measured again. Writes
benchmarks/results/latency.md after every runtime. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.beside import SHARED, read
from benchmarks.lib.tables import publish
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.runtimes.latency import Place
from lrf_optuna.runtimes.layer_timer import LayerTimer
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.space_limits import SpaceLimits
from lrf_optuna.search.allocation import lagrangian_within
from lrf_optuna.search.loop import search_front

NETWORKS = ("cnn_fashion", "resnet20_cifar10", "vgg6_cifar10", "mobilenetv1_050_160_imagenet")
RUNTIMES = ("litert", "onnx")
BUDGETS = (0.9, 0.75, 0.6, 0.5, 0.42, 0.35)
"""Shares of the milliseconds, or of the MACs, within which a front's best point is measured."""
DROPS = (0.5, 1.0, 2.0, 4.0)
"""Points of test accuracy at which milliseconds are compared."""
MIX, BY_MACS, LAGRANGIAN = "milliseconds", "MACs", "milliseconds, without a search"
SINGLE = {f"milliseconds, {name} alone": (name, "svd") for name in ("cp3", "spatial_svd", "tucker2")}
"""Name of a search with one method for convolutions -> its methods; Dense layers have `svd`."""
CALIBRATION = 1024
RANDOM_PLANS = 12
"""Random plans beside those of the fronts by which the error of the predictions is measured."""


def main() -> None:
    """Measure what is missing, and write the page after every runtime of a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="of the models' models.json")
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES, metavar="NAME")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--images", type=int, default=5000, help="test images")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "latency")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        for runtime in args.runtimes:
            file = args.work / f"{network}-{runtime}.json"
            if not file.exists():
                found = Bench(network, runtime, args).measured()
                file.write_text(json.dumps({"network": network, "runtime": runtime, "trials": args.trials, **found}))
            write(args.work)


class Bench:
    """One network in one runtime."""

    def __init__(self, network: str, runtime: str, args: argparse.Namespace) -> None:
        self.args = args
        self.model, self.data = read(network, args.models, args.data, args.work)
        self.images = self.data.preprocess(self.data.calibration(CALIBRATION, 0).pixels)
        self.timer = LayerTimer(self.model, self.images[:1], Place(runtime, 1, 1), args.work / "cache")
        self.multiple = self.timer.rank_multiple()
        self.test = self.data.test.sample(args.images, 0)

    def proxy(self, methods: Sequence[str] | None = None, by_macs: bool = False) -> Proxy:
        """The proxy of a search; that for MACs has all ranks and times no layer."""
        options: dict[str, Any] = {"objectives": ("loss", "params", "macs" if by_macs else "latency")}
        if not by_macs:
            options |= {"timer": self.timer, "limits": SpaceLimits(rank_multiple=self.multiple)}
        return Proxy(self.model, self.images, methods=methods, cache=self.args.work / "cache", **options)

    def measured(self) -> dict[str, Any]:
        """The points of every front with their milliseconds and accuracies, and the errors of the predictions."""
        mix = self.proxy()
        table = mix.table()
        fronts = {MIX: best_within(self.searched(mix, table), "latency")}
        fronts[LAGRANGIAN] = [p for b in BUDGETS for p in lagrangian_within(table, {"latency": b})[:1]]
        by_macs = self.proxy(by_macs=True)
        fronts[BY_MACS] = best_within(self.searched(by_macs, by_macs.table()), "macs")
        proxies = dict.fromkeys((MIX, LAGRANGIAN), mix) | {BY_MACS: by_macs}
        for name, methods in SINGLE.items():
            proxies[name] = self.proxy(methods)
            fronts[name] = best_within(self.searched(proxies[name], proxies[name].table()), "latency")
        rng = np.random.default_rng(0)
        random = [table.decode(row) for row in rng.integers(0, table.counts, (RANDOM_PLANS, len(table)))]
        rows = {name: self.rows(proxies[name], plans) for name, plans in fronts.items() if plans}
        share = mix.latencies.plan_share if mix.latencies else None
        timed = self.timer.networks(mix, [Plan(()), *random])
        checked = [(plan, row["ms"]) for plan, row in zip(fronts[MIX], rows[MIX], strict=True)]
        checked += zip(random, timed[1:], strict=True)
        whole = timed[0]
        errors = [abs(share(mix.sites, plan) * whole - ms) / ms for plan, ms in checked] if share else []
        return {"multiple": self.multiple, "place": self.timer.place, "whole": whole, "errors": errors} | {
            "rows": rows,
            "accuracy": self.accuracy(mix, Plan(())),
        }

    def searched(self, proxy: Proxy, table: OptionTable) -> list[Candidate]:
        """The candidates of a search."""
        return search_front(proxy, table, trials=self.args.trials, seed=0)

    def rows(self, proxy: Proxy, plans: Sequence[Plan]) -> list[dict[str, float]]:
        """Share of the milliseconds, milliseconds and accuracy of plans, measured in turns with the original."""
        whole, *times = self.timer.networks(proxy, [Plan(()), *plans])
        return [
            {"ms": time, "share": time / whole, "accuracy": self.accuracy(proxy, plan)}
            for time, plan in zip(times, plans, strict=True)
        ]

    def accuracy(self, proxy: Proxy, plan: Plan) -> float:
        """The share of test images that the network of a plan classifies correctly, as it was scored."""
        logits = proxy.logits(plan, self.data.preprocess(self.test.pixels))
        return float(np.mean(logits.argmax(axis=1) == self.test.labels))


def best_within(candidates: Sequence[Candidate], cost: str) -> list[Plan]:
    """The plan with the least loss within each budget of a cost, each once."""
    found = []
    for budget in BUDGETS:
        inside = [c for c in candidates if c.costs[cost] <= budget]
        found += [min(inside, key=lambda c: c.costs["loss"]).plan] if inside else []
    return list(dict.fromkeys(found))


def share_at(rows: Sequence[Mapping[str, float]], accuracy: float) -> float | None:
    """The least share of the milliseconds with this accuracy, between the points of a front; None where none has it."""
    points = sorted((row["accuracy"], row["share"]) for row in [*rows, {"accuracy": 1.0, "share": 1.0}])
    kept: list[tuple[float, float]] = []
    for point in reversed(points):  # from the most accurate: the least share so far
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    accuracies, shares = zip(*reversed(kept), strict=True)
    return float(np.interp(accuracy, accuracies, shares)) if accuracies[0] <= accuracy else float(shares[0])


def write(work: Path) -> None:
    """The page of all that was measured."""
    found = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    heads = ["network", "runtime", "ranks", "ms", "median error", "largest", "search for", *(f"-{d:g}" for d in DROPS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in sorted(found, key=lambda one: NETWORKS.index(one["network"])):
        for name, rows in one["rows"].items():
            first = [""] * 6
            if name == MIX:
                errors = one["errors"]
                first = [one["network"], one["runtime"], f"x {one['multiple']}", f"{one['whole']:.3g}"]
                first += [f"{np.median(errors):.1%} of {len(errors)}", f"{max(errors):.1%}"]
            shares = [share_at(rows, one["accuracy"] - drop / 100) for drop in DROPS]
            texts = ["–" if share is None else f"{1 / share:.2f}" for share in shares]
            lines.append(f"| {' | '.join([*first, name, *texts])} |")
    places = dict.fromkeys(one["place"] for one in found)
    publish("latency", "\n".join([*lines, "", ABOUT, "", *(f"- {place}" for place in places), ""]))


ABOUT = """*Ranks*: the multiple that ranks have, found by timing a chain of 1 x 1 convolutions. *Median error*: of the
predicted milliseconds of whole networks, those of the front and random plans, against measurements in turns. The last
columns say how many times faster than the original whole networks are that lose at most so many points of test
accuracy, as they were scored, without refit and training; between the measured points of a front it is interpolated.
The search for MACs has all ranks, and its points are the best within budgets of MACs."""


if __name__ == "__main__":
    main()
