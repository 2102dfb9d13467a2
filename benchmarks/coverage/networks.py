"""Whole runs on real trained networks: search, choice, build, one fine-tune; parameters, MACs and test accuracy.

    python benchmarks/coverage/networks.py [NAME...] [--models DIR] [--data DIR] [--work DIR]

Runs `python -m lrf_optuna run` for every case (or the named ones) and writes benchmarks/results/networks.md. Models and
data sets stand beside the project (../shared); the data sets are unpacked once into the work folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.lib.beside import SHARED, unpacked
from benchmarks.lib.tables import publish

BUDGETS = ((0.5, 0.55), (0.4, 0.45), (0.3, 0.36), (0.22, 0.28))
"""Of parameters and MACs, for networks that are not tuned."""


def within(params: float, macs: float | None = None) -> list[str]:
    """The options of a run within a budget, without tuning."""
    limits = {"params": params} | ({"macs": macs} if macs else {})
    return [word for cost, most in limits.items() for word in ("--target", f"{cost}={most}")] + ["--no-tune"]


CASES = {
    **{f"resnet20 {p}": ("resnet20_cifar10", "cifar10", within(p, m)) for p, m in BUDGETS},
    "resnet44 0.4": ("resnet44_cifar10", "cifar10", within(0.4)),
    "resnet20 tuned": ("resnet20_cifar10", "cifar10", ["--target", "params=0.4", "--epochs", "5"]),
    "lenet5": ("lenet5_mnist", "mnist", ["--epochs", "2"]),
    "lenet300100": ("lenet300100_mnist", "mnist", ["--epochs", "2"]),
    "cnn_fashion": ("cnn_fashion", "fashion_mnist", ["--epochs", "2"]),
    "vgg6": ("vgg6_cifar10", "cifar10", ["--epochs", "2"]),
}
HEAD = (
    "| network | options | parameters | MACs | original | built | tuned |",
    "|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Run the cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks")
    parser.add_argument("--trials", type=int, default=300)
    args = parser.parse_args()
    for case in args.cases or CASES:
        run(case, args)
    rows = [row(case, args.work / case.replace(" ", "-") / "result.json") for case in CASES]
    table = "\n".join([*HEAD, *filter(None, rows)]) + "\n"
    publish("networks", table)
    print(table)


def run(case: str, args: argparse.Namespace) -> None:
    """One run of the command line, as a user types it."""
    study, data, options = CASES[case]
    arrays = unpacked(data, args.data, args.work)
    command = [sys.executable, "-m", "lrf_optuna", "run", study, "--name", case.replace(" ", "-")]
    command += ["--model", args.models / f"{study}.keras", "--data", arrays, "--trials", str(args.trials)]
    subprocess.run([*command, "--out", args.work / case.replace(" ", "-"), *options], check=True)


def row(case: str, path: Path) -> str:
    """A case's line of the table; empty where it has not been run."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    before, built, tuned = found["original"], found["built"], found["tuned"]
    kept = " | ".join(f"{built[cost] / before[cost]:.1%}" for cost in ("params", "macs"))
    scores = " | ".join(f"{one['test_metric']:.2%}" if one else "–" for one in (before, built, tuned))
    return f"| {case} | `{' '.join(CASES[case][2])}` | {kept} | {scores} |"


if __name__ == "__main__":
    main()
