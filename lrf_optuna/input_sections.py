"""The sections of a study on its network, its images and its outputs: defaults, limits, what `--help` shows."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lrf_optuna.setting_fields import (
    COMMAS,
    GENERAL,
    OUTPUTS,
    ByOutput,
    FileName,
    Positive,
    Section,
    Several,
    Share,
    setting,
)

MODEL_FORMS = "FILE.keras, FILE.h5, FILE.hdf5, keras:NAME, zoo:NAME or module:function"
DATA_FORMS = "FILE.npz, FILE.csv, a FOLDER of class folders, images or .npy files, keras:NAME or digits"
TASKS = "classes, binary, labels, numbers, map, copy or embedding"
PER_CHANNEL = "One number, or one for each channel, separated by commas"


class ModelSpec(Section):
    """Where the trained network comes from: a file, zoo:NAME, keras:NAME or package.module:function."""

    path: FileName = setting(..., f"The network: {MODEL_FORMS}.", name="--model", unit="MODEL", panel=GENERAL)


class DataSpec(Section):
    """Where the images come from and how pixels become the network's inputs: (pixel / divide - mean) / std.

    None for all of `divide`, `mean`, `std` and `preprocess` means pixels as they are, or as a network of
    keras.applications takes them.
    """

    path: FileName = setting(..., f"The images: {DATA_FORMS}.", name="--data", unit="DATA", panel=GENERAL)
    keys: dict[str, Annotated[str, Field(min_length=1)]] = setting(
        {},
        "Name that an array, or a column of a CSV file, has in the file: x_train=images.",
        name="--key",
        unit="NAME=KEY",
        hint="give NAME=KEY, as in x_train=images",
    )
    divide: Positive | None = setting(None, "The network takes (pixel / divide - mean) / std.", shown="1")
    mean: Several[float] | None = setting(None, f"{PER_CHANNEL}.", hint=COMMAS, shown="0")
    std: Several[Positive] | None = setting(None, f"{PER_CHANNEL}.", hint=COMMAS, shown="1")
    preprocess: str | None = setting(
        None,
        "keras:MODULE for the preprocess_input of keras.applications, such as keras:resnet50, or none.",
        unit="MODULE",
        shown="the model's own for keras:NAME",
    )
    augment: Literal["none", "flip", "crop", "flip-crop"] = setting(
        "none", "Augmentation, as in the network's training: none, flip, crop or flip-crop."
    )
    validation: Share = setting(0.1, "Share of the training images to validate on without x_val.", unit="SHARE")

    @field_validator("std")
    @classmethod
    def _as_long_as_the_mean(cls, std: tuple[float, ...] | None, info: Any) -> tuple[float, ...] | None:
        mean = info.data.get("mean")
        if mean and std and len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ValueError(f"should have as many numbers as mean ({len(mean)})")
        return std

    @field_validator("preprocess")
    @classmethod
    def _instead_of_numbers(cls, preprocess: str | None, info: Any) -> str | None:
        if preprocess is not None and not re.fullmatch(r"none|keras:\w+", preprocess):
            raise ValueError("should be keras:MODULE, such as keras:mobilenet_v2, or none")
        given = [name for name in ("divide", "mean", "std") if info.data.get(name) is not None]
        if preprocess is not None and given:
            raise ValueError(f"goes with no {' and no '.join(given)}: give one or the other")
        return preprocess


class OutputSpec(Section):
    """What the outputs are for, how they are measured and trained; found from model and labels where nothing is said.

    A value without the name of an output holds for all outputs.
    """

    task: ByOutput[str] = setting(
        {}, f"Task: {TASKS}.", unit="[OUTPUT=]TASK", shown="found from model and labels", panel=OUTPUTS
    )
    metric: ByOutput[str] = setting(
        {},
        "Metric: a name, or module:function of (labels, outputs).",
        unit="[OUTPUT=]METRIC",
        shown="the task's",
        panel=OUTPUTS,
    )
    loss: ByOutput[str] = setting(
        {},
        "Loss to tune with: one of Keras', or module:function of (labels, outputs).",
        unit="[OUTPUT=]LOSS",
        shown="the task's",
        panel=OUTPUTS,
    )
    weights: ByOutput[Positive] = setting(
        {},
        "Weight of an output among several.",
        name="--output-weight",
        unit="OUTPUT=NUMBER",
        shown="1",
        panel=OUTPUTS,
    )
    ignore: int | None = setting(None, "Label of a map that does not count.", unit="LABEL", panel=OUTPUTS)
    labels: Literal["given", "none"] = setting(
        "given", "given, or none: the original's outputs stand for labels.", panel=OUTPUTS
    )
