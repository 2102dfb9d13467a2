"""Arrays of any source become a data set in three parts, checked against a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.data.array_files import load_npy, load_npz
from lrf_optuna.data.arrays import MappedRows, Values, as_array, count_of, input_list
from lrf_optuna.data.class_names import index_names
from lrf_optuna.data.csv_files import load_csv
from lrf_optuna.data.dataset import Data, LabeledImages, by_output
from lrf_optuna.data.image_folders import load_folder
from lrf_optuna.data.preprocess import preprocess_of
from lrf_optuna.data.sources import PARTS, LoadedArrays, OpenShape, load_digits, load_keras_dataset
from lrf_optuna.data.tasks import OUTPUT, Task
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec

TEST_SHARE = 0.2
"""The share of the training images that become test images where there are none: the usual 80/20 split."""
NO_TEST = "There were no test images: {share:.0%} of the training images were split off as test images."
NO_VALIDATION = (
    "Validation images were split off the training images ({share:.0%} of them): "
    "a network that was trained on them looks better on them than it is."
)
NO_LABELS = "There are no labels: the outputs of the original stand for them, and metrics say how much of it is kept."
CHECKED_AT_ONCE = 2**26
"""Numbers that are checked for NaN at once, so that files that are mapped into memory are not copied."""
CHECKED_LABELS = 2**22
"""Labels of a mapped file that are checked at once; a check needs up to eight bytes more for each."""


def load_data(
    spec: DataSpec,
    seed: int,
    input_shape: Any = None,
    classes: int | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> Data:
    """The data of `spec`, checked against a model that takes `input_shape` (H, W, C) and has `classes` outputs.

    Raises an LrfError for files that are missing or broken and for images and labels that do not fit.
    """
    loaded = load_arrays(spec, seed, input_shape, classes)
    return data_from_arrays(
        loaded.arrays,
        spec=spec,
        seed=seed,
        input_shape=input_shape,
        classes=classes,
        tasks=tasks,
        notes=loaded.notes,
    )


def load_arrays(
    spec: DataSpec, seed: int, input_shape: Any = None, classes: int | None = None, labels: bool = True
) -> LoadedArrays:
    """The arrays that `spec` means, as their source has them, without labels where those are not wanted.

    Raises LrfError where files are missing or broken, and for keys of a source that has none.
    """
    shape = None if isinstance(input_shape, Mapping) else input_shape
    path, is_file = Path(spec.path), spec.path != "digits" and not spec.path.startswith("keras:")
    kind = path.suffix.lower() if is_file else ""
    if is_file and path.is_dir() and any(path.glob("*.npy")):
        kind = ".npy"
    if is_file and kind == ".csv" and path.is_file():
        return load_csv(path, spec.keys, shape, labels)
    if is_file and (kind == ".npy" or not path.is_dir()):
        return LoadedArrays((load_npy if kind == ".npy" and path.exists() else load_npz)(path, spec.keys))
    if spec.keys:
        raise LrfError(f"--key is for .npz, .npy and .csv files, but the data are {spec.path}: leave it out")
    if is_file:
        return load_folder(path, shape, classes, labels)
    return LoadedArrays(load_digits(seed) if spec.path == "digits" else load_keras_dataset(spec.path[len("keras:") :]))


def data_from_arrays(
    arrays: Mapping[str, Any],
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    input_shape: Any = None,
    classes: int | None = None,
    tasks: Mapping[str, Task] | None = None,
    notes: tuple[str, ...] = (),
) -> Data:
    """The data of `x_train` and, if any, `y_train`, `x_test`, `y_test`, `x_val`, `y_val`.

    Images are (N, H, W, C) or (N, H, W), or a dict of arrays by input (`input_shape`: a dict of shapes then); labels
    are as the `tasks` of the outputs want them, by default classes. Validation and test images are split off the
    training images where there are none. `notes`: on what was done to the arrays before. Raises LrfError where arrays
    do not fit each other or the model.
    """
    spec = spec or DataSpec(path="arrays")
    tasks = tasks or {OUTPUT: Task("binary" if classes == 1 else "classes", (classes,))}
    given, named = index_names(all_as_arrays(arrays))
    return data_of_parts(given, spec=spec, seed=seed, input_shape=input_shape, tasks=tasks, notes=(*notes, *named))


def data_of_parts(
    given: Mapping[str, Any],
    *,
    spec: DataSpec,
    seed: int,
    input_shape: Any,
    tasks: Mapping[str, Task],
    notes: tuple[str, ...] = (),
) -> Data:
    """What `data_from_arrays` gives, of arrays whose labels are numbers already."""
    named = [part for part in PARTS if {f"x_{part}", f"y_{part}"} & given.keys()]
    parts = {part: labeled_images(given, part, input_shape, tasks) for part in named}
    shapes = {str([array.shape[1:] for array in input_list(images.pixels)]) for images in parts.values()}
    if len(shapes) > 1:
        raise LrfError(f"{spec.path}: the parts have images of different shapes: {sorted(shapes)}")
    said = [*notes, *([] if any(task.labeled for task in tasks.values()) else [NO_LABELS])]
    missing: list[str] = []
    for part, share, note in (("test", TEST_SHARE, NO_TEST), ("val", spec.validation, NO_VALIDATION)):
        if part not in parts:
            parts["train"], parts[part] = split_off(parts["train"], share, seed)
            said.append(note.format(share=share))
            missing.append(part)
    preprocess = preprocess_of(spec, {array.shape[-1] for array in input_list(parts["train"].pixels)})
    source = spec.path if spec.path.startswith("keras:") else Path(spec.path).name
    return Data(
        parts["train"],
        parts["val"],
        parts["test"],
        preprocess=preprocess,
        augment=spec.augment,
        notes=tuple(said),
        source=source,
        tasks=dict(tasks),
        split_off=tuple(missing),
    )


def all_as_arrays(given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was given as arrays; the arrays of several inputs or outputs stay a dict."""
    found = {}
    for name, array in given.items():
        try:
            if isinstance(array, Mapping):
                found[name] = {own: as_array(a) for own, a in array.items()}
            elif array is not None:
                found[name] = as_array(array)
        except ValueError as error:
            raise LrfError(f"{name} should be an array, but its parts have different shapes: {error}") from error
    return found


