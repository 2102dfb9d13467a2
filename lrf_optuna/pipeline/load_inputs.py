"""The model and the data of a study, loaded or as given in Python, and checked before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import MappedRows
from lrf_optuna.data.augment import Moves
from lrf_optuna.data.class_names import index_names
from lrf_optuna.data.dataset import Data, LabeledImages, by_output
from lrf_optuna.data.load_data import all_as_arrays, data_from_arrays, data_of_parts, load_arrays, load_data
from lrf_optuna.data.metrics import METRICS
from lrf_optuna.data.naming import group_arrays
from lrf_optuna.data.preprocess import module_of_network
from lrf_optuna.data.python_data import arrays_of
from lrf_optuna.data.sources import LoadedArrays, OpenShape
from lrf_optuna.data.tasks import KINDS
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import check_folder
from lrf_optuna.input_sections import DataSpec
from lrf_optuna.models.compiled import TUNED_WITH, compiled_losses, loss_family
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.load import load_model
from lrf_optuna.models.model_inputs import input_shapes
from lrf_optuna.models.outputs import OutputHead, TaskWishes, classes_of, find_tasks, output_heads
from lrf_optuna.models.plain_layers import with_plain_layers
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import check_can_be_copied
from lrf_optuna.pipeline.check_names import check_names
from lrf_optuna.pipeline.identity import data_identity, spec_identity
from lrf_optuna.pipeline.metrics import loss_named, metric_named
from lrf_optuna.progress import Progress
from lrf_optuna.storage.database import sqlite_file
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.decisions import PROBABILITIES
from lrf_optuna.training.finetune import check_trainable
from lrf_optuna.training.losses import check_own_losses

TRIED = 16
"""Validation images that a metric of the user's own is tried on."""
GivenData: TypeAlias = Any
"""What `data.python_data.arrays_of` takes, a `Data`, or None where the specification has a path."""
LABELS_LOOKED_AT = 2**22
"""Labels of a mapped file that tell what an output is for, about."""
MODEL_OBJECT, DATA_OBJECT = "python:model", "python:data"
"""The paths in a specification whose model or data were given as Python objects."""


def load_inputs(
    spec: StudySpec, folder: Path, url: str, model: Any, data: GivenData, progress: Progress
) -> tuple[Any, Data]:
    """The model, ready for a search, and the data of `spec`; both are loaded where they are not given.

    Raises LrfError for what does not exist or does not fit, and for a study at `url` that is about something else.
    """
    check_names(spec)
    database = sqlite_file(url)
    for place in (folder, database.parent) if database else (folder,):
        check_folder(place)
    StudyStore.check(url, spec.name, spec_identity(spec))
    if model is None and spec.model.path.startswith("zoo:"):
        data = dataset(spec, data)
        StudyStore.check(url, spec.name, data_identity(spec, data))  # before the net of other images is replaced
        model = load_model(spec.model.path, cache=folder, data=data, seed=spec.search.seed, progress=progress)
    elif model is None and spec.model.path == MODEL_OBJECT:
        raise LrfError("the model of this study was a Python object: give model, or search again with a file")
    elif model is None:
        model = load_model(spec.model.path, progress=progress)
    check_can_be_copied(model)
    data = dataset(spec, data, model)
    check_own_metrics(model, data)
    for note in (*data.notes, *task_notes(data)):
        progress.say(note)
    return split_separable(with_plain_layers(model)), with_original_labels(model, data)


