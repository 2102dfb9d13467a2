"""Classes and functions of a model that Keras itself does not have: what a file of the model needs to load."""

from __future__ import annotations

import inspect
from typing import Any


def custom_objects_of(model: Any) -> dict[str, Any]:
    """Name -> class or function of the layers and activations of a model that are not of Keras."""
    values = [value for layer in model._flatten_layers() for value in (type(layer), getattr(layer, "activation", None))]
    objects = [value for value in values if isinstance(value, type) or inspect.isfunction(value)]
    return {value.__name__: value for value in objects if not value.__module__.startswith("keras.")}
