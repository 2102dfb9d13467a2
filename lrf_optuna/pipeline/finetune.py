"""`finetune`: one fine-tune of any smaller network against its original, as a function for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Unpack, get_type_hints

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.model_inputs import input_shapes
from lrf_optuna.models.outputs import output_heads
from lrf_optuna.pipeline.compress import bare_study, is_path
from lrf_optuna.pipeline.keywords import (
    TrainingKeywords,
    keyword_defaults,
    keyword_texts,
    preprocess_settings,
    settings_of,
)
from lrf_optuna.pipeline.load_inputs import (
    check_augmentation,
    check_training,
    dataset,
    loss_functions,
    with_original_labels,
)
from lrf_optuna.pipeline.notebook_progress import shown_progress
from lrf_optuna.pipeline.python_words import PythonProgress, python_words
from lrf_optuna.plans.result import Tuned
from lrf_optuna.progress import Progress
from lrf_optuna.signatures import names_keywords
from lrf_optuna.training import finetune as training


@names_keywords(TrainingKeywords, keyword_defaults(), keyword_texts())
def finetune(
    model: Any,
    original: Any,
    data: Any,
    *,
    epochs: int = 5,
    preprocess: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    progress: Progress | bool | None = True,
    callbacks: Sequence[Any] = (),
    **settings: Unpack[TrainingKeywords],
) -> Tuned:
    """Fine-tune `model` in place against the `original` that it was made of, and leave it with its best weights.

    Both are Keras models with the same inputs and outputs. `data`, `preprocess`, `seed`, `progress`, `callbacks` and
    the settings are those of `compress`; `epochs`: passes over the training images. An interrupt leaves the best
    weights so far.

    Gives the learning rate (`.rate`), the validation metric before the fine-tune and after each epoch (`.val_metric`),
    the epoch whose weights are kept (`.kept_epoch`) and what was distilled (`.distil_by`). Raises LrfError for what
    does not fit before any training, and where every learning rate diverges.
    """
    shown = PythonProgress(shown_progress(progress))
    with python_words():
        told = training.checked_callbacks(callbacks)
        check_epochs(epochs)
        if data is None:
            raise LrfError("the data should be arrays, a data set or a file, but got None")
        check_models(model, original)
        for key in settings:
            lookup(get_type_hints(TrainingKeywords), key, "keyword")
        options: dict[str, object] = {"search.seed": seed, "tune.epochs": epochs}
        options |= preprocess_settings(preprocess) | settings_of(settings, {}, [])
        spec = bare_study(original, data).override(options)
        spec.check_fine_tune(settings_of(settings, {}, []))
        given = dataset(spec, None if is_path(data) else data, original)
        check_augmentation(given)
        labeled = with_original_labels(original, given)
        check_training(spec, model, labeled)
        losses = loss_functions(spec, original)
        run: dict[str, Any] = {"losses": losses, "seed": seed, "callbacks": told, "progress": shown}
        return training.finetune(model, original, labeled, spec.tune, **run)


def check_epochs(epochs: Any) -> None:
    """Raises LrfError for a number of passes that is no whole one, or below 1."""
    if not isinstance(epochs, Integral) or int(epochs) < 1:
        raise LrfError(f"epochs should be 1 or more, but got {epochs!r}")


def check_models(model: Any, original: Any) -> None:
    """Raises LrfError where two models are not two of Keras, with the same inputs and outputs."""
    for one in (model, original):
        if not hasattr(one, "weights"):
            raise LrfError(f"the model and its original should be Keras models, but got {type(one).__name__}")
    if model is original:
        raise LrfError("the model and its original are the same object: give a copy of one of them")
    one, other = (ends_of(given) for given in (model, original))
    if one != other:
        raise LrfError(f"the model should have the inputs and outputs of its original, {other}, but has {one}")


def ends_of(model: Any) -> str:
    """The shapes of a model's inputs, and of its outputs by name, in words."""
    inputs, outputs = input_shapes(model).values(), output_heads(model).items()
    return f"{', '.join(map(str, inputs))} -> {', '.join(f'{name} {head.shape}' for name, head in outputs)}"
