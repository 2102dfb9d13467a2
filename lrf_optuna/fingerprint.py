"""Short digests: of texts and arrays, and of the code that fits are made by."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

FITTING = (
    "allocate",
    "contenders",
    "convolutions",
    "crew",
    "decompositions",
    "einsum",
    "fits",
    "layers",
    "linear",
    "moments",
    "network",
    "objectives",
    "plan",
    "processors",
    "projection",
    "proxy",
    "refit",
    "similarity",
    "stages",
    "weighing",
    "writing",
)
"""The modules that decide what a fit and its error are: all that the proxy is made of (a test compares)."""
LIBRARIES = ("lrf-optuna", "numpy", "scipy", "keras", "tensorflow")


def digest(*parts: Any) -> str:
    """A short digest of texts and arrays."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else bytes_of(part))
    return total.hexdigest()[:16]


def bytes_of(array: Any) -> memoryview:
    """The bytes of an array, not copied where they lie in order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@cache
def code() -> str:
    """A digest of the code of fitting and of the versions of what it uses: other code, other fits."""
    root = Path(__file__).parent
    files = [file for name in FITTING for file in sorted(root.glob(f"{name}.py")) + sorted(root.glob(f"{name}/*.py"))]
    return digest(*(file.read_text(encoding="utf-8") for file in files), *map(known_version, LIBRARIES))


def known_version(name: str) -> str:
    """The version of an installed package; nothing where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