def dataset(spec: StudySpec, data: GivenData, model: Any = None) -> Data:
    """The data as given, of whatever has images and labels, or else loaded; checked against the model, if any."""
    if data is None and spec.data.path == DATA_OBJECT:
        raise LrfError("the data of this study were a Python object: give data, or search again with a file")
    if isinstance(data, Data):
        return data
    seed = spec.search.seed
    if model is None and data is None:
        return load_data(spec.data, seed)
    if model is None:
        given = arrays_of(data, keys=spec.data.keys)
        return data_from_arrays(given.arrays, spec=spec.data, seed=seed, notes=given.notes)
    shapes, heads = input_shapes(model), output_heads(model)
    only_shape = next(iter(shapes.values())) if len(shapes) == 1 else None
    own, said = own_preprocess(spec)
    given = arrays_of(data, shapes, own.keys) if data is not None else loaded(spec, own, only_shape, heads)
    check_not_empty(given.arrays)
    grouped, named = index_names(all_as_arrays(group_arrays(given.arrays, list(shapes), list(heads))))
    if spec.output.labels == "none":
        grouped, named = {name: array for name, array in grouped.items() if name[0] == "x"}, ()
    inputs = only_inputs(grouped, only_shape)
    tasks = find_tasks(heads, raw_labels(grouped, heads), inputs, wishes_of(spec, model))
    notes = (*said, *given.notes, *named)
    shape = only_shape or shapes
    return data_of_parts(grouped, spec=own, seed=seed, input_shape=shape, tasks=tasks, notes=notes)


def check_not_empty(arrays: Mapping[str, Any]) -> None:
    """Raises LrfError for an array without rows."""
    for name, array in arrays.items():
        if getattr(array, "shape", ())[:1] == (0,):
            raise LrfError(f"{name} is empty, its shape is {array.shape}: give some rows, or no {name}")


def check_own_metrics(model: Any, data: Data) -> None:
    """Raises LrfError where a metric of the user's own does not work for the first validation images."""
    if all(task.metric.name in METRICS for task in data.tasks.values()):
        return
    few = data.val.take(slice(TRIED))
    outputs, labels = Evaluator(model, data.preprocess).outputs(few.pixels), data.targets(few.labels)
    for name, own in labels.items():
        data.tasks[name].measure(own, outputs[name])


def check_augmentation(data: Data) -> None:
    """Raises LrfError where training images cannot be augmented as the data say."""
    if data.augment != "none":
        Moves.draw(data.train.take(slice(1)).pixels, data.augment, np.random.default_rng(0))


def check_losses(spec: StudySpec, model: Any, data: Data) -> None:
    """Raises LrfError where a loss for a fine-tune is not known, or does not work for the first validation images.

    Their number is none of the outputs' sizes, so that no shapes fit by chance.
    """
    functions = loss_functions(spec, model)
    if not functions:
        return
    sizes = {size for head in output_heads(model).values() for size in head.shape}
    count = next(n for n in range(TRIED, 2 * TRIED + len(sizes)) if n not in sizes)
    few = data.val.take(np.arange(count) % len(data.val))
    check_own_losses(functions, data.targets(few.labels), Evaluator(model, data.preprocess).outputs(few.pixels))


def check_training(spec: StudySpec, model: Any, data: Data) -> None:
    """Raises LrfError where the calibration or the fine-tune that a study asks for cannot be done."""
    if spec.tune.epochs or spec.tune.calibrates:
        check_trainable(model)
    if spec.tune.epochs:
        check_losses(spec, model, data)
        check_distil_by(spec, data)


def check_distil_by(spec: StudySpec, data: Data) -> None:
    """Raises LrfError where probabilities are to be distilled, and no output decides between classes."""
    if spec.tune.distil_by == PROBABILITIES and not any(task.decides for task in data.tasks.values()):
        raise LrfError(
            f"--distil-by {PROBABILITIES} needs an output that decides between classes, but there is none: leave it out"
        )


def task_notes(data: Data) -> Iterator[str]:
    """What every output is taken for; only the usual one of a classifier goes without saying."""
    for name, task in data.tasks.items():
        if task.kind != "classes" or not task.labeled or len(data.tasks) > 1:
            output = "The output is" if len(data.tasks) == 1 else f"The output {name} is"
            goal = "" if task.labeled else "; without labels, the original's outputs stand for them"
            words = KINDS[task.kind].words
            yield f"{output} {task.kind} ({words}), measured by {task.metric_name}{goal}; --task says otherwise."


def loaded(spec: StudySpec, own: DataSpec, shape: OpenShape | None, heads: Mapping[str, OutputHead]) -> LoadedArrays:
    """The arrays of files. A class for every file is no label of a model whose only output has positions."""
    only = next(iter(heads.values())) if len(heads) == 1 else None
    labels = spec.output.labels != "none" and not (only and len(only.shape) > 1)
    return load_arrays(own, spec.search.seed, shape, classes_of(heads) if only and labels else None, labels)


