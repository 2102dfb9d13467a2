"""What a saved model needs to load that is more than plain Keras: its own classes and functions, and Python code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from lrf_optuna.models.layer_copies import is_of_keras, own_objects
from lrf_optuna.models.load_errors import why
from lrf_optuna.models.separable import outputs, random_images


def custom_objects_of(model: Any) -> dict[str, Any]:
    """Name -> class or function of a model's layers that Keras does not have, as `custom_objects` takes them."""
    found: dict[str, Any] = {}
    for layer in model._flatten_layers():
        if not type(layer).__module__.startswith("keras."):
            found[type(layer).__name__] = type(layer)
        for value in own_objects(layer).values():
            if not is_of_keras(value):
                custom = value if hasattr(value, "__name__") else type(value)
                found[custom.__name__] = custom
    return found


def what_loading_needs(path: Path, model: Any) -> str:
    """One line on how the file of a model is loaded if plain Keras cannot load it; empty if it can.

    The file is loaded, and the loaded model compared with `model`, before the line says that it can be loaded.
    """
    custom = custom_objects_of(model)
    code = any(isinstance(layer, keras.layers.Lambda) for layer in model._flatten_layers())
    options = {"custom_objects": custom} if custom else {}
    try:
        loaded = keras.models.load_model(path, compile=False, safe_mode=not code, **options)
        images = random_images(model)
        pairs = zip(outputs(model, images), outputs(loaded, images), strict=True)
        same = all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)
    except Exception as error:  # Keras raises whatever broke inside
        return f"{path} cannot be loaded again: {why(error)}"
    if not same:
        return f"{path} gives other outputs when it is loaded: a layer's state or function is not in the file"
    needs = [f"custom_objects={{{', '.join(f'{name!r}: ...' for name in custom)}}}"] if custom else []
    needs += ["safe_mode=False, as it has Lambda layers"] if code else []
    return f"to load {path}, keras.models.load_model needs {' and '.join(needs)}" if needs else ""
