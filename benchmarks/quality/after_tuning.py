"""What predicts the drop of the metric after a fine-tune, from what is known of a point before it.

    python benchmarks/quality/after_tuning.py [--networks NAME...] [--trials N] [--epochs N] [--images N]
                                    [--models DIR] [--data DIR] [--work DIR]

Every network is searched once. Some points of its front, from small to large, are built, calibrated, and tuned for a
few epochs on at most `--images` training images. A probe tunes a copy of the built network for 50 steps. Writes
benchmarks/results/after_tuning.md after every point: the drops at each stage, and how well each of them predicts the
last one on networks that it was not fitted to. A point that has been measured is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.lib.beside import SHARED, results
from benchmarks.lib.built import study_of
from benchmarks.lib.forecasts import forecast_table
from benchmarks.lib.tables import publish
from lrf_optuna.cli.studies import embedded_studies
from lrf_optuna.config import StudySpec
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.inventory import plan_counts
from lrf_optuna.models.model_files import load_like
from lrf_optuna.pipeline.build import build
from lrf_optuna.pipeline.run import Run
from lrf_optuna.plans.front import pareto_front, size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.sections import TuneSpec
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED
from lrf_optuna.training.calibrate import DEFAULT, calibrate
from lrf_optuna.training.finetune import finetune

NETWORKS = (
    "digits",
    "lenet300100_mnist",
    "lenet5_mnist",
    "cnn1d_watch",
    "cnn_fashion",
    "vggfc_gtsrb",
    "resnet8_cifar10",
)
"""The networks, the fastest first."""
LOSSES = (0.01, 0.04, 0.08, 0.15, 0.25, 0.4)
"""For each of these losses the smallest point of the front that has at most this loss is taken."""
PROBE_STEPS = 50
"""Steps of the probe of the built network, and its batches are of 128 images."""
PROBE_RATE = 1e-3
"""The learning rate of the probe: the one that fine-tunes chose most often."""
STAGES = {"scored": SCORED, "sketched": SKETCHED, "built": BUILT}
"""Name in a row -> the stage of a choice."""
Found = dict[str, Any]


def main() -> None:
    """Measure all points that are not there yet, and write the table after each."""
    args = parsed()
    args.work.mkdir(parents=True, exist_ok=True)
    for network in args.networks:
        run = opened(network, args)
        for loss, point in points_of(run).items():
            file = args.work / f"{network}-{loss}.json"
            if not file.exists():
                file.write_text(json.dumps({"network": network, **measured(run, point, args)}))
                publish("after_tuning", forecast_table(results(args.work), NETWORKS))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3, help="of every network but digits, whose study has its own")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("runs") / "benchmarks" / "after_tuning")
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="with the .npz files, or what unpacks them")
    return parser.parse_args()


def opened(network: str, args: argparse.Namespace) -> Run:
    """The run of a network, with at most as many training images as were asked for."""
    if network == "digits":
        return Run.open(StudySpec.from_toml(embedded_studies()["digits"]), args.work / network)
    spec = study_of(network, args).override({"search.trials": args.trials, "tune.epochs": args.epochs})
    run = Run.open(spec, args.work / network)
    run.data = replace(run.data, train=run.data.train.sample(args.images, spec.search.seed))
    return run


def points_of(run: Run) -> dict[float, Candidate]:
    """Loss of `LOSSES` -> the smallest point of the front with at most this loss, each point once."""
    front, found = pareto_front(run.search()), {}
    for most in LOSSES:
        fit = [point for point in front if point.costs["loss"] <= most and point.plan.changed]
        if fit and (smallest := min(fit, key=size)) not in found.values():
            found[most] = smallest
    return found


def measured(run: Run, point: Candidate, args: argparse.Namespace) -> Found:
    """A point at all stages: drops in points of the metric, calibrated distances, and seconds."""
    start, row = time.perf_counter(), drops_before(run, point)
    refit = run.refits.result(point.plan)
    model = build(run.model, point.plan, run.proxy, refit)
    row |= {"probe": probe_drop(run, model)}
    settings = DEFAULT.within(run.inventory.macs)
    calibration = calibrate(model, run.model, run.data, settings=settings, seed=run.spec.search.seed)
    row |= {"calibrated": drop(run, model), "test_calibrated": drop(run, model, "test")}
    row |= {"distance_built": calibration.distances[0], "distance_calibrated": min(calibration.distances)}
    tuned = finetune(model, run.model, run.data, run.spec.tune, seed=run.spec.search.seed)
    row |= {"tuned": drop(run, model), "test_tuned": drop(run, model, "test"), "rate": tuned.rate}
    row |= {
        "epochs": run.spec.tune.epochs,
        "steps": run.spec.tune.epochs * (len(run.data.train) // run.spec.tune.batch),
    }
    row |= {"optimizer": run.spec.tune.optimizer}
    return row | {"val_metrics": tuned.val_metric, "seconds": time.perf_counter() - start}


def drops_before(run: Run, point: Candidate) -> Found:
    """What the choice of a point may know of it: its costs, and its drops as scored, refitted and built."""
    whole = Plan(())
    drops = {
        name: 100 * (run.refits.measurement(whole, stage).metric - run.refits.measurement(point.plan, stage).metric)
        for name, stage in STAGES.items()
    }
    params, macs = plan_counts(run.inventory, point.plan)
    shares = {"params": params / run.inventory.params, "macs": macs / run.inventory.macs}
    return {"trial": point.trial, "loss": point.costs["loss"], **shares, **drops}


def probe_drop(run: Run, built: Any) -> float:
    """The drop of a copy of the built network after a fine-tune of `PROBE_STEPS` steps, if that is better."""
    file = run.folder.path / "probe.keras"
    built.save(file)
    copy, spec = load_like(file, run.model), TuneSpec(epochs=1, rate=PROBE_RATE)
    few = run.data.train.sample(PROBE_STEPS * spec.batch, run.spec.search.seed)
    finetune(copy, run.model, replace(run.data, train=few), spec, seed=run.spec.search.seed)
    file.unlink()
    return drop(run, copy)


def drop(run: Run, model: Any, part: str = "val") -> float:
    """Points of the metric on validation or test images between the original and a model."""
    images = getattr(run.data, part)
    original, found = (Evaluator(one, run.data.preprocess).metric(run.data, images) for one in (run.model, model))
    return 100 * (original - found)


if __name__ == "__main__":
    main()
