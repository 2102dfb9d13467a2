"""Networks beside the project, built within targets by a run without calibration and fine-tune."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks.lib.beside import described, unpacked

AUGMENTED = {"cifar10": "flip-crop"}
"""Data set -> the augmentation that networks were trained with."""


def built_within(network: str, targets: Mapping[str, float], args: argparse.Namespace) -> Path:
    """The folder of a run with these targets; `args` has `trials`, `work`, `models` and `data`."""
    from lrf_optuna.config import StudySpec
    from lrf_optuna.pipeline.run import Run
    from lrf_optuna.sections import DataSpec, ModelSpec

    known, name = described(network, args.models)
    pixels = {"divide": known["divide_by"], "mean": tuple(known["mean"]), "std": tuple(known["std"])}
    plain = StudySpec(
        name=network,
        model=ModelSpec(path=str(args.models / f"{network}.keras")),
        data=DataSpec(path=str(unpacked(name, args.data, args.work)), augment=AUGMENTED.get(name, "none"), **pixels),
    )
    untuned = {"tune.epochs": 0, "tune.calibrate": "never", "latency.time_at_end": False}
    spec = plain.override({"search.trials": args.trials, "search.targets": dict(targets), **untuned})
    run = Run.open(spec, args.work / network)
    run.finish(run.search())
    return Path(args.work / network)