def own_preprocess(spec: StudySpec) -> tuple[DataSpec, tuple[str, ...]]:
    """The settings of the data, with the preprocessing of a network of keras.applications where they say nothing.

    The second part says so to the user.
    """
    data = spec.data
    is_given = any(value is not None for value in (data.divide, data.mean, data.std, data.preprocess))
    module = None if is_given else module_of_network(spec.model.path.removeprefix("keras:"))
    if module is None or not spec.model.path.startswith("keras:"):
        return data, ()
    note = (
        f"{spec.model.path} takes pixels of 0..255 as {module} prepares them: --preprocess keras:{module} by default."
    )
    return data.model_copy(update={"preprocess": f"keras:{module}"}), (note,)


def raw_labels(arrays: Mapping[str, Any], heads: Mapping[str, OutputHead]) -> dict[str, Any]:
    """Head -> raw training labels, of the heads that have some."""
    given = arrays.get("y_train")
    named = given if isinstance(given, Mapping) else {} if given is None else dict.fromkeys(heads, given)
    return {name: looked_at(labels) for name, labels in named.items()}


def looked_at(labels: Any) -> Any:
    """The labels that tell what an output is for: all, or of a large file that is mapped into memory some rows."""
    step = max(1, labels.size // LABELS_LOOKED_AT) if isinstance(labels, np.memmap | MappedRows) else 1
    return np.asarray(labels[::step])


def only_inputs(arrays: Mapping[str, Any], wanted: OpenShape | None) -> tuple[int, ...] | None:
    """The shape of the only input as a model takes it that takes the `wanted` one; None where there are several."""
    if wanted is None or isinstance(arrays["x_train"], Mapping):
        return None
    shape = tuple(np.shape(arrays["x_train"])[1:])
    return (*shape, 1) if len(shape) == len(wanted) - 1 else shape


def wishes_of(spec: StudySpec, model: Any) -> TaskWishes:
    """What the study says of its outputs, and the losses that the model was compiled with. Raises LrfError."""
    output, families = spec.output, compiled_losses(model, spec.model.path)
    for name in filter(None, output.loss):
        lookup(output_heads(model), name, "output")
    return TaskWishes(
        kinds=output.task,
        metrics={name: metric_named(metric) for name, metric in output.metric.items()},
        weights=output.weights,
        families={name: loss_family(loss) for name, loss in named_as_heads(families, model).items()},
        ignore=output.ignore,
    )


def named_as_heads(by_output: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Values by the names that Keras has for outputs -> by those of the heads; the only output has its own name."""
    heads = list(output_heads(model))
    return dict.fromkeys(heads, *by_output.values()) if len(heads) == len(by_output) == 1 else dict(by_output)


def loss_functions(spec: StudySpec, model: Any) -> dict[str, Any]:
    """Output -> the loss that a fine-tune takes instead of the task's own: the study's, else one of `compile`.

    Raises LrfError for a name that Keras has not.
    """
    compiled = named_as_heads(compiled_losses(model, spec.model.path), model)
    own = {name: loss for name, loss in compiled.items() if loss in TUNED_WITH}
    asked = {name: spec.output.loss.get(name, spec.output.loss.get("")) for name in output_heads(model)}
    wanted = own | {name: loss for name, loss in asked.items() if loss}
    return {name: loss_named(loss) for name, loss in wanted.items()}


def with_original_labels(model: Any, data: Data) -> Data:
    """The data with the original's own outputs as labels of the outputs that have no others."""
    unlabeled = {name: task for name, task in data.tasks.items() if not task.labeled}
    if not unlabeled:
        return data
    evaluator = Evaluator(model, data.preprocess)

    def labeled(part: LabeledImages) -> LabeledImages:
        outputs = evaluator.outputs(part.pixels)
        found = by_output(part.labels, data.tasks) if len(unlabeled) < len(data.tasks) else {}
        found |= {name: task.labels_of(outputs[name]) for name, task in unlabeled.items()}
        return replace(part, labels=found)

    train = labeled(data.train) if data.validation_is_small else data.train
    return replace(data, train=train, val=labeled(data.val), test=labeled(data.test))
