"""What the search is worth: the hypervolume of its front against plain samplers and against the Lagrangian seeds alone.

    python benchmarks/quality/search.py [--networks NAME...] [--rows ROW...] [--trials N] [--seeds N...]
                                [--work DIR] [--models DIR] [--data DIR]

The same images, table of options and trials for every row. The plain samplers start without seeds; `bred, no seeds` is
this package's own without them; the sweep is every Lagrangian plan over the table, which takes as many trials as it has
plans. Writes benchmarks/results/search.md after every row.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.lib.beside import SHARED, loaded
from benchmarks.lib.tables import publish
from lrf_optuna.config import KEEP
from lrf_optuna.errors import lookup
from lrf_optuna.plans.front import Front, hypervolume_history
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.scoring.option_table import OptionTable, plan_of
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.screening import drop_dominated_methods
from lrf_optuna.search.allocation import lagrangian_sweep
from lrf_optuna.search.loop import search_front

NETWORKS = ("resnet20_cifar10", "vgg6_cifar10")
CALIBRATION = 1024
OURS, SWEEP, FIRST = "bred", "Lagrangian sweep alone", "first generation alone"
ROWS = {
    OURS: {},
    "bred, no seeds": {"seeded": False},
    "nsga2, seeded": {"sampler": "nsga2"},
    "nsga2": {"sampler": "nsga2", "seeded": False},
    "nsga3": {"sampler": "nsga3", "seeded": False},
    "tpe": {"sampler": "tpe", "seeded": False},
    "random": {"sampler": "random", "seeded": False},
}
AT = (50, 100, 200, 300, 500, 1000)
"""Trials after which the hypervolume is shown."""


def main() -> None:
    """Search with every sampler on every network, and write the table after each."""
    args = parsed()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        proxy = Proxy(*loaded(network, CALIBRATION, args.models, args.data, args.work))
        table = proxy.table(KEEP)
        alone = swept(proxy, table)
        for row in args.rows:
            options = lookup(ROWS, row, "row")
            found = [searched(proxy, table, args.trials, seed, options) for seed in args.seeds]
            kept = {"network": network, "row": row, "trials": args.trials, "volumes": found, "sweep": alone}
            (args.work / f"{network}-{row.replace(' ', '-')}.json").write_text(json.dumps(kept))
            print(network, row, [round(volumes[-1], 4) for volumes in found], flush=True)
            write(args.work)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="of the models' models.json")
    parser.add_argument("--rows", nargs="+", default=ROWS, metavar="ROW", help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "search")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def searched(proxy: Proxy, table: OptionTable, trials: int, seed: int, options: dict[str, Any]) -> list[float]:
    """The hypervolume after every trial of one search."""
    return hypervolume_history(search_front(proxy, table, trials=trials, seed=seed, **options))


def swept(proxy: Proxy, table: OptionTable) -> dict[str, float]:
    """How many plans the whole Lagrangian sweep has, and their hypervolume."""
    plans = [plan_of(picks) for picks in lagrangian_sweep(drop_dominated_methods(table))]
    front = Front.of(Candidate(i, plan, proxy.costs(plan)) for i, plan in enumerate(plans))
    return {"plans": len(plans), "volume": front.volume}


def write(work: Path) -> None:
    """The table of all rows that have been run."""
    rows = [json.loads(file.read_text()) for file in work.glob("*.json")]
    order = {name: i for i, name in enumerate(ROWS)}
    rows.sort(key=lambda row: (row["network"], order[row["row"]]))
    shown = [n for n in AT if n <= max(row["trials"] for row in rows)]
    head = f"| network | search | seeds | {' | '.join(f'{n} trials' for n in shown)} | ours is |"
    lines = [head, "|" + "---|" * (4 + len(shown)), *(line for row in rows for line in lines_of(row, rows, shown))]
    publish("search", "\n".join([*lines, "", ABOUT]) + "\n")


def lines_of(row: dict[str, Any], rows: list[dict[str, Any]], shown: list[int]) -> list[str]:
    """A row of the table; below our own what its seeds and the whole sweep have."""
    ours = next((r for r in rows if r["network"] == row["network"] and r["row"] == OURS), None)
    last = np.mean([volumes[-1] for volumes in row["volumes"]])
    cells = [f"{np.mean([volumes[min(n, len(volumes)) - 1] for volumes in row['volumes']]):.4f}" for n in shown]
    best = np.mean([volumes[-1] for volumes in ours["volumes"]]) if ours else last
    against = "" if row["row"] == OURS else f"{best / last:.2f} times"
    lines = [f"| {row['network']} | {row['row']} | {len(row['volumes'])} | {' | '.join(cells)} | {against} |"]
    if row["row"] == OURS:
        alone = {FIRST: (50, np.mean([volumes[49] for volumes in row["volumes"]]))}
        alone[SWEEP] = (row["sweep"]["plans"], row["sweep"]["volume"])
        for name, (plans, volume) in alone.items():
            gained = f"{(last - volume) / (1 - volume):.1%} of what it leaves"
            cells = [f"{volume:.4f}"] * len(shown)
            lines.append(f"| {row['network']} | {name} ({plans} plans) | – | {' | '.join(cells)} | {gained} |")
    return lines


ABOUT = (
    "Hypervolume of the front in loss, parameters and MACs below (1, 1, 1): the mean over the seeds. The last column: "
    "how many times that of a row our own is, and of plans without a search the share of what is left that it gains."
)

if __name__ == "__main__":
    main()
