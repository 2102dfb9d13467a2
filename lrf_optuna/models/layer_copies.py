"""Copies of layers, also of those with functions that no configuration can hold.

`get_config` gives the name of a function. Another function of that name, a lambda, a partial, or `tf.nn.silu` do not
come back from it. So a copy gets its functions from the layer itself, and its configuration says what Keras knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from lrf_optuna.errors import LrfError

ATTRIBUTE_KINDS = ("activation", "regularizer", "constraint", "initializer")
"""The ends of the names of attributes that hold functions or objects which a configuration gives by name."""
STAND_INS = {"activation": keras.activations.linear, "initializer": keras.initializers.Zeros()}
"""What the configuration has for an object that is not of Keras; None for the kinds that are not here.

An initializer has no part in a trained network, so the copy keeps that one.
"""
SAME_AS_PARENT = {
    *("from_config", "__init__", "__module__", "__doc__", "__qualname__", "__dict__", "__weakref__", "__annotations__"),
    *("__firstlineno__", "__static_attributes__"),
}
"""What a subclass may define and still compute what its parent does."""
TENSORFLOW_NAMES = {"swish": "silu"}
"""Name of an activation in TensorFlow -> its name in Keras."""
TRIED_VALUES = np.linspace(-20, 20, 801, dtype=np.float32).reshape(9, 89)
"""Values at which a function of TensorFlow is compared with the one of Keras that has its name."""


def keras_class(layer: Any) -> type | None:
    """The class of Keras that a layer is of, or of which it is a subclass that computes the same; None for others."""
    for parent in type(layer).__mro__:
        if parent.__module__.startswith("keras."):
            return parent
        if set(vars(parent)) - SAME_AS_PARENT:
            return None
    return None


def keras_class_name(layer: Any) -> str:
    """The name of the class of Keras that a layer counts as; empty for a layer of another kind."""
    found = keras_class(layer)
    return found.__name__ if found else ""


def copy_layer(layer: Any, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config) -> Any:
    """A new layer of the same configuration and functions, without its state, of Keras' own class where it has one.

    `change` gives the configuration of the new layer for that of the old one. Raises LrfError where Keras cannot make
    the layer from its configuration.
    """
    if isinstance(layer, keras.layers.Lambda):
        base = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable}
        return keras.layers.Lambda(layer.function, layer._output_shape, layer.mask, layer.arguments, **base)
    try:
        with stand_ins(layer):
            config = change(layer.get_config())
        copy = (keras_class(layer) or type(layer)).from_config(config)  # type: ignore[attr-defined]
    except (NotImplementedError, TypeError, ValueError) as reason:
        kind = type(layer).__name__
        raise LrfError(
            f"the {kind} layer {layer.name!r} cannot be copied: give it a get_config that its from_config understands"
        ) from reason
    made = with_inner_layers(copy)  # the copy may make the layers inside it later
    for inner, new in zip(with_inner_layers(layer), made, strict=False):
        vars(new).update(own_objects(inner))
    return copy


def layer_config(layer: Any) -> dict[str, Any]:
    """The configuration of a layer, with the objects themselves where they are not of Keras."""
    with stand_ins(layer):
        config: dict[str, Any] = layer.get_config()
    return config | {key: value for key, value in own_objects(layer).items() if key in config}


@contextmanager
def stand_ins(layer: Any) -> Iterator[None]:
    """While the block runs, a layer and the layers inside it have stand-ins for all objects that are not of Keras."""
    held = [(inner, foreign_objects(inner)) for inner in with_inner_layers(layer)]
    try:
        for inner, objects in held:
            vars(inner).update({key: STAND_INS.get(kind_of_attribute(key)) for key in objects})
        yield
    finally:
        for inner, objects in held:
            vars(inner).update(objects)


def with_inner_layers(layer: Any) -> list[Any]:
    """A layer and all layers inside it; an operation of keras.ops is one part."""
    return list(layer._flatten_layers()) if isinstance(layer, keras.layers.Layer) else [layer]


def kind_of_attribute(key: str) -> str:
    """The kind of object that an attribute of a layer holds by its name; empty where it is no kind."""
    return next((kind for kind in ATTRIBUTE_KINDS if key == kind or key.endswith(f"_{kind}")), "")


def foreign_objects(layer: Any) -> dict[str, Any]:
    """Attribute -> activation, regularizer, constraint or initializer of a layer that is not of Keras."""
    found = {key: value for key, value in vars(layer).items() if kind_of_attribute(key) and callable(value)}
    return {key: value for key, value in found.items() if not is_of_keras(value)}


def is_of_keras(value: Any) -> bool:
    """Whether Keras finds an object by the name that it writes for it."""
    if inspect.isfunction(value):
        return getattr(keras.activations, value.__name__, None) is value
    return type(value).__module__.startswith("keras.")


def own_objects(layer: Any) -> dict[str, Any]:
    """Attribute -> the foreign object that a copy of a layer gets; copies keep no foreign initializers."""
    return {
        key: named_activation(value, layer.name) if kind_of_attribute(key) == "activation" else value
        for key, value in foreign_objects(layer).items()
        if kind_of_attribute(key) != "initializer"
    }


def named_activation(function: Callable[..., Any], layer: str) -> Callable[..., Any]:
    """The function of Keras that is the same, or else the function under a name that a file can have for it.

    A lambda and a partial have no such name, and another function of a name in Keras would be taken for that of Keras.
    """
    name = getattr(function, "__name__", "")
    same = getattr(keras.activations, TENSORFLOW_NAMES.get(name, name) or " ", None)
    if same and is_same(function, same):
        return same  # type: ignore[no-any-return]
    if name.isidentifier() and same is None and inspect.isfunction(function):
        return function

    def activation(x: Any) -> Any:
        return function(x)

    activation.__name__ = activation.__qualname__ = f"activation_of_{layer}"
    activation.__module__ = getattr(function, "__module__", None) or "__main__"
    return activation


def is_same(function: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether a function of TensorFlow or of keras.ops gives what a function of Keras gives, within its rounding."""
    if not str(getattr(function, "__module__", "")).startswith(("tensorflow.", "keras.")):
        return False
    one, two = (np.asarray(each(keras.ops.convert_to_tensor(TRIED_VALUES))) for each in (function, other))
    return np.allclose(one, two, rtol=1e-6, atol=1e-6)
