"""The search of commit c616995 with each of its mechanisms off, one at a time (it runs on that commit, beside its benchmarks)."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import optuna
from beside import SHARED, read

import sys
from lrf_optuna import breeding, contenders, interest, samplers, surrogate, weighing
from lrf_optuna.allocate import competitive, plan_of, sweep
from lrf_optuna.config import BUDGETS, KEEP
from lrf_optuna.network import batches_of
from lrf_optuna.pareto import Front, front
from lrf_optuna.plan import Candidate
from lrf_optuna.proxy import Proxy
from lrf_optuna.search import search
from lrf_optuna.seeding import budgeted
from lrf_optuna.similarity import cosine

optuna.logging.set_verbosity(optuna.logging.WARNING)
search_room = sys.modules["lrf_optuna.search"]
FITTED, RESCORED = 1024, 2048


def gp_off(self, picked):
    parts = surrogate.lookup(self.damages, picked)
    return -np.expm1(-(parts * self.weights).sum(axis=1))


def gp_off_sum(self, picked):
    parts = surrogate.lookup(self.damages, picked)
    return -np.expm1(-self.common * surrogate.summed(parts))


NO_RACING = {"racing": False}
NO_EDGES = [patch.object(interest, "edges", lambda *_: ())]
NO_GP = [patch.object(surrogate.Surrogate, "losses", gp_off)]
NO_HOPE = [patch.object(breeding, "HOPE", 1.0), patch.object(breeding, "BOLDLY", 0.0)]
NO_FILL = [patch.object(breeding, "FILLINGS", 0)]
NO_COMP = [patch.object(sys.modules["lrf_optuna.search"], "competitive", lambda table: table)]
ROWS = {
    "default": ([], {}, {}),
    "plain, 64 images": ([*NO_EDGES, *NO_GP, *NO_HOPE, *NO_FILL], NO_RACING, {"images": 64}),
    "no search": ([], {}, {"budgeted": True}),
    "nsga2, same initial plans": ([], {**NO_RACING, "sampler": "nsga2"}, {}),
    "no racing": ([], NO_RACING, {}),
    "no racing, 64 images": ([], NO_RACING, {"images": 64}),
    "no single-cost looks": (NO_EDGES, {}, {}),
    "no Gaussian process": (NO_GP, {}, {}),
    "no optimism": (NO_HOPE, {}, {}),
    "no filling": (NO_FILL, {}, {}),
    "no screening in the search": (NO_COMP, {}, {}),
    "no initial plans": ([], {"seeded": False}, {}),
    "cp, cp3, svd, kronecker": ([], {}, {"methods": ("cp", "cp3", "svd", "kronecker")}),
    "cp3, svd": ([], {}, {"methods": ("cp3", "svd")}),
    "32 images": ([], {}, {"images": 32}),
    "64 images": ([], {}, {"images": 64}),
    "256 images": ([], {}, {"images": 256}),
    "plain": ([*NO_EDGES, *NO_GP, *NO_HOPE, *NO_FILL], NO_RACING, {}),
    "plain with single-cost looks": ([*NO_GP, *NO_HOPE, *NO_FILL], NO_RACING, {}),
    "plain with the Gaussian process": ([*NO_EDGES, *NO_HOPE, *NO_FILL], NO_RACING, {}),
}


class Judge:
    def __init__(self, proxy, more, data):
        self.proxy, self.data = proxy, data
        self.images = proxy.network.held(more)
        self.reference = proxy.network.logits(more, {})
        self.more = more
        self.losses, self.tests = {}, {}
        self.test = data.preprocess(data.test.pixels)

    def loss(self, plan):
        if plan not in self.losses:
            self.losses[plan] = 1 - cosine(self.reference, self.proxy.network.logits(self.more, self.proxy.swaps(plan)))
        return self.losses[plan]

    def accuracy(self, plan):
        if plan not in self.tests:
            found = self.proxy.network.logits(self.test, self.proxy.swaps(plan))
            self.tests[plan] = float(np.mean(found.argmax(axis=1) == self.data.test.labels))
        return self.tests[plan]


def scope(proxy, pixels, count):
    proxy.scored = np.ascontiguousarray(pixels[:count])
    proxy.pixels = proxy.network.held(proxy.scored)
    proxy.reference = proxy.network.run(proxy.pixels, {})
    proxy.known.clear()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "ablation")
    parser.add_argument("--cache", type=Path, default=Path("runs") / "benchmarks" / "ablation" / "cache")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        model, data = read(network, SHARED_MODELS, SHARED / "data", args.work)
        pixels = data.preprocess(data.calibration(FITTED + RESCORED + 256, 0).pixels)
        proxy = Proxy(model, pixels[:FITTED], cache=args.cache)
        start = time.process_time()
        table = proxy.table(KEEP)
        print(network, "table", round(time.process_time() - start, 1), "s CPU", sum(map(len, table.values())), flush=True)
        base = np.concatenate([proxy.scored, pixels[FITTED + RESCORED:]])
        judge = Judge(proxy, pixels[FITTED:FITTED + RESCORED], data)
        for seed in args.seeds:
            for row in args.rows:
                file = args.work / f"{network}-{row.replace(' ', '_')}-{seed}.json"
                if file.exists():
                    continue
                patches, options, how = ROWS[row]
                if how.get("budgeted") and seed:
                    continue
                methods = how.get("methods")
                own = {s: [o for o in opts if not methods or o.method in (*methods, "intact")] for s, opts in table.items()}
                scope(proxy, base, how.get("images", 128))
                unit = min(timed(lambda: (scope(proxy, base, 128))) for _ in range(3))
                scope(proxy, base, how.get("images", 128))
                start, wall = time.process_time(), time.time()
                if how.get("budgeted"):
                    plans = [plan_of(p) for p in budgeted(own, proxy.fixed)]
                    points = [Candidate(i, p, proxy.costs(p)) for i, p in enumerate(plans)]
                else:
                    with ExitStack() as stack:
                        for one in patches:
                            stack.enter_context(one)
                        points = search(proxy, own, trials=args.trials, keeps=KEEP, seed=seed, **options)
                cpu, wall = time.process_time() - start, time.time() - wall
                ends = front(points)
                again = [Candidate(p.trial, p.plan, {**p.costs, "loss": judge.loss(p.plan)}) for p in ends]
                picks = {}
                for b in BUDGETS:
                    inside = [p for p in again if p.costs["params"] <= b]
                    best = min(inside, key=lambda p: p.costs["loss"]) if inside else None
                    picks[b] = judge.accuracy(best.plan) if best else None
                found = {"network": network, "row": row, "seed": seed, "front": len(ends), "cpu": cpu, "wall": wall, "unit": unit,
                         "volume": Front.of(again).volume, "own": Front.of(ends).volume, "picks": picks}
                file.write_text(json.dumps(found))
                print(network, row, seed, f"{found['volume']:.4f} ({found['own']:.4f})", f"cpu {cpu:.0f} s, {cpu/args.trials/unit:.2f} units",
                      [f"{100*a:.2f}" if a else "-" for a in picks.values()], flush=True)


def timed(work):
    start = time.process_time()
    work()
    return time.process_time() - start


SHARED_MODELS = SHARED / "models"
if __name__ == "__main__":
    main()
