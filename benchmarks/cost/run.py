"""What a whole run costs, phase by phase: the command line with an empty cache, and without a fine-tune.

    python benchmarks/cost/run.py [NETWORK...] [--trials N] [--work DIR] [--models DIR] [--data DIR]

Every network of the models' models.json has the targets that stand here. A pass is one of the original over 128 images,
compiled and measured in a process of its own before the run and after it, so that machines compare. Then one plan of
each of two networks is refitted in layer order with passes that go on from where they were, and with whole passes.
Writes benchmarks/results/run.md of all that is in the work folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.beside import SHARED, alone, described, loaded, unpacked
from benchmarks.lib.tables import publish

TARGETS = {
    "resnet20_cifar10": {"params": 0.5, "macs": 0.55},
    "vgg6_cifar10": {"params": 0.5, "macs": 0.55},
    "lenet5_mnist": {"params": 0.5, "macs": 0.55},
    "mobilenetv1_050_160_imagenet": {"params": 0.8, "macs": 0.8},
}
BEFORE = {
    "resnet20_cifar10": 150.4,
    "vgg6_cifar10": 99.7,
    "lenet5_mnist": 21.1,
    "mobilenetv1_050_160_imagenet": 81.5,
}
"""Seconds of the whole run at c616995 on two idle cores."""
AUGMENT = {"resnet20_cifar10": "flip-crop"}
"""How the training images of a network were augmented, where it is known."""
RESUMED = "resnet20_cifar10", "vgg6_cifar10"
"""Networks that are refitted with resumed passes and with whole ones: a choice makes four to ten such refits."""
PASS, PASSES = 128, 20
"""Images of a pass, and passes that are timed."""


def main() -> None:
    """Run the networks and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(TARGETS), metavar="NETWORK")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "run")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    args = parser.parse_args()
    for network in args.networks:
        found = timed_run(network, args)
        if network in RESUMED:
            found["refits"] = alone(refit_seconds, network, args)
        (args.work / f"{network}.json").write_text(json.dumps(found))
        publish("run", page(args.work))


def timed_run(network: str, args: argparse.Namespace) -> dict[str, Any]:
    """The phases of a run, its seconds by the clock, and the seconds of a pass before and after it."""
    known, dataset = described(network, args.models)
    folder = args.work / network
    shutil.rmtree(folder, ignore_errors=True)
    options = [
        *("--model", args.models / f"{network}.keras", "--data", unpacked(dataset, args.data, args.work)),
        *("--name", network, "--divide", known["divide_by"], "--mean", joined(known["mean"])),
        *("--std", joined(known["std"]), "--augment", AUGMENT.get(network, "none")),
        *(f"--target={cost}={share}" for cost, share in TARGETS[network].items()),
        *("--trials", args.trials, "--no-tune", "--cache", folder / "cache", "--out", folder / "run"),
    ]
    before = alone(pass_seconds, network, args)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lrf_optuna", "run", *map(str, options)], check=True)
    seconds = time.perf_counter() - start
    result = json.loads((folder / "run" / "result.json").read_text())
    passes = [before, alone(pass_seconds, network, args)]
    return {"network": network, "wall": seconds, "pass": float(np.mean(passes)), "result": result}


def joined(numbers: list[float]) -> str:
    """Numbers as an option takes them."""
    return ",".join(map(str, numbers))


def pass_seconds(network: str, args: argparse.Namespace) -> float:
    """The median seconds of a compiled pass of the original over 128 images."""
    import tensorflow as tf

    model, images = loaded(network, PASS, args.models, args.data, args.work)
    compiled, pixels, found = tf.function(lambda x: model(x, training=False)), tf.constant(images), []
    for _ in range(PASSES):
        start = time.perf_counter()
        compiled(pixels).numpy()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def refit_seconds(network: str, args: argparse.Namespace) -> dict[str, float]:
    """Processor seconds of a second refit to 256 images, with resumed passes and with whole ones."""
    from lrf_optuna.models.partial_forward import traced
    from lrf_optuna.plans.plan import Plan
    from lrf_optuna.scoring.proxy import Proxy
    from lrf_optuna.selection.plan_refits import StageSettings, stage_kernels
    from lrf_optuna.selection.sequential_refit import SequentialRefit

    model, images = loaded(network, 384, args.models, args.data, args.work)
    proxy, found = Proxy(model, images), {}
    plan = Plan.of({site: proxy.choice(site, proxy.methods_of(site)[-1], 0.3) for site in proxy.sites})
    kernels = stage_kernels(proxy, plan)
    for name, graph in (("resumed", traced(proxy.network, images[:1])), ("whole", None)):
        refit = SequentialRefit(proxy, images[128:], graph, StageSettings().sketch)
        start = time.process_time()
        refit(plan, kernels, 0.2)
        middle = time.process_time()
        refit(plan, kernels, 0.2)
        found |= {f"{name}, first": middle - start, name: time.process_time() - middle}
    return found


def page(work: Path) -> str:
    """Both tables, of all networks in a work folder."""
    rows = [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
    phases = [phase for phase in rows[0]["result"]["seconds"] if phase != "tune"]
    titles = ["network", *phases, "sum", "clock", "before", "pass, ms", "passes", "params", "MACs", "test accuracy"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *(line(row, phases) for row in rows), ""]
    refits = [row for row in rows if "refits" in row]
    if refits:
        names = list(refits[0]["refits"])
        lines += [f"| refit in layer order, CPU s | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
        for row in refits:
            cells = " | ".join(f"{row['refits'][name]:.1f}" for name in names)
            lines.append(f"| {row['network']} | {cells} |")
    return "\n".join(lines) + "\n"


def line(row: dict[str, Any], phases: list[str]) -> str:
    """A run's line: seconds of the phases and of the whole, now and before, and the whole in passes."""
    result, before = row["result"], BEFORE.get(row["network"])
    seconds, built, original = result["seconds"], result["built"], result["original"]
    cells = [*(f"{seconds[phase]:.1f}" for phase in phases), f"{sum(seconds.values()):.1f}", f"{row['wall']:.1f}"]
    cells += [f"{before:.1f}" if before else "–", f"{1000 * row['pass']:.0f}", f"{row['wall'] / row['pass']:,.0f}"]
    cells += [f"{built[cost] / original[cost]:.1%}" for cost in ("params", "macs")]
    return f"| {row['network']} | {' | '.join(cells)} | {built['test_metric']:.2%} |"


if __name__ == "__main__":
    main()
