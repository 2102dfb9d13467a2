"""`compress`: what `python -m lrf_optuna run` does, as one function for scripts and notebooks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from lrf_optuna.config import StudySpec, name_for
from lrf_optuna.errors import LrfError
from lrf_optuna.files import digest
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.models.load import load_model
from lrf_optuna.models.model_files import load_like
from lrf_optuna.models.weights import weights_digest
from lrf_optuna.pipeline.identity import data_identity, spec_identity
from lrf_optuna.pipeline.keywords import (
    Keywords,
    epochs_of,
    keyword_defaults,
    keyword_texts,
    preprocess_settings,
    settings_of,
)
from lrf_optuna.pipeline.load_inputs import DATA_OBJECT, MODEL_OBJECT, dataset
from lrf_optuna.pipeline.notebook_progress import say_what_is_left, shown_progress
from lrf_optuna.pipeline.python_words import PythonProgress, python_words
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_result import RunResult
from lrf_optuna.progress import Progress
from lrf_optuna.signatures import names_keywords
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.finetune import checked_callbacks

FREE_IN_A_STUDY = {"trials", "storage", "cache", "targets", "max_drop", "after_tuning", "knee", "by", "stop_when_flat"}
"""Keys of [search] that another call for the same study may change."""


@names_keywords(Keywords, keyword_defaults(), keyword_texts())
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
    progress: Progress | bool | None = True,
    callbacks: Sequence[Any] = (),
    **settings: Unpack[Keywords],
) -> tuple[Any, RunResult]:
    """Search, choose one point, build and tune it: what `python -m lrf_optuna run` does, from Python.

    `model`: a Keras model, or what `--model` takes. `data`: arrays by name (x_train, and y_train, x_test, y_test,
    x_val, y_val where there are any), (x, y), ((x_train, y_train), (x_test, y_test)), a tf.data.Dataset, a PyDataset or
    a generator of images or batches, {"train": ..., "test": ...} of any of them, or what `--data` takes. Without labels
    the outputs of the original stand for them. `preprocess`: "keras:MODULE", or keys of a study's [data] section
    (divide, mean, std, augment). `trials`: plans that are scored, in all. `target`: the largest share of costs that may
    be left, e.g. {"params": 0.4}; `max_drop`: the most points of the validation metric to lose before the fine-tune.
    `tune`: passes; True for the default, None or False for none. `force`: whether an untuned model is built where a
    tuned one of the same point is there. `progress`: True shows it in the notebook's cell or on stderr, None and False
    show nothing. `callbacks`: of Keras, for the fine-tune, with the logs `loss` and `val_metric`. `metric`
    and `loss` may be functions of (labels, outputs) or objects of Keras.

    Gives the smaller Keras model and its `RunResult`; files are in `out`, else runs/`name`. The default `name` is the
    model's. Where the model or the data are objects, the name ends in a digest of both and of the settings, so that
    equal calls go on with one study and others have their own. Raises LrfError for what does not fit.
    """
    shown = PythonProgress(shown_progress(progress))
    with python_words():
        told = checked_callbacks(callbacks)
        given = {"target": target is not None, "tune": tune is not True}
        options: dict[str, object] = {
            "search.trials": trials,
            "search.targets": dict(target or {}),
            "search.max_drop": max_drop,
            "search.seed": seed,
            "tune.epochs": epochs_of(tune),
            **settings_of(settings, given, list(inspect.signature(compress).parameters)),
        }
        options |= preprocess_settings(preprocess)
        spec = bare_study(model, data).override(options)
        spec.check_fine_tune(options)
        if told and not spec.tune.epochs:
            raise LrfError("callbacks need a fine-tune, but there are no epochs: give tune, or leave callbacks out")
        objects = given_objects(model, data, spec, shown)
        spec = spec.override({"name": name or (None if out else default_name(*objects, spec))})
        run = Run.open(spec, Path(out or Path("runs") / spec.name), model=objects[0], data=objects[1], progress=shown)
        run.force, run.callbacks = force, told
        say_what_is_left(shown.shown, run.seconds_after)
        result = run.finish(run.search())
        small = run.final_model or load_like(run.folder.model, run.model)
        return small, RunResult.of(result, run, small)


def bare_study(model: Any, data: Any) -> StudySpec:
    """A study of a model and data, which may be objects, with all other settings at their defaults."""
    return StudySpec(
        name="study",
        model=ModelSpec(path=str(model) if is_path(model) else MODEL_OBJECT),
        data=DataSpec(path=str(data) if is_path(data) else DATA_OBJECT),
    )


def is_path(given: Any) -> bool:
    """Whether a model or data are given by a path or a name."""
    return isinstance(given, str | Path)


def given_objects(model: Any, data: Any, spec: StudySpec, progress: Progress) -> tuple[Any, Any]:
    """The model and the data where they are objects, with data read once; None for what is still to be loaded.

    A model file is loaded where the data are an object, because the model tells batches from images.
    """
    if not is_path(model) and not hasattr(model, "weights"):
        raise LrfError(f"the model should be a Keras model, a file or a name, but got {type(model).__name__}")
    if is_path(data):
        return None if is_path(model) else model, None
    if not is_path(model):
        return model, dataset(spec, data, model)
    if spec.model.path.startswith("zoo:"):  # it is trained on these data, in the folder of the run
        return None, dataset(spec, data)
    loaded = load_model(spec.model.path, progress=progress)
    return loaded, dataset(spec, data, loaded)


def default_name(model: Any, data: Any, spec: StudySpec) -> str:
    """A study's name where none was given: other weights, other images and another question have other names."""
    base = name_for(model.name if spec.model.path == MODEL_OBJECT else spec.model.path, spec.data.path)
    question = spec.model_dump_json(exclude={"name": True, "tune": True, "search": FREE_IN_A_STUDY})
    words = [question, str(spec.tune.epochs > 0)]
    words += [weights_digest(model)] if spec.model.path == MODEL_OBJECT else []
    words += [str(data_identity(spec, data))] if spec.data.path == DATA_OBJECT else []
    ending = f"{base}-{digest(*words)[:6]}"
    return ending if len(words) > 2 or is_taken(base, spec) else base


def is_taken(name: str, spec: StudySpec) -> bool:
    """Whether there is a study of this name in runs/ that asks another question."""
    url = spec.search.storage or f"sqlite:///{Path('runs') / name / 'study.db'}"
    try:
        StudyStore.check(url, name, spec_identity(spec))
    except LrfError:
        return True
    return False
