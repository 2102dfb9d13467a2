"""The backend that Keras runs on, which has to be TensorFlow; it is found without importing Keras."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from lrf_optuna.errors import LrfError


def check_backend() -> None:
    """Raises LrfError where Keras runs, or will run, on another backend than TensorFlow."""
    if (name := keras_backend()) != "tensorflow":
        raise LrfError(f"Keras runs on {name}, but lrf_optuna needs TensorFlow: set KERAS_BACKEND=tensorflow")


def keras_backend() -> str:
    """The backend of an imported Keras, or else the one that its environment or its settings file names."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        return str(json.loads(file.read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError):
        return "tensorflow"
