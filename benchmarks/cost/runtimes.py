"""Whole runs for milliseconds: how much faster the shipped network is in its runtime, and at which accuracy.

    python benchmarks/cost/runtimes.py [CASE...] [--models DIR] [--data DIR] [--work DIR]

Runs `python -m lrf_optuna run --target latency=SHARE --runtime NAME` for every case, or the named ones, and writes
benchmarks/results/runtimes.md. A case with a result.json in the work folder is not run again. Let nothing else run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.lib.beside import SHARED, described, unpacked
from benchmarks.lib.tables import publish

UNTUNED = ["--no-tune", "--calibrate", "always"]
CASES = {
    "resnet20 litert": ("resnet20_cifar10", "litert", 0.5, [*UNTUNED, "--augment", "flip-crop"]),
    "resnet20 onnx": ("resnet20_cifar10", "onnx", 0.5, [*UNTUNED, "--augment", "flip-crop"]),
    "resnet20 keras": ("resnet20_cifar10", "keras", 0.92, [*UNTUNED, "--augment", "flip-crop"]),
    "lenet5 litert": ("lenet5_mnist", "litert", 0.24, ["--epochs", "5"]),
    "cnn_fashion litert": ("cnn_fashion", "litert", 0.48, ["--epochs", "5"]),
}
"""Name -> network, runtime, the most of its milliseconds that may be left, further options."""
HEAD = (
    "| network | runtime | target | parameters | MACs | ms | times faster | test accuracy | built | calibrated | "
    "tuned | file / weights |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)
ABOUT = "Milliseconds are the least of turns with the original, of whole exported networks."


def main() -> None:
    """Run the cases that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "runtimes")
    args = parser.parse_args()
    for case in args.cases or CASES:
        if not file_of(case, args.work).exists():
            run(case, args)
        found = {name: file_of(name, args.work) for name in CASES}
        results = {name: json.loads(file.read_text()) for name, file in found.items() if file.exists()}
        places = dict.fromkeys(one["place"] for one in results.values())
        lines = [*HEAD, *(row(name, one) for name, one in results.items()), "", ABOUT, "", *(f"- {p}" for p in places)]
        publish("runtimes", "\n".join([*lines, ""]))


def file_of(case: str, work: Path) -> Path:
    """The result of a case."""
    return work / case.replace(" ", "-") / "result.json"


def run(case: str, args: argparse.Namespace) -> None:
    """One run of the command line, as a user types it."""
    network, runtime, share, options = CASES[case]
    known, data = described(network, args.models)
    command = [sys.executable, "-m", "lrf_optuna", "run", "--name", case.replace(" ", "-")]
    command += ["--model", args.models / f"{network}.keras", "--data", unpacked(data, args.data, args.work)]
    command += ["--divide", known["divide_by"], "--target", f"latency={share}", "--runtime", runtime]
    command += [word for name in ("mean", "std") for word in (f"--{name}", ",".join(map(str, known[name])))]
    command += ["--out", file_of(case, args.work).parent, *options]
    subprocess.run(list(map(str, command)), check=True)


def row(case: str, one: dict[str, Any]) -> str:
    """A case's line of the table."""
    network, runtime, share, _ = CASES[case]
    original, last = one["original"], one["tuned"] or one["calibrated"] or one["built"]
    before, after = (state["milliseconds"][runtime] for state in (original, last))
    kept = [f"{last[cost] / original[cost]:.1%}" for cost in ("params", "macs")]
    times = [f"{before:.3g} → {after:.3g}", f"**{before / after:.2f}**"]
    states = [one[name] for name in ("original", "built", "calibrated", "tuned")]
    metrics = ["–" if state is None else f"{state['test_metric']:.2%}" for state in states]
    size = f"{last['file_bytes'] / (4 * last['params']):.2f}"
    return f"| {' | '.join([network, runtime, str(share), *kept, *times, *metrics, size])} |"


if __name__ == "__main__":
    main()
