"""What a calibration without labels is worth, and each of its parts alone, on networks that `run` built.

    python benchmarks/quality/calibrate.py [--networks NAME...] [--rows ROW...] [--trials N]
                                 [--work DIR] [--models DIR] [--data DIR]

Every network is built once, within the targets below, and then calibrated in several ways from the same weights. Writes
after every row benchmarks/results/calibrate.md: the distance to the original's outputs on held-out images, and the test
metric before and after. A row that has been measured is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lib.beside import SHARED, described, read, results
from benchmarks.lib.built import AUGMENTED, built_within
from benchmarks.lib.tables import publish
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.load import load_model
from lrf_optuna.training.calibrate import DEFAULT, CalibrationSettings, calibrate

NETWORKS = {
    "lenet5_mnist": {"params": 0.05},
    "cnn_fashion": {"params": 0.15},
    "resnet20_cifar10": {"params": 0.25, "macs": 0.32},
}
"""Network -> the targets that it is built within."""
ROWS = {
    "as run": DEFAULT,
    "outputs alone": replace(DEFAULT, map_weight=0.0),
    "feature maps alone": replace(DEFAULT, outputs_weight=0.0),
    "256 images": replace(DEFAULT, images=256),
    "1,024 images": replace(DEFAULT, images=1024),
    "4,096 images": replace(DEFAULT, images=4096),
}
HEAD = "| network | parameters | calibrated | rate | distance before | after | test built | calibrated | seconds |"
Found = dict[str, Any]


def main() -> None:
    """Measure all rows that are not there yet, and write the table after each."""
    args = parsed()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        built = built_within(network, NETWORKS[network], args)
        for row in args.rows:
            file = args.work / f"{network}-{row.replace(' ', '-')}.json"
            if not file.exists():
                file.write_text(json.dumps(measured(network, row, ROWS[row], built, args)))
                publish("calibrate", table(results(args.work)))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "calibrate")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def measured(network: str, row: str, settings: CalibrationSettings, built: Path, args: argparse.Namespace) -> Found:
    """One calibration of a built network, measured on all test images."""
    original, plain = read(network, args.models, args.data, args.work)
    data = replace(plain, augment=AUGMENTED.get(described(network, args.models)[1], "none"))
    model = load_model(str(built / "model.keras"))
    evaluator = Evaluator(model, data.preprocess)
    before = evaluator.metric(data, data.test)
    start = time.perf_counter()
    found = calibrate(model, original, data, settings=settings)
    seconds = time.perf_counter() - start
    return {
        "network": network,
        "row": row,
        "params": model.count_params() / original.count_params(),
        "rate": found.rate,
        "distances": found.distances,
        "built": before,
        "calibrated": evaluator.metric(data, data.test),
        "seconds": seconds,
    }


def table(rows: list[Found]) -> str:
    """The table of all rows, the networks in the order of `NETWORKS`."""
    order = [(network, row) for network in NETWORKS for row in ROWS]
    kept = sorted(rows, key=lambda found: order.index((found["network"], found["row"])))
    return "\n".join([HEAD, "|" + "---|" * 9, *map(line, kept), "", ABOUT]) + "\n"


def line(found: Found) -> str:
    """A row of the table."""
    first, *others = found["distances"]
    figures = f"{first:.3f} | {min(first, *others):.3f} | {found['built']:.2%} | {found['calibrated']:.2%}"
    asked = f"{found['network']} | {found['params']:.1%} | {found['row']} | {found['rate']:g}"
    return f"| {asked} | {figures} | {found['seconds']:.0f} |"


ABOUT = (
    "Distance: half the mean squared difference to the original's logits, on images that no step sees. Nothing has "
    "labels. Seconds depend on what else the machine does."
)

if __name__ == "__main__":
    main()
