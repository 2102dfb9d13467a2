"""What each part of the fine-tune is worth alone, on networks that `run` built and calibrated.

    python benchmarks/quality/tune.py [--networks NAME...] [--rows ROW...] [--trials N]
                                 [--work DIR] [--models DIR] [--data DIR]

Every network is built once within the targets below and calibrated once; then it is tuned in several ways from the same
weights, each with the learning rate that the fine-tune finds for itself. Writes after every row
benchmarks/results/tune.md. A row that has been measured is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lib.beside import SHARED, alone, described, read, results
from benchmarks.lib.built import AUGMENTED, built_within
from benchmarks.lib.tables import publish

NETWORKS = {
    "lenet5_mnist": ({"params": 0.03}, 5),
    "cnn_fashion": ({"params": 0.18, "macs": 0.35}, 5),
    "resnet20_cifar10": ({"params": 0.25, "macs": 0.32}, 2),
}
"""Network -> the targets that it is built within, and the epochs of a fine-tune."""
ROWS: dict[str, dict[str, Any]] = {
    "as run": {},
    "AdamW": {"optimizer": "adamw"},
    "SGD": {"optimizer": "sgd"},
    "no distillation": {"distil": 0.0},
    "no CutMix": {"cutmix": False},
    "not calibrated before": {},
}
"""Row -> the settings of [tune] that it changes."""
OF_AUGMENTED, UNCALIBRATED = list(ROWS)[-2:]
"""The row that is as run where images are not augmented, and the one that begins with the built network."""
HEAD = ("network", "parameters", "epochs", "tuned", "rate", "test before", "after", "seconds")
Found = dict[str, Any]


def main() -> None:
    """Measure all rows that are not there yet, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "tune")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        alone(prepare, network, args)
        for row in args.rows:
            file = args.work / f"{network}-{row.replace(' ', '-')}.json"
            if file.exists() or (row == OF_AUGMENTED and augmentation(network, args) == "none"):
                continue
            file.write_text(json.dumps(alone(measured, network, row, args)))
            publish("tune", table(results(args.work)))


def augmentation(network: str, args: argparse.Namespace) -> str:
    """How the training images of a network are augmented."""
    return AUGMENTED.get(described(network, args.models)[1], "none")


def prepare(network: str, args: argparse.Namespace) -> None:
    """Build a network, and calibrate a copy of it, unless both are there."""
    from lrf_optuna.models.load import load_model
    from lrf_optuna.training.calibrate import calibrate

    folder = args.work / network
    if (folder / "calibrated.keras").exists():
        return
    built_within(network, NETWORKS[network][0], args)
    original, plain = read(network, args.models, args.data, args.work)
    model = load_model(str(folder / "model.keras"))
    calibrate(model, original, replace(plain, augment=augmentation(network, args)))
    model.save(folder / "calibrated.keras")


def measured(network: str, row: str, args: argparse.Namespace) -> Found:
    """One fine-tune of a network, measured on all test images."""
    from lrf_optuna.models.evaluation import Evaluator
    from lrf_optuna.models.load import load_model
    from lrf_optuna.sections import TuneSpec
    from lrf_optuna.training.finetune import finetune

    original, plain = read(network, args.models, args.data, args.work)
    data, epochs = replace(plain, augment=augmentation(network, args)), NETWORKS[network][1]
    name = "model" if row == UNCALIBRATED else "calibrated"
    model = load_model(str(args.work / network / f"{name}.keras"))
    evaluator = Evaluator(model, data.preprocess)
    before, start = evaluator.metric(data, data.test), time.perf_counter()
    found = finetune(model, original, data, TuneSpec(epochs=epochs, **ROWS[row]))
    return {
        "network": network,
        "row": row,
        "params": model.count_params() / original.count_params(),
        "epochs": epochs,
        "rate": found.rate,
        "before": before,
        "tuned": evaluator.metric(data, data.test),
        "seconds": time.perf_counter() - start,
    }


def table(rows: list[Found]) -> str:
    """The table of all rows, the networks in the order of `NETWORKS`."""
    order = [(network, row) for network in NETWORKS for row in ROWS]
    kept = sorted(rows, key=lambda found: order.index((found["network"], found["row"])))
    return "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *map(line, kept), "", ABOUT]) + "\n"


def line(found: Found) -> str:
    """A row of the table."""
    figures = f"{found['rate']:g} | {found['before']:.2%} | {found['tuned']:.2%} | {found['seconds']:.0f}"
    return f"| {found['network']} | {found['params']:.1%} | {found['epochs']} | {found['row']} | {figures} |"


ABOUT = """Test accuracy before and after the fine-tune. The learning rate is found from the data in every row; nothing
is chosen by test images. Seconds depend on what else the machine does."""

if __name__ == "__main__":
    main()
