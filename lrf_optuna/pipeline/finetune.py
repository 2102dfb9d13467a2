"""`finetune`: one fine-tune of any smaller network against its original, as a function for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from lrf_optuna.errors import LrfError
from lrf_optuna.models.model_inputs import input_shapes
from lrf_optuna.models.outputs import output_heads
from lrf_optuna.pipeline.compress import bare_study, is_path
from lrf_optuna.pipeline.keywords import names_of_objects
from lrf_optuna.pipeline.load_inputs import (
    check_augmentation,
    check_losses,
    dataset,
    loss_functions,
    with_original_labels,
)
from lrf_optuna.pipeline.notebook_progress import shown_progress
from lrf_optuna.pipeline.python_words import PythonProgress, python_words
from lrf_optuna.progress import Progress
from lrf_optuna.training import finetune as training
from lrf_optuna.training.finetune import Tuned


def finetune(
    model: Any,
    original: Any,
    data: Any,
    *,
    epochs: int = 5,
    rate: float | Literal["auto"] = "auto",
    batch: int = 128,
    distil: float = 1.0,
    distil_by: Literal["auto", "logits", "probabilities"] = "auto",
    cutmix: bool = True,
    optimizer: Literal["muon", "adamw", "sgd"] = "muon",
    loss: str | Callable[..., Any] | Mapping[str, str | Callable[..., Any]] | None = None,
    preprocess: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    progress: Progress | bool | None = True,
    callbacks: Sequence[Any] = (),
) -> Tuned:
    """Fine-tune `model` in place against the `original` that it was made of, and leave it with its best weights.

    Both are Keras models with the same inputs and outputs. `data`, `preprocess`, `loss`, `progress` and `callbacks`
    are those of `compress`; the other arguments are keys of [tune]. Gives the learning rate, the validation metric
    before the fine-tune and after each epoch, and which of them was kept. Raises LrfError for what does not fit,
    before any training.
    """
    shown = PythonProgress(shown_progress(progress))
    with python_words():
        told = training.checked_callbacks(callbacks)
        check_same_ends(model, original)
        options: dict[str, object] = {
            "search.seed": seed,
            "tune.epochs": epochs,
            "tune.rate": rate,
            "tune.batch": batch,
            "tune.distil": distil,
            "tune.distil_by": distil_by,
            "tune.cutmix": cutmix,
            "tune.optimizer": optimizer,
        }
        named = {"preprocess": preprocess} if isinstance(preprocess, str) else preprocess or {}
        options |= {f"data.{key}": value for key, value in named.items()}
        options |= {"output.loss": names_of_objects(loss)} if loss is not None else {}
        spec = bare_study(original, data).override(options)
        given = dataset(spec, None if is_path(data) else data, original)
        check_augmentation(given)
        check_losses(spec, original, given)
        losses, labeled = loss_functions(spec, original), with_original_labels(original, given)
        settings: dict[str, Any] = {"losses": losses, "seed": seed, "callbacks": told, "progress": shown}
        return training.finetune(model, original, labeled, spec.tune, **settings)


def check_same_ends(model: Any, original: Any) -> None:
    """Raises LrfError where two models are none of Keras, or have other inputs or outputs than each other."""
    for one in (model, original):
        if not hasattr(one, "weights"):
            raise LrfError(f"the model and its original should be Keras models, but got {type(one).__name__}")
    (one, other) = (ends_of(given) for given in (model, original))
    if one != other:
        raise LrfError(f"the model should have the inputs and outputs of its original, {other}, but has {one}")


def ends_of(model: Any) -> str:
    """The shapes of a model's inputs, and of its outputs by name, in words."""
    inputs, outputs = input_shapes(model).values(), output_heads(model).items()
    return f"{', '.join(map(str, inputs))} -> {', '.join(f'{name} {head.shape}' for name, head in outputs)}"
