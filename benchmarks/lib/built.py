"""Networks beside the project, built within targets by a run without calibration and fine-tune."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.lib.beside import described, unpacked

if TYPE_CHECKING:
    from lrf_optuna.config import StudySpec

AUGMENTED = {"cifar10": "flip-crop"}
"""Data set -> the augmentation that networks were trained with."""


def study_of(network: str, args: argparse.Namespace) -> StudySpec:
    """The study of a network with the preprocessing of its training; `args` has `work`, `models` and `data`."""
    from lrf_optuna.config import StudySpec
    from lrf_optuna.input_sections import DataSpec, ModelSpec

    known, name = described(network, args.models)
    pixels = {"divide": known["divide_by"], "mean": tuple(known["mean"]), "std": tuple(known["std"])}
    return StudySpec(
        name=network,
        model=ModelSpec(path=str(args.models / f"{network}.keras")),
        data=DataSpec(path=str(unpacked(name, args.data, args.work)), augment=AUGMENTED.get(name, "none"), **pixels),
    )


def built_within(network: str, targets: Mapping[str, float], args: argparse.Namespace) -> Path:
    """The folder of a run with these targets; `args` has `trials`, `work`, `models` and `data`."""
    from lrf_optuna.pipeline.run import Run

    untuned = {"tune.epochs": 0, "tune.calibrate": "never", "latency.time_at_end": False}
    options = {"search.trials": args.trials, "search.targets": dict(targets), **untuned}
    run = Run.open(study_of(network, args).override(options), args.work / network)
    run.finish(run.search())
    return Path(args.work / network)
