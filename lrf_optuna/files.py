"""Files that are written whole or not at all, and short digests of texts and arrays."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.errors import LrfError

DIGESTED_AT_ONCE = 2**26
"""Bytes of an array that are digested at once: 64 MiB, beside which a digest's own work is small."""


def digest(*parts: Any) -> str:
    """A short digest of texts and arrays."""
    total = hashlib.sha256()
    for part in parts:
        is_text = isinstance(part, str)
        for piece in [part] if is_text else pieces(part):
            total.update(piece.encode() if is_text else np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:16]


def pieces(array: Any) -> Iterator[Any]:
    """An array in parts of `DIGESTED_AT_ONCE`, so that one that stays in its file is not copied as a whole."""
    if np.ndim(array) == 0 or not len(array):
        yield array
        return
    step = max(1, DIGESTED_AT_ONCE * len(array) // max(1, array.nbytes))
    yield from (array[start : start + step] for start in range(0, len(array), step))


def check_folder(folder: Path) -> None:
    """Raises LrfError where a folder can neither be created nor written to."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise LrfError(f"cannot write to {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LrfError(f"cannot write to {folder}: no permission to write in {there}")


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a whole file or none, and give its path: `write` gets the path of a temporary file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def copy_whole(source: Path, target: Path) -> Path:
    """Copy a whole file or nothing, and give the path of the copy."""
    return write_whole(target, lambda part: shutil.copyfile(source, part))


def write_text(path: Path, text: str) -> Path:
    """Write a whole text file or none, and give its path."""
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
