"""Data as Python has them: arrays, tuples, tf.data datasets, keras.utils.PyDataset, generators, torch tensors.

Nothing is imported to recognize them. Sets of batches are read once and kept in memory, up to a budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import as_array, input_list, map_inputs
from lrf_optuna.data.sources import PARTS, LoadedArrays, OpenShape
from lrf_optuna.data.tasks import same_size
from lrf_optuna.errors import LrfError

DATASET_BYTES = 2**31
"""Bytes of images and labels that are kept of a tf.data dataset, PyDataset or generator, at most: 2 GiB a part."""
DATASET_IMAGES = 200_000
"""Images that are kept of such a set, at most: an endless set of small images would else fill the bytes for hours."""
PART_NAMES = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
"""Key of a mapping -> the part of a data set that it means."""
IMAGE_KEYS, LABEL_KEYS = ("image", "images", "x", "input", "inputs", "pixel_values"), ("label", "labels", "y", "target")
"""Keys of an element that is a dict and has images and a label, as tensorflow_datasets gives it."""
PYTHON_FORMS = (
    "arrays by name, (x, y), ((x_train, y_train), (x_test, y_test)), a tf.data.Dataset, a PyDataset or a generator"
)


def arrays_of(
    given: Any, shapes: Mapping[str, OpenShape] | None = None, keys: Mapping[str, str] | None = None
) -> LoadedArrays:
    """The arrays of data that were given in Python, by name: `x_train`, `y_train` and so on.

    A list of tuples has batches or single images with labels. `shapes`: input -> the shape of one image, which tells
    batches from single images. `keys`: name of an array -> its key in a mapping, where they differ. Raises LrfError for
    anything that is no data.
    """
    shapes = shapes or {}
    if isinstance(given, Mapping) and given and all(str(key) in PART_NAMES for key in given):
        parts = {PART_NAMES[str(key)]: part for key, part in given.items()}
        if "train" not in parts:
            raise LrfError(f"the data lack train; they have {', '.join(map(str, given))}")
        return loaded_parts(parts, shapes)
    if isinstance(given, Mapping):
        renamed = {key: name for name, key in (keys or {}).items()}
        if missing := [key for key in renamed if key not in given]:
            raise LrfError(f"the data lack {', '.join(missing)}; they hold: {', '.join(map(str, given))}")
        if set(given) == set(shapes):
            return LoadedArrays({"x_train": as_arrays(given)})
        return LoadedArrays({renamed.get(name, str(name)): as_arrays(array) for name, array in given.items()})
    if isinstance(given, list) and given and all(isinstance(element, tuple | Mapping) for element in given):
        given = iter(given)
    if isinstance(given, tuple | list) and len(given) in (2, 3) and all(map(is_part, given)):
        names = ("train", "test") if len(given) == 2 else ("train", "val", "test")
        return loaded_parts(dict(zip(names, given, strict=True)), shapes)
    return loaded_parts({"train": given}, shapes)


def loaded_parts(parts: Mapping[str, Any], shapes: Mapping[str, OpenShape]) -> LoadedArrays:
    """The arrays of parts of a data set."""
    arrays: dict[str, Any] = {}
    notes: list[str] = []
    for part in (name for name in PARTS if name in parts):
        x, y, own = pair_of(parts[part], shapes)
        arrays[f"x_{part}"] = x
        if y is not None:
            arrays[f"y_{part}"] = y
        notes += [f"{part}: {note}" for note in own]
    return LoadedArrays(arrays, tuple(notes))


def is_part(given: Any) -> bool:
    """Whether something is a part of a data set by itself: a set of batches, or a tuple of images and labels."""
    if is_stream(given):
        return True
    return isinstance(given, tuple) and 1 <= len(given) <= 3 and all(np.ndim(first_of(x)) > 0 for x in given)


def first_of(given: Any) -> Any:
    """The first array of a structure."""
    array = as_numpy(given)
    return input_list(array)[0] if isinstance(given, Mapping | list | tuple) and len(given) else array


def is_stream(given: Any) -> bool:
    """Whether batches or images come out of something one after the other."""
    if (
        isinstance(given, Mapping | list | tuple | str | bytes)
        or hasattr(given, "__array__")
        or hasattr(given, "shape")
    ):
        return False
    return any(hasattr(type(given), name) for name in ("element_spec", "num_batches", "__iter__", "__next__")) or (
        hasattr(given, "__getitem__") and hasattr(given, "__len__")
    )


def pair_of(given: Any, shapes: Mapping[str, OpenShape]) -> tuple[Any, Any, list[str]]:
    """(images, labels or None, notes) of one part."""
    if callable(given) and not is_stream(given) and not hasattr(given, "shape"):
        given = given()
    if is_stream(given):
        return materialized(given, shapes)
    if isinstance(given, tuple) or (isinstance(given, list) and len(given) == 2 and np.ndim(first_of(given[0])) > 1):
        if not 1 <= len(given) <= 3:
            raise LrfError(f"the data should be {PYTHON_FORMS}, but got a {type(given).__name__} of {len(given)}")
        x, y = given[0], given[1] if len(given) > 1 else None
        return as_arrays(x), as_arrays(y), weights_note(given)
    if given is None or isinstance(given, str | bytes | int | float) or not np.ndim(first_of(given)):
        raise LrfError(f"the data should be {PYTHON_FORMS}, but got {type(given).__name__}")
    return as_numpy(given), None, []


def is_numbers(given: Any) -> bool:
    """Whether a list is an array written out, rather than a list of arrays."""
    return isinstance(given, list) and not any(hasattr(item, "shape") for item in given)


def as_arrays(given: Any) -> Any:
    """Images or labels as arrays, in their structure; a list of numbers is one array."""
    return None if given is None else as_numpy(given) if is_numbers(given) else map_inputs(given, as_numpy)


def weights_note(given: Sequence[Any]) -> list[str]:
    """The note on weights of images, which are not used."""
    return ["weights of images are not used."] if len(given) > 2 and given[2] is not None else []


def as_numpy(given: Any) -> Any:
    """An array of numpy of anything that is one: of torch, tensorflow or pandas; structures stay as they are."""
    if isinstance(given, Mapping | list | tuple) or given is None:
        return given
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    if hasattr(given, "numpy") and not isinstance(given, np.ndarray) and not hasattr(given, "to_numpy"):
        given = given.numpy()
    array = as_array(given)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def materialized(given: Any, shapes: Mapping[str, OpenShape]) -> tuple[Any, Any, list[str]]:
    """(images, labels or None, notes) of a set of batches or of single images, up to the budget."""
    kept: list[tuple[Any, Any]] = []
    size = count = 0
    notes: list[str] = []
    for element in elements_of(given):
        x, y, own = element_pair(element, shapes)
        notes = notes or own
        if not is_batch(x, shapes):
            x, y = map_inputs(x, lambda a: a[None]), None if y is None else map_inputs(y, lambda a: a[None])
        arrays = [*input_list(x), *([] if y is None else input_list(y))]
        if kept and (size + sum(a.nbytes for a in arrays) > DATASET_BYTES or count >= DATASET_IMAGES):
            notes = [
                *notes,
                f"only the first {count:,} images are used; more would not fit the budget of "
                f"{DATASET_BYTES / 2**30:g} GiB and {DATASET_IMAGES:,} images.",
            ]
            break
        size, count = size + sum(a.nbytes for a in arrays), count + len(arrays[0])
        kept.append((x, y))
    if not kept:
        raise LrfError(f"the data gave no batch: the {type(given).__name__} is empty, or was read before")
    labels = None if kept[0][1] is None else concatenated([y for _, y in kept])
    return concatenated([x for x, _ in kept]), labels, notes


def elements_of(given: Any) -> Iterator[Any]:
    """The batches or images of a set, each once."""
    if hasattr(given, "element_spec"):
        return iter(given.as_numpy_iterator()) if hasattr(given, "as_numpy_iterator") else iter(given)
    if hasattr(type(given), "num_batches") or not hasattr(given, "__iter__"):
        length = length_of(given)
        return (given[i] for i in (itertools.count() if length is None else range(length)))
    return iter(given)


def length_of(given: Any) -> int | None:
    """The number of batches of something with indices; None where it is endless."""
    try:
        found: int | None = given.num_batches if hasattr(type(given), "num_batches") else len(given)
    except NotImplementedError:
        return None
    return found


def element_pair(element: Any, shapes: Mapping[str, OpenShape]) -> tuple[Any, Any, list[str]]:
    """(images, labels or None, notes) of one element of a set."""
    if isinstance(element, Mapping) and set(element) != set(shapes):
        x, y = (next((element[key] for key in keys if key in element), None) for keys in (IMAGE_KEYS, LABEL_KEYS))
        if set(shapes) <= set(element):
            x = {name: element[name] for name in shapes}
        if x is None:
            keys = ", ".join(map(str, element))
            raise LrfError(f"the elements of the data should be (x, y) or have 'image' and 'label', but have: {keys}")
        return as_arrays(x), as_arrays(y), []
    if isinstance(element, tuple | list) and 1 <= len(element) <= 3:
        x, y = element[0], element[1] if len(element) > 1 else None
        return as_arrays(x), as_arrays(y), weights_note(element)
    if isinstance(element, tuple | list):
        raise LrfError(
            f"the elements of the data should be x, (x, y) or (x, y, weights), but have {len(element)} parts"
        )
    return as_arrays(element), None, []


def is_batch(x: Any, shapes: Mapping[str, OpenShape]) -> bool:
    """Whether an element holds several images, rather than one image as the model takes it.

    An axis of one channel may be missing. Raises LrfError where the element is neither.
    """
    shape, wanted = first_of(x).shape, shape_of_first(x, shapes)
    if wanted is None:  # images of any kind: a batch has four axes, or three without channels
        return (len(shape) > 2 and shape[-1] not in (1, 3, 4)) or len(shape) > 3
    for given in (shape, (*shape, 1)):
        if same_size(wanted, given):
            return False
        if same_size(wanted, given[1:]):
            return True
    if len(shape) in (len(wanted), len(wanted) + 1):
        return len(shape) > len(wanted)
    raise LrfError(f"the elements of the data have the shape {shape}, but the model takes {wanted} an image")


def shape_of_first(x: Any, shapes: Mapping[str, OpenShape]) -> OpenShape | None:
    """The shape that the model takes of the first array of an element; None where it is not known."""
    name = min(x, key=str) if isinstance(x, Mapping) else None
    return shapes.get(str(name)) if name in shapes else next(iter(shapes.values()), None)


def concatenated(batches: Iterable[Any]) -> Any:
    """Batches of arrays, in the structure of the first one, as one. Raises LrfError where their shapes differ."""
    parts = list(batches)
    try:
        if isinstance(parts[0], Mapping):
            return {name: concatenated(part[name] for part in parts) for name in parts[0]}
        if isinstance(parts[0], tuple | list):
            return tuple(concatenated(items) for items in zip(*parts, strict=True))
        return np.concatenate(parts)
    except (ValueError, KeyError, TypeError) as error:
        shapes = sorted({str(np.shape(array)[1:]) for part in parts for array in input_list(part)})
        raise LrfError(
            f"the batches of the data have different shapes: {', '.join(shapes)}; resize them first"
        ) from error
