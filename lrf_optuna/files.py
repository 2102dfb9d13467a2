"""Short digests: of texts and arrays, and of the code that fits are made by."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.errors import LrfError


def digest(*parts: Any) -> str:
    """A short digest of texts and arrays."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else bytes_of(part))
    return total.hexdigest()[:16]


def bytes_of(array: Any) -> memoryview:
    """The bytes of an array, not copied where they lie in order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def check_folder(folder: Path) -> None:
    """Raises LrfError where a folder can neither be made nor written to."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise LrfError(f"cannot write to {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LrfError(f"cannot write to {folder}: no permission to write in {there}")


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)