def labeled_images(arrays: Mapping[str, Any], part: str, input_shape: Any, tasks: Mapping[str, Task]) -> LabeledImages:
    """The images and labels of a part, checked against each other and against the model's inputs and tasks."""
    if f"x_{part}" not in arrays:
        raise LrfError(f"y_{part} has no x_{part}: give both or neither")
    given = arrays[f"x_{part}"]
    if isinstance(given, Mapping):
        shapes = input_shape or dict.fromkeys(given)
        pixels: Any = {name: checked_pixels(given[name], f"x_{part}.{name}", shapes[name]) for name in shapes}
    else:
        pixels = checked_pixels(given, f"x_{part}", input_shape)
    count = count_of(pixels)
    wanted = {name: task for name, task in tasks.items() if task.labeled}
    if not wanted:
        return LabeledImages(pixels)
    labels = {}
    for name, own in own_labels(arrays, part, pixels, wanted).items():
        labels[name] = checked_labels(wanted[name], own, f"y_{part}" + f".{name}" * (len(tasks) > 1))
        if len(own) != count:
            raise LrfError(f"x_{part} has {count} images, but y_{part} has {len(own)} labels")
    first = next((labels[n] for n, task in wanted.items() if task.kind in ("classes", "binary")), None)
    return LabeledImages(pixels, labels if len(tasks) > 1 else next(iter(labels.values())), first)


def checked_labels(task: Task, labels: Values, name: str) -> Values:
    """Labels as the metrics take them; those of a file are checked by parts. Raises LrfError where they do not fit."""
    if task.kind == "copy" or not isinstance(labels, np.memmap | MappedRows):
        return task.check(labels, name)
    step = max(1, CHECKED_LABELS * len(labels) // max(1, labels.size))
    parts = [task.check(np.asarray(labels[i : i + step]), name) for i in range(0, len(labels), step)]
    return np.concatenate(parts)


def own_labels(arrays: Mapping[str, Any], part: str, pixels: Any, tasks: Mapping[str, Task]) -> dict[str, Values]:
    """Output -> its raw labels in a part; those of a copy are the images, where there are no others."""
    given = arrays.get(f"y_{part}")
    if given is None and all(task.kind == "copy" for task in tasks.values()):
        return dict.fromkeys(tasks, pixels)
    if given is None:
        raise LrfError(f"x_{part} and y_{part} go together, but there is only x_{part}: give both, or --labels none")
    found = by_output(given, tasks)
    if missing := [name for name in tasks if name not in found]:
        raise LrfError(f"y_{part} lacks labels for {', '.join(missing)}; it has: {', '.join(map(str, found))}")
    return {name: found[name] for name in tasks}


def checked_pixels(pixels: Values, name: str, shape: OpenShape | None) -> Values:
    """Images as a model with inputs of a shape takes them; a missing channel axis is added. Raises LrfError."""
    rank = 4 if shape is None else len(shape) + 1
    if pixels.ndim == rank - 1 and (rank == 4 or (shape and shape[-1] == 1)):
        pixels = pixels[..., None]
    if pixels.ndim != rank or not pixels.size:
        plain = str(("N", *(shape or ()))).replace("'", "")
        wanted = "images of the shape (N, H, W, C) or (N, H, W)" if rank == 4 else f"the shape {plain}"
        raise LrfError(f"{name} should have {wanted}, but got {pixels.shape}")
    if any(want not in (None, have) for want, have in zip(shape or (), pixels.shape[1:], strict=False)):
        raise LrfError(f"the model takes {shape}, the images of {name} are {pixels.shape[1:]}")
    if pixels.dtype.kind not in "buif":
        raise LrfError(f"{name} should hold numbers, but got {pixels.dtype}")
    step = max(1, CHECKED_AT_ONCE * len(pixels) // pixels.size)
    if pixels.dtype.kind == "f" and not all(
        np.isfinite(pixels[i : i + step]).all() for i in range(0, len(pixels), step)
    ):
        raise LrfError(f"{name} holds NaN or infinite pixels: clean the images first")
    return pixels


def split_off(images: LabeledImages, share: float, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """The images without a stratified `share` of them, and the images of that share; both in their old order."""
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise LrfError(f"{len(images)} image(s) cannot be split: {share:.0%} of them would leave none to train on")
    order = images.order(seed)
    return images.rows(np.sort(order[count:])), images.rows(np.sort(order[:count]))
