"""Our search against every baseline at the same budgets, on real networks, without tuning.

    python benchmarks/quality/compare.py [--networks NAME...] [--cost params|macs] [--trials N]
                                 [--models DIR] [--data DIR] [--work DIR]

Runs `python -m lrf_optuna run --no-tune` and then `compare --test` for every network of the folder's models.json, and
writes benchmarks/results/compare.md after each (compare_macs.md for budgets of MACs) from all of the work folder. A
network whose compare.json has the same number of trials is not compared again. The best baseline of a budget is the
best one on validation images; its test accuracy stands beside.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.lib.beside import SHARED, described, unpacked
from benchmarks.lib.tables import publish
from lrf_optuna.plans.comparison import AS_BUILT, FILTERS, KERNEL_KINDS, OURS, BudgetRows, Comparison, Row, Score

NETWORKS = (
    "resnet20_cifar10",
    "resnet32_cifar10",
    "vgg6_cifar10",
    "cnn_fashion",
    "lenet5_mnist",
    "mobilenetv1_025_128_imagenet",
)
AUGMENT = {"resnet20_cifar10": "flip-crop", "resnet32_cifar10": "flip-crop", "vgg6_cifar10": "flip"}
"""How networks were trained, where images were changed: BatchNorm statistics are re-estimated on such images."""
WORDS = {"fitted": "", "plain": "as published", AS_BUILT: "as built"}
"""Kernels -> how a row with them is called."""
HEAD = (
    "| network | {} left | ours, as built | ours | best baseline, as built | best baseline, fitted to data | "
    "best baseline, as published | l1 filters |",
    "|---|---|---|---|---|---|---|---|",
)
SUMMARY = (
    "| network | original | budgets | ours as built is at least every baseline, validation | test | "
    "most behind, validation | before it is built | on the front | dominated |",
    "|---|---|---|---|---|---|---|---|---|",
)
ABOUT = """Accuracies are validation / test, before any training. *Fitted to data*: the baseline chooses ranks, and its
kernels are fitted to calibration images as ours are; *as published*: plain factorizations; *as built*: fitted,
and the chains refitted in layer order where that is more accurate on validation images, as `run` does with the
point that it picks: of ours and of the baseline that is best when fitted. BatchNorm statistics are re-estimated
wherever that helps. Ours is the point that a run picks: a dozen points with the least loss are measured as they were
scored, the best few after a refit to few images, and the last one as built. The baseline shown is the best of
all of them on the same images, and only its test accuracy is measured. *Most behind*: at the budget where ours as
built is furthest below the best other row (before it is built: ours fitted below the others, fitted or as
published), the points of accuracy between them; of 5,000 validation images one is 0.02 points. *Dominated*: points
of the front that some baseline of some budget, fitted to data, is no worse than in loss, parameters and MACs, and
better in one."""


def main() -> None:
    """Search and compare every network, and write the page after each."""
    args = parsed()
    for network in args.networks:
        compare(network, args)
        found = [one for name in NETWORKS if (one := Comparison.read(args.work / name, name))]
        publish(name_of(args.cost), page(found))
    print(page(found))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="of the models' models.json")
    parser.add_argument("--cost", choices=("params", "macs"), default="params", help="the cost that budgets limit")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--work", type=Path, help="by default runs/benchmarks/compare, or compare_macs")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    args.work = args.work or Path("runs") / "benchmarks" / name_of(args.cost)
    return args


def name_of(cost: str) -> str:
    """What the page and the folder are called."""
    return "compare" if cost == "params" else f"compare_{cost}"


def compare(network: str, args: argparse.Namespace) -> None:
    """One search and one comparison of the command line, as a user types them."""
    folder, (data, options) = args.work / network, asked(network, args.models)
    there = Comparison.read(folder, network)
    if there and (there.trials, there.cost) == (args.trials, args.cost):
        return
    lrf = [sys.executable, "-m", "lrf_optuna"]
    given = ["--model", args.models / f"{network}.keras", "--data", unpacked(data, args.data, args.work)]
    run = [*lrf, "run", "--name", network, *given, *options, "--trials", str(args.trials), "--no-tune", "--out", folder]
    subprocess.run(run, check=True)
    subprocess.run([*lrf, "compare", network, "--cost", args.cost, "--out", folder, "--test"], check=True)


def asked(network: str, models: Path) -> tuple[str, list[str]]:
    """A network's data set, and the options for its preprocessing."""
    known, data = described(network, models)
    options = ["--divide", str(known["divide_by"]), "--augment", AUGMENT.get(network, "none")]
    for name in ("mean", "std"):
        options += [f"--{name}", ",".join(map(str, known[name]))]
    return data, options


