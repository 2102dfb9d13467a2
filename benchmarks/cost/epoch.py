"""What an epoch of the fine-tune costs, in epochs of the original trained plainly.

    python benchmarks/cost/epoch.py [--networks NAME...] [--trials N] [--work DIR] [--models DIR] [--data DIR]

Every network is built once within the targets below. Then batches are prepared and trained on in turns: by the original
with cross-entropy alone, and by the compressed network as the fine-tune does it. Writes benchmarks/results/epoch.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.lib.beside import SHARED, alone, described, read, results
from benchmarks.lib.built import AUGMENTED, built_within
from benchmarks.lib.tables import publish

NETWORKS = {
    "lenet5_mnist": {"params": 0.05},
    "cnn_fashion": {"params": 0.18, "macs": 0.35},
    "vgg6_cifar10": {"params": 0.15, "macs": 0.35},
    "resnet20_cifar10": {"params": 0.25, "macs": 0.32},
}
"""Network -> the targets that it is built within."""
EPOCHS, STEPS, ROUNDS = 10, 10, 8
"""Epochs of a fine-tune; steps that are timed together; rounds, of which the fastest counts."""
HEAD = "| network | parameters | original, ms a step | compressed | teacher, ms a batch | teacher runs | epoch of ten |"


def main() -> None:
    """Build, measure, and write the table after each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "epoch")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        alone(built_within, network, NETWORKS[network], args)
        (args.work / f"{network}.json").write_text(json.dumps(alone(measured, network, args)))
        publish("epoch", table(results(args.work)))


def measured(network: str, args: argparse.Namespace) -> dict[str, object]:
    """The least milliseconds of a step of both networks, and of the teacher for one batch."""
    from lrf_optuna.models.evaluation import Evaluator
    from lrf_optuna.models.load import load_model
    from lrf_optuna.sections import TuneSpec
    from lrf_optuna.training.finetune import FineTune
    from lrf_optuna.training.recipe import DEFAULT

    original, plain = read(network, args.models, args.data, args.work)
    data = replace(plain, augment=AUGMENTED.get(described(network, args.models)[1], "none"))
    model = load_model(str(args.work / network / "model.keras"))
    ours = FineTune(model, original, data, TuneSpec(epochs=EPOCHS), DEFAULT, {}, 0)
    whole = load_model(str(args.models / f"{network}.keras"))
    plainly = FineTune(whole, original, data, TuneSpec(epochs=EPOCHS, distil=0), DEFAULT, {}, 0)
    evaluator, few = Evaluator(original, data.preprocess), data.train.take(slice(0, 128 * STEPS)).pixels
    turns: dict[str, Callable[[], object]] = {
        "original": lambda: plainly.train(0, STEPS, silent),
        "compressed": lambda: ours.train(0, STEPS, silent),
        "teacher": lambda: evaluator.outputs(few),
    }
    share = model.count_params() / original.count_params()
    return {"network": network, "params": share, "once": ours.batches.teacher is not None, **least(turns)}


def silent(steps: int, note: str = "") -> None:
    """Progress that nobody sees."""


def least(turns: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least milliseconds of a step of each, over interleaved rounds after a first one that compiles."""
    found = dict.fromkeys(turns, float("inf"))
    for number in range(ROUNDS + 1):
        for name, work in turns.items():
            start = time.perf_counter()
            work()
            if number:
                found[name] = min(found[name], 1000 * (time.perf_counter() - start) / STEPS)
    return found


def table(rows: list[dict[str, float]]) -> str:
    """The rows of all networks."""
    return "\n".join([HEAD, "|" + "---|" * 7, *map(line, rows), "", ABOUT]) + "\n"


def line(row: dict[str, float]) -> str:
    """A row: the epoch in epochs of the original."""
    whole, ours, teacher = row["original"], row["compressed"], row["teacher"]
    epoch = (ours + teacher / EPOCHS * row["once"]) / whole
    sizes = f"{row['network']} | {row['params']:.1%} | {whole:.1f} | {ours:.1f} | {teacher:.1f}"
    return f"| {sizes} | {'once' if row['once'] else 'in every step'} | {epoch:.2f} |"


ABOUT = """Milliseconds of a step: 128 images, prepared, augmented and trained on; of the teacher: its outputs for them.
It runs in every step on augmented images, which is in the step of the compressed network, else once on each image. The
last column is an epoch of ten in epochs of the original trained plainly. Least of eight rounds; the three take turns in
one process."""

if __name__ == "__main__":
    main()
