"""Model files of Keras 1, 2 and 3: what a file holds, by its first bytes, and the model in it."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrf_optuna.errors import LrfError
from lrf_optuna.models.load_errors import BUILD_IN_A_FUNCTION, LOAD_IN_A_FUNCTION, why
from lrf_optuna.progress import SILENT, Progress

if TYPE_CHECKING:
    import keras

    from lrf_optuna.models.config_repair import RepairedConfig

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
"""The first bytes of the two kinds of model files of Keras."""
OTHER_KINDS = {
    b"\x80": "a pickle of Python",
    b"\x93NUMPY": "an array of numpy",
    b"{": "JSON text, which has no weights",
    b"\x1f\x8b": "a compressed archive: unpack it",
}
"""The first bytes of other files -> what they are."""
MODEL_FILES = "a .keras, .h5 or .hdf5 file"
"""What a model file should be, for messages."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a model file says about its model: the configuration and the version of Keras that wrote it."""

    config: dict[str, Any]
    keras_version: str

    @property
    def major(self) -> int:
        """The major number of the version; 1 where the file has none, as in Keras 1."""
        number = self.keras_version.partition(".")[0]
        return int(number) if number.isdigit() else 1


def from_file(path: Path, progress: Progress = SILENT) -> keras.Model:
    """The model in a file or folder; a file of Keras 1 or 2 is repaired in memory, which `progress` is told in a line.

    Raises LrfError where it is missing or cannot be loaded.
    """
    kind = file_kind(path)
    import keras

    from lrf_optuna.models.config_repair import describe

    contents, repaired = None, None
    try:
        if kind == "folder":
            return keras.models.load_model(path, compile=False)
        contents = read_keras(path) if kind == "keras" else read_hdf5(path)
        repaired = repair(contents)
        if repaired is None or not (repaired.notes.total() or windows_paths(path, kind)):
            with named(path, f"model.{kind}") as file:
                return keras.models.load_model(file, compile=False)
        model = repaired_model(path, kind, contents, repaired)
    except Exception as error:  # Keras raises whatever broke inside: ValueError, TypeError, KeyError, OSError
        raise LrfError(f"cannot load {path}: {why(error, repaired.unknown if repaired else ())}") from error
    notes = describe(repaired.notes) or "backslashes in the paths of its weights"
    progress.say(f"{path} of Keras {contents.keras_version}, read as Keras 3 writes it: {notes}")
    return model


def file_kind(path: Path) -> str:
    """`h5`, `keras` or `folder`, by the first bytes. Raises LrfError for anything else, and says what to do."""
    if path.is_dir():
        if (path / "config.json").is_file():
            return "folder"
        if (path / "saved_model.pb").is_file() or (path / "keras_metadata.pb").is_file():
            raise LrfError(
                f"{path} is a SavedModel folder, which Keras 3 does not load: load it with tf_keras "
                f"(tf_keras.models.load_model), save it as .h5, and give that file"
            )
        raise LrfError(f"{path} is a folder, but no model of Keras: give {MODEL_FILES}")
    if not path.is_file():
        raise LrfError(f"no such model file: {path}")
    with path.open("rb") as file:
        start = file.read(16)
        for place in (0, 512, 1024, 2048):  # HDF5 allows bytes of a user before its own
            file.seek(place)
            if file.read(8) == HDF5:
                return "h5"
    if start.startswith(ZIP) and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as whole:
            names = whole.namelist()
        if "config.json" in names:
            return "keras"
        what = "an .npz of arrays" if any(name.endswith(".npy") for name in names) else "a zip archive without a model"
        raise LrfError(f"{path} is no Keras file but {what}: give {MODEL_FILES}")
    what = next((what for first, what in OTHER_KINDS.items() if start.startswith(first)), "something else")
    if start[4:8] == b"TFL3":
        what = "a LiteRT model, which keeps no layers"
    if not start:
        what = "empty"
    raise LrfError(f"cannot load {path}: it is no Keras file but {what}; give {MODEL_FILES}")


def read_keras(path: Path) -> Contents:
    """What a .keras file says about its model."""
    with zipfile.ZipFile(path) as whole:
        version = ""
        if "metadata.json" in whole.namelist():
            version = str(json.loads(whole.read("metadata.json")).get("keras_version", ""))
        return Contents(json.loads(whole.read("config.json")), version or "3")


