"""Arrays of an .npz file, or of a folder of .npy files, which stay in their files until a batch is read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.data.sources import PARTS, Arrays, Pixels
from lrf_optuna.errors import LrfError

KNOWN = re.compile(rf"[xy]_({'|'.join(PARTS)})(_\d+|[./].+)?")
"""Names of arrays: x_train, and x_train.NAME or x_train_0 for one input of several."""
USUAL_KEYS = {
    "x_train": ("xtrain", "trainx", "trainimages", "trainimage", "traindata", "x", "images", "image", "data", "inputs"),
    "y_train": ("ytrain", "trainy", "trainlabels", "trainlabel", "traintargets", "y", "labels", "label", "targets"),
    "x_test": ("xtest", "testx", "testimages", "testimage", "testdata"),
    "y_test": ("ytest", "testy", "testlabels", "testlabel", "testtargets"),
    "x_val": ("xval", "valx", "valimages", "xvalid", "xvalidation", "validationimages"),
    "y_val": ("yval", "valy", "vallabels", "yvalid", "yvalidation", "validationlabels"),
}
"""Name of an array -> other names that people give it, in small letters without signs; errors suggest these."""
FURTHER_NAMES = {"x_train": ("features", "arr_0", "samples", "pixels"), "y_train": ("target", "classes", "arr_1")}
"""Names that mean an array only where nothing else does, as they stand in the file."""


def load_npz(path: Path, keys: Mapping[str, str]) -> Arrays:
    """The named arrays of an .npz file. Raises LrfError where it is missing, broken or lacks one.

    `keys`: name of an array -> its name in the file, where they differ.
    """
    if not path.exists():
        raise LrfError(f"no such data: {path}; give an .npz file, a folder of class folders, keras:NAME or digits")
    if not zipfile.is_zipfile(path):
        raise LrfError(f"{path} is not an .npz file; write one with numpy.savez(x_train=, y_train=, x_test=, y_test=)")
    try:
        with np.load(path, allow_pickle=False) as file:
            return chosen_arrays(path, list(file), keys, file.__getitem__)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise LrfError(f"{path} cannot be read: {error}") from error


def load_npy(path: Path, keys: Mapping[str, str]) -> Arrays:
    """The arrays of the .npy files of a folder, mapped into memory; of a single .npy file the training images.

    Raises LrfError where one is broken, or where there is none of training images.
    """
    files = {file.stem: file for file in ([path] if path.is_file() else sorted(path.glob("*.npy")))}
    if path.is_file() and not keys:
        keys = {"x_train": path.stem}
    return chosen_arrays(path, list(files), keys, lambda name: mapped(files[name]))


def mapped(file: Path) -> Pixels:
    """The array of an .npy file, which stays there. Raises LrfError where it is broken or has Python objects."""
    try:
        array: Pixels = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise LrfError(f"{file} cannot be read: {error}; {remedy(error)}") from error
    return array


def chosen_arrays(path: Path, names: list[str], keys: Mapping[str, str], read: Callable[[str], Pixels]) -> Arrays:
    """The arrays of a data set among those of a file or folder. Raises LrfError where training images are missing."""
    if unknown := [key for key in keys if not KNOWN.fullmatch(key)]:
        raise LrfError(f"--key {unknown[0]}= is unknown: give x_train=KEY, y_train=KEY, x_test=KEY and the like")
    if missing := [key for key in keys.values() if key not in names]:
        raise LrfError(f"{path} lacks {', '.join(missing)}; it holds: {', '.join(names) or 'nothing'}")
    taken = set(keys.values())
    wanted = {name: name for name in names if KNOWN.fullmatch(name) and name not in taken} | dict(keys)
    if not any(name.startswith("x_train") for name in wanted):
        raise LrfError(f"{path} lacks x_train; it holds: {', '.join(names) or 'nothing'}{suggestion(names)}")
    found = {}
    for name, key in wanted.items():
        try:
            found[name] = read(key)
        except ValueError as error:
            raise LrfError(f"{key} of {path} cannot be read: {error}; {remedy(error)}") from error
    return found


def remedy(error: Exception) -> str:
    """What to do about an array that cannot be read."""
    objects = "object" in str(error).lower()
    return "save it as numbers or texts, as in array.astype(str)" if objects else "write it again with numpy"


def suggestion(names: Iterable[str]) -> str:
    """The options that name the arrays of a file that are probably meant; empty where none is."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in names}
    found: dict[str, Any] = {}
    for name, others in USUAL_KEYS.items():
        found[name] = next((plain[other] for other in others if other in plain), None)
    for name, others in FURTHER_NAMES.items():
        found[name] = found[name] or next((other for other in others if other in names), None)
    options = " ".join(f"--key {name}={key}" for name, key in found.items() if key)
    return f"; name them: {options}" if found["x_train"] else "; name them, as in --key x_train=NAME"
