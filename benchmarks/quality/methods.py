"""What mixing methods is worth: the search with all of them, and with each one alone, on real trained networks.

    python benchmarks/quality/methods.py [--networks NAME...] [--trials N] [--seeds N...]
                                 [--work DIR] [--models DIR] [--data DIR]

Same images, trials and seeds for every row. A method for windows is alone on the convolutions, with `svd` on Dense and
1 x 1 layers; a method for those is alone there, with all the others on the convolutions. Writes after every row
benchmarks/results/methods.md: the hypervolume of the front, the share of the convolutions' weights at a loss, and
parameters, MACs and test accuracy (nothing is tuned) of the point with the least loss within equal budgets.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna

from benchmarks.lib.beside import SHARED, read
from benchmarks.lib.tables import publish
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, chain_of
from lrf_optuna.models.batchnorm import training_batches
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.hypervolume import hypervolume
from lrf_optuna.plans.plan import INTACT, Candidate, Plan
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.allocation import SWEEP_MULTIPLIERS
from lrf_optuna.search.loop import search_front
from lrf_optuna.selection.validation import Validation

NETWORKS = ("resnet20_cifar10", "vgg6_cifar10", "lenet300100_mnist")
BUDGETS = (0.5, 0.3, 0.15)
"""Of parameters, at which accuracies are compared."""
CALIBRATION = 1024
MIX = "all methods"
PLAIN = "svd"
"""The method on Dense and 1 x 1 layers where another one is alone on the convolutions."""
COSTS = ("loss", "params", "macs")
LOSSES = (0.01, 0.02, 0.05)
"""1 - similarity of the logits, at which the convolutions' weights are compared."""
PAPER = "about 11%"
"""Fewer weights in convolutions at equal accuracy, as published for a mix against the best method alone."""
Found = dict[str, Any]


