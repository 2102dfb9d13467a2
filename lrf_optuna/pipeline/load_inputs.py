"""The model and the data of a study, loaded or as given in Python, and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data, data_from_arrays, load_data
from lrf_optuna.errors import LrfError
from lrf_optuna.files import check_folder
from lrf_optuna.models.load import describe_input, load_model
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import check_can_be_copied
from lrf_optuna.pipeline.identity import check_names, data_identity, spec_identity
from lrf_optuna.progress import Progress
from lrf_optuna.storage.database import sqlite_file
from lrf_optuna.storage.study import StudyStore

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "x_val", "y_val")
GivenData: TypeAlias = Mapping[str, Any] | Data | None
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
    shape, classes = describe_input(model)
    check_can_be_copied(model)
    data = dataset(spec, data, shape, classes)
    for note in data.notes:
        progress.say(note)
    return split_separable(model), data


def dataset(
    spec: StudySpec, data: GivenData, shape: tuple[int | None, ...] | None = None, classes: int | None = None
) -> Data:
    """The data as given, of a mapping of arrays, or else loaded. `shape` and `classes` are those of the model."""
    seed = spec.search.seed
    if data is None and spec.data.path == DATA_OBJECT:
        raise LrfError("the data of this study were a Python object: give data, or search again with a file")
    if data is None:
        return load_data(spec.data, seed, shape, classes)
    if isinstance(data, Data):
        return data
    return data_from_arrays(named_arrays(data), spec=spec.data, seed=seed, input_shape=shape, classes=classes)


def named_arrays(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by their names. Raises LrfError where one is missing or unknown."""
    missing, unknown = sorted(set(ARRAYS[:4]) - data.keys()), sorted(map(str, data.keys() - set(ARRAYS)))
    if missing or unknown:
        what = f"lack {', '.join(missing)}" if missing else f"have unknown names: {', '.join(unknown)}"
        raise LrfError(f"the data {what}; they should be {', '.join(ARRAYS[:4])}, and {', '.join(ARRAYS[4:])} if any")
    return dict(data)