def page(found: Sequence[Comparison]) -> str:
    """The page of some comparisons."""
    head = "\n".join(HEAD).format(found[0].cost)
    lines = "\n".join(line(one, block) for one in found for block in one.blocks)
    return "\n".join([*SUMMARY, *map(summary, found), "", head, lines, "", ABOUT]) + "\n"


def summary(one: Comparison) -> str:
    """A network in a line: at how many budgets ours is at least every baseline, and what is dominated."""
    wins = [sum(leads(block, of) for block in one.blocks) for of in (on_validation, on_test)]
    gaps = behind(one, (*KERNEL_KINDS, AS_BUILT)), behind(one, KERNEL_KINDS)
    cells = (one.study, shown(one.original), len(one.blocks), *wins, *gaps, one.front, one.dominated)
    return f"| {' | '.join(map(str, cells))} |"


def line(one: Comparison, block: BudgetRows) -> str:
    """A network at a budget: ours, the best baselines, filter pruning."""
    ours, best = block.row(OURS), [named(block, kind) for kind in KERNEL_KINDS]
    final = next((f"{shown(score)} {name}" for name, score in block.finals if name != OURS), "–")
    own = shown(ours.built), shown(ours.fitted)
    cells = (one.study, f"{block.budget:.0%}", *own, final, *best, shown(block.row(FILTERS).plain))
    return f"| {' | '.join(cells)} |"


def behind(one: Comparison, kinds: Sequence[str]) -> str:
    """The budget at which another row is most above ours on validation images, by how many points, and which row.

    Ours with the last of the kinds of kernels that it has, the others with each of them.
    """
    worst, where = 0.0, "nowhere"
    for block in one.blocks:
        ours = latest(block.row(OURS), kinds)
        for row, kind in ((row, kind) for row in block.rows for kind in kinds if row.name != OURS):
            score = getattr(row, kind)
            gap = 100 * (score.val - (ours.val if ours else 0.0)) if score else 0.0
            if gap > worst + 1e-9:
                words = WORDS[kind] if row.name != FILTERS else ""
                worst, where = gap, f"{gap:.2f} at {block.budget:.0%} ({' '.join((row.name, words)).strip()})"
    return where


def latest(row: Row, kinds: Sequence[str]) -> Score | None:
    """The score of a row as built, where that is one of the kinds and there is one, else fitted."""
    return (row.built if AS_BUILT in kinds else None) or row.fitted


def leads(block: BudgetRows, of: Callable[[Score], float | None]) -> bool:
    """Whether ours as built is there and nothing else that was measured is more accurate, whatever its kernels."""
    ours = latest(block.row(OURS), (AS_BUILT,))
    others = [s for row in block.rows if row.name != OURS for s in (row.fitted, row.plain, row.built) if s]
    mine, theirs = ours and of(ours), [share for score in others if (share := of(score)) is not None]
    return mine is not None and all(mine >= share for share in theirs)


def named(block: BudgetRows, kind: str) -> str:
    """The best baseline of a kind on validation images, with its name."""
    best = block.best(kind)
    return f"{shown(getattr(best, kind))} {best.name}" if best else "–"


def on_validation(score: Score) -> float:
    """The validation accuracy."""
    return score.val


def on_test(score: Score) -> float | None:
    """The test accuracy, where it was measured."""
    return score.test


def shown(score: Score | None) -> str:
    """Validation and test accuracy."""
    return f"{score.val:.2%} / {'–' if score.test is None else f'{score.test:.2%}'}" if score else "–"


if __name__ == "__main__":
    main()