def main() -> None:
    """Search with every set of methods on every network, and write the table after each."""
    args = parsed()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        model, data = read(network, args.models, args.data, args.work)
        calibration = data.calibration(CALIBRATION, 0).pixels
        proxy = Proxy(model, data.preprocess(calibration), objectives=COSTS)
        test = Validation(proxy, data.test, data, partial(training_batches, data, calibration, 0))
        right = partial(accuracy_of, test)
        for row, (methods, alone) in rows_of(proxy).items():
            start = time.perf_counter()
            asked = {"network": network, "row": row, "alone": alone, "trials": args.trials, "seeds": args.seeds}
            proxy.methods = methods
            table = proxy.table()
            fronts = [pareto_front(search_front(proxy, table, trials=args.trials, seed=seed)) for seed in args.seeds]
            points = [[dict(candidate.costs) for candidate in points] for points in fronts]
            found = asked | {"points": points, "curve": curve(proxy, table), "at": at_budgets(fronts[0], right)}
            (args.work / f"{network}-{row.replace(' ', '-')}.json").write_text(json.dumps(found))
            print(f"{line(found)} {time.perf_counter() - start:.0f} s", flush=True)
            write(args.work)
        del proxy
        keras.backend.clear_session()
        gc.collect()


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="of the models' models.json")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], metavar="N")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "methods")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def rows_of(proxy: Proxy) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Row -> its methods, and whether one is alone on the convolutions; each set of methods once."""
    wide = names(proxy, pointwise=False)
    point = names(proxy, pointwise=True)
    rows = {MIX: (tuple(DECOMPOSITIONS), False)}
    rows |= {f"{name} on convolutions": ((INTACT.method, name, PLAIN), True) for name in wide}
    rows |= {f"{name} on Dense": ((INTACT.method, name, *wide), False) for name in point}
    everything = {INTACT.method, *wide, *point}
    return {row: found for row, found in rows.items() if row == MIX or not everything <= set(found[0])}


def names(proxy: Proxy, pointwise: bool) -> list[str]:
    """The methods that save in some layer of a network whose window is a point, or is wider."""
    sites = [name for name, site in proxy.sites.items() if site.op.pointwise == pointwise]
    saving = {method for site in sites for method in proxy.methods_of(site)} - {INTACT.method}
    return [method for method in DECOMPOSITIONS if method in saving]


def accuracy_of(test: Validation, plan: Plan) -> float:
    """The test accuracy of a plan as it was scored."""
    return test.of(test.proxy.dense_kernels(plan))


def at_budgets(points: Sequence[Candidate], right: Callable[[Plan], float]) -> list[Found | None]:
    """For every budget the costs and the accuracy of the point with the least loss; None where no point meets it."""
    found: list[Found | None] = []
    for most in BUDGETS:
        inside = [point for point in points if point.costs["params"] <= most]
        best = min(inside, key=lambda point: point.costs["loss"], default=None)
        found.append(best and {**best.costs, "accuracy": right(best.plan)})
    return found


def curve(proxy: Proxy, table: OptionTable) -> list[tuple[float, float]]:
    """(loss of the logits, share of the convolutions' weights) of plans that change nothing else, for fewest weights.

    The allocation is the Lagrangian one over the table, from the largest network to the smallest. Nothing where there
    are no convolutions.
    """
    sites = [name for name in table if proxy.sites[name].op.window]
    if not sites:
        return []
    wide = OptionTable({name: table[name] for name in sites})
    by_params = np.tile([1.0, 0.0], (len(SWEEP_MULTIPLIERS), 1))
    plans = dict.fromkeys(map(wide.decode, wide.allocate(SWEEP_MULTIPLIERS, by_params)))
    whole = sum(proxy.sites[name].op.params for name in wide)
    return [
        (
            1 - proxy.measure(plan).similarity[OUTPUT],
            sum(chain_of(proxy.sites[name].op, plan[name]).params for name in wide) / whole,
        )
        for plan in plans
    ]


def volumes(found: Found) -> list[float]:
    """The hypervolume of each seed's front."""
    return [hypervolume(np.array([[one[cost] for cost in COSTS] for one in f])) for f in found["points"]]


def smallest(found: Found, most: float) -> float:
    """The smallest share of the convolutions' weights at this loss of the logits, between the points of the curve."""
    points = [(0.0, 1.0), *sorted(map(tuple, found["curve"]))]
    kept = [p for i, p in enumerate(points) if all(p[1] < q[1] for q in points[:i])]
    losses, shares = zip(*kept, strict=True)
    return float(np.interp(most, losses, shares))


def write(work: Path) -> None:
    """The table of all rows that have been run, the best front of a network first, and the savings of the mix."""
    rows = [json.loads(file.read_text()) for file in work.glob("*.json")]
    rows.sort(key=lambda found: (found["network"], -float(np.mean(volumes(found)))))
    shares = " | ".join(f"weights at {most:g}" for most in LOSSES)
    head = f"| network | methods | trials | seeds | hypervolume | each | {shares} |"
    lines = [
        head,
        "|" + "---|" * (6 + len(LOSSES)),
        *map(line, rows),
        "",
        *accuracies(rows),
        "",
        *savings(rows),
        "",
        ABOUT,
    ]
    publish("methods", "\n".join(lines) + "\n")


def line(found: Found) -> str:
    """A row of the table."""
    each = volumes(found)
    shares = " | ".join(f"{smallest(found, most):.1%}" if found["curve"] else "–" for most in LOSSES)
    asked = f"| {found['network']} | {found['row']} | {found['trials']} | {' '.join(map(str, found['seeds']))} "
    return f"{asked}| {np.mean(each):.4f} | {' '.join(f'{volume:.4f}' for volume in each)} | {shares} |"


def accuracies(rows: list[Found]) -> list[str]:
    """A table of parameters, MACs and accuracy within equal budgets."""
    budgets = " | ".join(f"within {most:.0%} of the parameters" for most in BUDGETS)
    lines = [f"| network | methods | {budgets} |", "|" + "---|" * (2 + len(BUDGETS))]
    for found in rows:
        cells = [
            f"{one['params']:.1%} / {one['macs']:.1%}: {one['accuracy']:.2%}" if one else "–" for one in found["at"]
        ]
        lines.append(f"| {found['network']} | {found['row']} | {' | '.join(cells)} |")
    return lines


def savings(rows: list[Found]) -> list[str]:
    """A table of the convolutions' weights that the mix saves against the best method alone on them."""
    lines = ["| network | loss | all methods | best alone | saved | in the paper |", "|" + "---|" * 6]
    for mix in (found for found in rows if found["row"] == MIX):
        alone = [found for found in rows if found["alone"] and found["network"] == mix["network"]]
        for most in LOSSES if alone else ():
            best = min(alone, key=lambda found: smallest(found, most))
            shares = smallest(mix, most), smallest(best, most)
            named = f"{shares[0]:.1%} | {shares[1]:.1%} ({best['row']})"
            lines.append(f"| {mix['network']} | {most:g} | {named} | {1 - shares[0] / shares[1]:z.1%} | {PAPER} |")
    return lines


ABOUT = (
    "Within a budget: parameters / MACs that are left, and the accuracy on all test images, of the point of the first "
    "seed's front with the least loss. "
    "Hypervolume: of the front in loss, parameters and MACs, below (1, 1, 1); the mean over the seeds and each. "
    "Weights at a loss: the share of the convolutions' weights that is left at this loss of the logits (1 - cosine on "
    "the images that score plans), by a Lagrangian allocation for fewest weights with all else left alone; before any "
    f"fine-tuning. A method on convolutions is alone there, with {PLAIN} on Dense and 1 x 1 layers; one on Dense is "
    "alone on both of those, with all others on the convolutions."
)

if __name__ == "__main__":
    main()
