"""Separable convolutions as the two layers that they are, a depthwise and a pointwise one."""

from __future__ import annotations

from typing import Any

import keras

from lrf_optuna.models.layer_kinds import SEPARABLE


def split_separable(model: Any) -> Any:
    """The same network with every separable convolution split in two; the model itself where it has none.

    The two are a `Sequential` of the layer's name, and give exactly its outputs.
    """
    made: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        new = halves(layer) if type(layer).__name__ in SEPARABLE else type(layer).from_config(layer.get_config())
        made.append((layer, new))
        return new

    if not any(type(layer).__name__ in SEPARABLE for layer in model._flatten_layers()):
        return model
    split = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for layer, new in made:
        if type(layer).__name__ in SEPARABLE:
            new.layers[0].set_weights([layer.depthwise_kernel])
            new.layers[1].set_weights([layer.pointwise_kernel, *([layer.bias] if layer.use_bias else [])])
        elif layer.weights:
            new.set_weights(layer.get_weights())
    return split


def halves(layer: Any) -> Any:
    """The unfilled `Sequential` of a separable convolution's two parts."""
    config, dims = layer.get_config(), type(layer).__name__[-2:]
    shared = {key: config[key] for key in ("trainable", "dtype")}
    window = {key: config[key] for key in ("kernel_size", "strides", "padding", "data_format", "dilation_rate")}
    depthwise = {key: config[key] for key in config if key.startswith("depth")}
    ends = ("activation", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint", "activity_regularizer")
    pointwise = {f"kernel_{part}": config[f"pointwise_{part}"] for part in ("initializer", "regularizer", "constraint")}
    first = getattr(keras.layers, f"DepthwiseConv{dims}").from_config(
        shared | window | depthwise | {"use_bias": False, "name": f"{layer.name}_depthwise"}
    )
    last = getattr(keras.layers, f"Conv{dims}").from_config(
        shared
        | pointwise
        | {key: config[key] for key in ends}
        | {"filters": config["filters"], "kernel_size": 1, "data_format": config["data_format"]}
        | {"name": f"{layer.name}_pointwise"}
    )
    return keras.Sequential([first, last], name=layer.name)
