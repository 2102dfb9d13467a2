"""What the search is worth: the hypervolume of its front against plain samplers and against plans without a search.

    python benchmarks/quality/search.py [--networks NAME...] [--rows ROW...] [--trials N] [--seeds N...]
                                        [--work DIR] [--models DIR] [--data DIR]

Every row has the same images, option table and trials. The plain samplers have no initial plans, except where the row
says so. The Lagrangian sweep alone is every Lagrangian plan over the table; it takes a trial for every plan. Writes
benchmarks/results/search.md after every row.
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
from lrf_optuna.errors import lookup
from lrf_optuna.plans.front import Front, hypervolume_history
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.allocation import lagrangian_sweep
from lrf_optuna.search.loop import search_front

NETWORKS = ("resnet20_cifar10", "vgg6_cifar10")
CALIBRATION = 1024
OURS, SWEEP, FIRST = "surrogate", "Lagrangian sweep alone", "initial plans alone"
ROWS = {
    OURS: {},
    "surrogate, no initial plans": {"initial_plans": False},
    "nsga2, initial plans": {"sampler": "nsga2"},
    **{name: {"sampler": name, "initial_plans": False} for name in ("nsga2", "nsga3", "tpe", "random")},
}
POPULATION = 50
"""Trials of the first generation: the default."""
AT = (50, 100, 200, 300, 500, 1000)
"""Trials after which the hypervolume is shown."""


def main() -> None:
    """Search with every sampler on every network, and write the table after each."""
    args = parsed()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        proxy = Proxy(*loaded(network, CALIBRATION, args.models, args.data, args.work))
        table = proxy.table()
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
    """The number of plans of the whole Lagrangian sweep, and their hypervolume."""
    plans = [table.decode(row) for row in lagrangian_sweep(table)]
    front = Front.of(Candidate(i, plan, proxy.costs(plan)) for i, plan in enumerate(plans))
    return {"plans": len(plans), "volume": front.volume}


def write(work: Path) -> None:
    """The table of all rows that have been run."""
    rows = [json.loads(file.read_text()) for file in work.glob("*.json")]
    order = {name: i for i, name in enumerate(ROWS)}
    rows.sort(key=lambda row: (row["network"], order[row["row"]]))
    most = max(row["trials"] for row in rows)
    shown = [n for n in AT if n <= most] or [most]
    head = f"| network | search | seeds | {' | '.join(f'{n} trials' for n in shown)} | ours is |"
    lines = [head, "|" + "---|" * (4 + len(shown)), *(line for row in rows for line in lines_of(row, rows, shown))]
    publish("search", "\n".join([*lines, "", ABOUT]) + "\n")


def lines_of(row: dict[str, Any], rows: list[dict[str, Any]], shown: list[int]) -> list[str]:
    """A row of the table; below the own search, one for its initial plans and one for the whole sweep."""
    ours = next((r for r in rows if r["network"] == row["network"] and r["row"] == OURS), None)
    last = np.mean([volumes[-1] for volumes in row["volumes"]])
    cells = [f"{np.mean([volumes[min(n, len(volumes)) - 1] for volumes in row['volumes']]):.4f}" for n in shown]
    best = np.mean([volumes[-1] for volumes in ours["volumes"]]) if ours else last
    against = "" if row["row"] == OURS else f"{best / last:.2f} times"
    lines = [f"| {row['network']} | {row['row']} | {len(row['volumes'])} | {' | '.join(cells)} | {against} |"]
    if row["row"] == OURS:
        first = min(POPULATION, row["trials"])
        alone = {FIRST: (first, np.mean([volumes[first - 1] for volumes in row["volumes"]]))}
        alone[SWEEP] = (row["sweep"]["plans"], row["sweep"]["volume"])
        for name, (plans, volume) in alone.items():
            gained = f"{(last - volume) / (1 - volume):.1%} of the volume that it leaves"
            cells = [f"{volume:.4f}"] * len(shown)
            lines.append(f"| {row['network']} | {name} ({plans} plans) | – | {' | '.join(cells)} | {gained} |")
    return lines


ABOUT = (
    "Hypervolume of the front in loss, parameters and MACs below (1, 1, 1): the mean over the seeds. The last column "
    "is the ratio of our own to that of the row; for plans without a search, the share of the remaining volume that "
    "our own gains over them."
)

if __name__ == "__main__":
    main()
