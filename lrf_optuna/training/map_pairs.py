"""Feature maps that a smaller model has in common with the original, found by running both on one image."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from lrf_optuna.models.layer_calls import recording_calls
from lrf_optuna.models.layer_kinds import walk_layers


class MapPair(NamedTuple):
    """The layers of a smaller model and of its teacher that give the same feature map."""

    model: Any
    teacher: Any


def map_pairs(model: Any, teacher: Any, image: Any) -> list[MapPair]:
    """The layers of equal paths whose outputs have positions and equal shapes, in the order of the model.

    `image`: one input `(1, ...)`. Layers that run several times are left out.
    """
    ours, theirs = map_shapes(model, image), map_shapes(teacher, image)
    own, other = dict(walk_layers(model)), dict(walk_layers(teacher))
    return [MapPair(own[path], other[path]) for path, shape in ours.items() if theirs.get(path) == shape]


def map_shapes(model: Any, image: Any) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every feature map with positions that a layer gives in its only call."""
    layers = {path: layer for path, layer in walk_layers(model) if type(layer).__name__ != "InputLayer"}
    with recording_calls(layers) as calls:
        model(image, training=False)
    maps = {path: recorded[0][1] for path, recorded in calls.items() if len(recorded) == 1}
    return {path: tuple(value.shape) for path, value in maps.items() if is_map(value)}


def is_map(value: Any) -> bool:
    """Whether a value is one array of floating-point numbers with positions."""
    return hasattr(value, "shape") and len(value.shape) > 2 and keras.backend.is_float_dtype(value.dtype)