def read_hdf5(path: Path) -> Contents:
    """What a file of HDF5 says about its model. Raises LrfError where it has weights alone."""
    import h5py

    with h5py.File(path, "r") as file:
        config, groups = file.attrs.get("model_config"), (file, file.get("model_weights"))
        if config is None:
            raise LrfError(f"it has weights and no layers; {BUILD_IN_A_FUNCTION}")
        versions = [group.attrs.get("keras_version", "") for group in groups if group is not None]
    version = next((text(version) for version in versions if len(version)), "1")
    return Contents(json.loads(text(config)), version)


def text(value: Any) -> str:
    """A text from HDF5, which gives bytes in some versions."""
    return value.decode() if isinstance(value, bytes) else str(value)


def repair(contents: Contents) -> RepairedConfig | None:
    """The configuration as Keras 3 takes it; None where it is of no kind that is known, which Keras may say then."""
    from lrf_optuna.models.config_repair import repair_config

    if not isinstance(contents.config, dict) or "class_name" not in contents.config:
        return None
    return repair_config(contents.config, contents.major)


def repaired_model(path: Path, kind: str, contents: Contents, repaired: RepairedConfig) -> keras.Model:
    """The model of a repaired configuration with the weights of the file, all of which it has to take."""
    import h5py
    import keras

    from lrf_optuna.models.old_weights import Origin, adapt_hard_sigmoid, load_old_weights

    model = keras.saving.deserialize_keras_object(repaired.config | {"compile_config": None})
    if not isinstance(model, keras.Model):
        raise LrfError(f"it holds a {repaired.config['class_name']}, which is no model; {LOAD_IN_A_FUNCTION}")
    if not model.built:
        raise LrfError(f"it does not say the shape of its input; {BUILD_IN_A_FUNCTION}")
    if kind == "h5":
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            backend = text(file.attrs.get("backend", group.attrs.get("backend", "")))
            load_old_weights(model, group, Origin(contents.major, backend))
    else:
        load_zipped_weights(model, path)
    if repaired.old_hard_sigmoid:
        adapt_hard_sigmoid(model)
    return model


def load_zipped_weights(model: keras.Model, path: Path) -> None:
    """Give a model the weights of a .keras file, whose paths may have the separators of Windows."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.weights.h5"
        with zipfile.ZipFile(path) as whole:
            if any(re.match(r"assets[/\\].*\w", name) for name in whole.namelist()):
                raise LrfError(f"it has files beside its weights; {LOAD_IN_A_FUNCTION}")
            copy.write_bytes(whole.read("model.weights.h5"))
        with h5py.File(copy, "r+") as file:
            for old in paths_in(file):
                if "\\" in old:
                    file.move(old, old.replace("\\", "/"))
        model.load_weights(copy)


def paths_in(file: Any) -> list[str]:
    """The paths of all arrays in a file of HDF5."""
    import h5py

    paths: list[str] = []
    file.visititems(lambda name, item: paths.append(name) if isinstance(item, h5py.Dataset) else None)
    return paths


def windows_paths(path: Path, kind: str) -> bool:
    """Whether the weights of a .keras file are under paths that Keras 3 does not look for."""
    import h5py

    if kind != "keras":
        return False
    with zipfile.ZipFile(path) as whole:
        if "model.weights.h5" not in whole.namelist():
            return False
        with whole.open("model.weights.h5") as weights, h5py.File(weights, "r") as file:
            return any("\\" in name for name in paths_in(file))


@contextmanager
def named(path: Path, name: str) -> Iterator[Path]:
    """The path of a file with a suffix that Keras knows: its own, or that of a link that is there for the block."""
    if path.suffix in (".h5", ".hdf5", ".keras") and path.suffix[1] == name.rpartition(".")[2][0]:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        try:
            link.symlink_to(path.resolve())
        except OSError:  # a system without links
            link.write_bytes(path.read_bytes())
        yield link


def load_like(path: Path, model: keras.Model) -> keras.Model:
    """The model in a file whose custom layers and activations are those of `model`, registered or not."""
    import keras

    from lrf_optuna.models.custom_objects import custom_objects_of

    with keras.saving.custom_object_scope(custom_objects_of(model)):
        return from_file(path)
