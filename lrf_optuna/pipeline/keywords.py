"""The keywords of `compress` beside its own arguments: the keys of a study's sections, as Python gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from lrf_optuna.config import OPTIONS, SECTIONS
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.pipeline.metrics import name_of_object

KEYWORD_SECTIONS = ("search", "output", "latency", "tune")
"""Sections of a study whose keys are keywords of `compress`."""
OWN_NAMES = {"targets": "target", "epochs": "tune"}
"""Key of a section -> the argument of `compress` that has another name."""
TaskName: TypeAlias = Literal["classes", "binary", "labels", "numbers", "map", "copy", "embedding"]
OutputFunction: TypeAlias = Callable[..., Any]
"""A function of (labels, outputs), or an object of Keras."""


class TrainingKeywords(TypedDict, total=False):
    """What a fine-tune takes: the keys of [output], and of [tune] but for `calibrate` and `epochs`.

    A setting of outputs is one value for all of them, or output -> value.
    """

    rate: float | Literal["auto"]
    batch: int
    distil: float
    distil_by: Literal["auto", "logits", "probabilities"]
    cutmix: bool
    optimizer: Literal["muon", "adamw", "sgd"]
    task: TaskName | Mapping[str, TaskName]
    metric: str | OutputFunction | Mapping[str, str | OutputFunction]
    loss: str | OutputFunction | Mapping[str, str | OutputFunction]
    weights: float | Mapping[str, float]
    ignore: int | None
    labels: Literal["given", "none"]


class Keywords(TrainingKeywords, total=False):
    """Settings of a study: the keys of [search], [output], [latency] and [tune], and `layers`."""

    calibration: int
    population: int
    methods: Sequence[str] | None
    objectives: Sequence[str]
    similarity: str
    keep: Sequence[float] | None
    exclude: str | Sequence[str]
    only: str | Sequence[str]
    rank_multiple: int | Literal["auto"]
    storage: str | None
    cache: str | Path | bool
    after_tuning: bool
    knee: bool
    by: Literal["metric", "loss"]
    sampler: str
    initial_plans: bool
    stop_when_flat: bool
    runtime: Literal["litert", "onnx", "keras"]
    threads: int | Literal["all"]
    runtime_batch: int
    latency_table: str | Path | None
    time_at_end: bool
    calibrate: bool | Literal["auto", "always", "never"]
    layers: Mapping[str, Mapping[str, Any]]


def homes() -> dict[str, str]:
    """Keyword -> the key of its setting: "batch" -> "tune.batch"."""
    found = {key: f"{section}.{key}" for section in KEYWORD_SECTIONS for key in SECTIONS[section].model_fields}
    return found | {"layers": "layers"}


def keyword_defaults() -> dict[str, object]:
    """Keyword -> its default in a study."""
    sections = {key: home.rpartition(".")[0] for key, home in homes().items()}
    fields = {key: SECTIONS[section].model_fields[key] for key, section in sections.items()}
    return {key: field.get_default(call_default_factory=True) for key, field in fields.items()}


def keyword_texts() -> dict[str, str]:
    """Keyword -> what it is, as the help of the command line says it, and its default where that needs words."""
    found = {"layers": "Limits of single layers: pattern of names -> {'keep': (least, most), 'methods': names}."}
    options = {key: OPTIONS[home] for key, home in homes().items() if home in OPTIONS}
    for key, option in options.items():
        is_switch = isinstance(option.field.default, bool) and option.flag and not option.flag.help
        text = re.sub(",? separated by commas", "", option.help)
        if option.flag and is_switch:
            text = f"{option.flag.value}: {text[0].lower()}{text[1:]}"
        found[key] = f"{text} Default: {option.shown}." if option.shown else text
    return found


def settings_of(keywords: Mapping[str, Any], given: Mapping[str, bool], own: Sequence[str]) -> dict[str, Any]:
    """Key of a setting -> its value, of the keywords of a call.

    `given`: argument of `compress` -> whether it was given, of those that are settings under another name; `own`: all
    of its arguments. Raises LrfError for a keyword that is no setting, and for a setting that was given twice.
    """
    known = homes()
    for key, argument in OWN_NAMES.items():
        if key in keywords and given[argument]:
            raise LrfError(f"{argument} and {key} are the same setting, but both are given: leave out {key}")
    named = {key: names_of_objects(value) if key in ("metric", "loss") else value for key, value in keywords.items()}
    return {lookup({**dict.fromkeys(own, ""), **known}, key, "keyword"): value for key, value in named.items()}


def names_of_objects(given: Any) -> Any:
    """A metric or loss, or several by output: names of those that are functions or objects of Keras."""
    if isinstance(given, Mapping):
        return {output: names_of_objects(own) for output, own in given.items()}
    return given if given is None or isinstance(given, str) else name_of_object(given)


def preprocess_settings(preprocess: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Key of a setting -> its value, of the argument `preprocess`. Raises LrfError for anything else."""
    if not isinstance(preprocess, Mapping | str | None):
        raise LrfError(f"preprocess should be keras:MODULE or a dict, but got {type(preprocess).__name__}")
    named = {"preprocess": preprocess} if isinstance(preprocess, str) else preprocess or {}
    return {f"data.{key}": value for key, value in named.items()}


def epochs_of(tune: int | bool | None) -> int | None:
    """The epochs that the argument `tune` asks for; None for the study's own number."""
    return {True: None, False: 0}[bool(tune)] if tune is None or isinstance(tune, bool) else tune
