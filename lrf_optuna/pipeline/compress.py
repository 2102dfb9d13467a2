"""`compress`: what `python -m lrf_optuna run` does, as one function for notebooks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.config import SECTIONS, StudySpec, name_for
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import digest
from lrf_optuna.models.model_files import load_like
from lrf_optuna.models.weights import weights_digest
from lrf_optuna.pipeline.load_inputs import DATA_OBJECT, MODEL_OBJECT
from lrf_optuna.pipeline.metrics import name_of_object
from lrf_optuna.pipeline.run import Run
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.sections import DataSpec, ModelSpec

OPTION = re.compile(r"`[^`]*`|--([a-z-]+)")
KEYWORDS = {
    "epochs": "tune",
    "no-tune": "tune=False",
    "divide": "preprocess: divide",
    "mean": "preprocess: mean",
    "std": "preprocess: std",
    "key": "preprocess: keys",
}
"""Option of the command line -> the argument of `compress` with another name."""

SAMPLE = 16
"""Images that tell one data set from another."""
KEYWORD_SECTIONS = ("search", "output", "latency", "tune")
"""Sections of a study whose keys are keywords of `compress`."""


def compress(
    model: Any,
    data: Any,
    *,
    name: str | None = None,
    trials: int = 300,
    target: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    tune: int | bool | None = True,
    seed: int = 0,
    out: str | Path | None = None,
    preprocess: Mapping[str, Any] | str | None = None,
    force: bool = False,
    progress: Progress = SILENT,
    **settings: Any,
) -> tuple[Any, Result]:
    """Search, choose one point, build and tune it: what `python -m lrf_optuna run` does, from Python.

    `model`: a Keras model, or what `--model` takes. `data`: arrays by name (x_train, and y_train, x_test, y_test,
    x_val, y_val where there are any), (x, y), ((x_train, y_train), (x_test, y_test)), a tf.data.Dataset, a PyDataset or
    a generator of images or batches, {"train": ..., "test": ...} of any of them, or what `--data` takes. Without labels
    the outputs of the original stand for them. `preprocess`: "keras:MODULE", or keys of a study's [data] section
    (divide, mean, std, augment). `target`: e.g. {"params": 0.4}. `tune`: passes; True for the default, None for none.
    `force`: whether an untuned model may replace a tuned one. Further keywords are keys of [search], [output],
    [latency] and [tune], and `layers`: pattern -> {"keep": (least, most), "methods": names}. `metric` and `loss` may be
    functions of (labels, outputs) or objects of Keras. Gives the smaller Keras model and the `Result`; files are in
    `out`, else runs/`name`. The default `name` is the model's; where that is an object, it has a digest of the weights,
    the first images and the settings, so that equal calls go on with one study. Raises LrfError for what does not fit.
    """
    is_path = isinstance(model, (str, Path))
    with python_words():
        plain = StudySpec(
            name="study",
            model=ModelSpec(path=str(model) if is_path else MODEL_OBJECT),
            data=DataSpec(path=str(data) if isinstance(data, (str, Path)) else DATA_OBJECT),
        )
        options: dict[str, object] = {
            "search.trials": trials,
            "search.targets": dict(target or {}),
            "search.max_drop": max_drop,
            "search.seed": seed,
            "tune.epochs": {True: None, False: 0}[bool(tune)] if tune is None or isinstance(tune, bool) else tune,
            **keyword_settings(settings, tune),
        }
        named = {"preprocess": preprocess} if isinstance(preprocess, str) else preprocess or {}
        options |= {f"data.{key}": value for key, value in named.items()}
        spec = plain.override(options)
        spec = spec.override({"name": name or (None if out else default_name(model, data, spec))})
        folder = Path(out) if out else Path("runs") / spec.name
        given_model, given_data = None if is_path else model, None if isinstance(data, (str, Path)) else data
        run = Run.open(spec, folder, model=given_model, data=given_data, progress=progress)
        run.force = force
        result = run.finish(run.search())
        return run.final_model or load_like(run.folder.model, run.model), result


def keyword_settings(keywords: Mapping[str, Any], tune: int | bool | None) -> dict[str, Any]:
    """Key of a setting -> its value, of further keywords of `compress`.

    Raises LrfError for a keyword that is no setting, and for `epochs` beside another value of `tune`.
    """
    homes = {key: f"{section}.{key}" for section in KEYWORD_SECTIONS for key in SECTIONS[section].model_fields}
    homes["layers"] = "layers"
    if "epochs" in keywords and tune is not True:
        raise LrfError(f"tune and epochs are the same setting, but got {tune=} and epochs={keywords['epochs']!r}")
    given = {key: names_of_objects(value) if key in ("metric", "loss") else value for key, value in keywords.items()}
    own = dict.fromkeys(inspect.signature(compress).parameters, "")
    return {lookup({**own, **homes}, key, "keyword"): value for key, value in given.items()}


def names_of_objects(given: Any) -> Any:
    """A metric or loss, or several by output: names of those that are functions or objects of Keras."""
    if isinstance(given, Mapping):
        return {output: names_of_objects(own) for output, own in given.items()}
    return given if given is None or isinstance(given, str) else name_of_object(given)


def default_name(model: Any, data: Any, spec: StudySpec) -> str:
    """A study's name where none was given: other weights, other images and another question have other names."""
    if isinstance(model, (str, Path)):
        return name_for(spec.model.path, spec.data.path)
    if not hasattr(model, "weights"):
        raise LrfError(f"the model should be a Keras model, a file or a name, but got {type(model).__name__}")
    free = {"trials", "storage", "cache", "targets", "max_drop", "by", "stop_when_flat"}
    question = spec.model_dump_json(exclude={"name": True, "tune": True, "search": free})
    words = question, str(spec.tune.epochs > 0), *first_images(data)
    return f"{name_for(model.name, DATA_OBJECT)}-{digest(weights_digest(model), *words)[:6]}"


def first_images(data: Any) -> list[Any]:
    """A few images that tell one data set from another, of arrays; nothing of a data set that is read only once."""
    if isinstance(data, Mapping):
        return [part for name in sorted(data) for part in (name, *first_images(data[name]))]
    if isinstance(data, tuple | list):
        return [part for one in data for part in first_images(one)]
    return [str(data.shape), np.asarray(data[:SAMPLE])] if isinstance(data, np.ndarray) else []


@contextmanager
def python_words() -> Iterator[None]:
    """Errors name arguments of Python, `max_drop`, where the command line would name its options, `--max-drop`."""
    try:
        yield
    except LrfError as error:
        raise LrfError(OPTION.sub(python_word, str(error))) from error


def python_word(match: re.Match[str]) -> str:
    """The argument that an option of the command line stands for; a command in backquotes stays as it is."""
    option = match[1]
    return KEYWORDS.get(option, option.replace("-", "_")) if option else match[0]
