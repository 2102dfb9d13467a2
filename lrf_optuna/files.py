"""Files that are written whole or not at all, and short digests of texts and arrays."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.errors import LrfError


def digest(*parts: Any) -> str:
    """A short digest of texts and arrays."""
    total = hashlib.sha256()
    for part in parts:
        is_text = isinstance(part, str)
        total.update(part.encode() if is_text else np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:16]


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


def write_text(path: Path, text: str) -> Path:
    """Write a whole text file or none, and give its path."""
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
