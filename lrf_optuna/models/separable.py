"""Separable convolutions as the two layers that they are, a depthwise and a pointwise one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from lrf_optuna.data.arrays import map_inputs
from lrf_optuna.errors import LrfError
from lrf_optuna.models.conv_layers import OUTPUT_KEYS
from lrf_optuna.models.layer_copies import keras_class_name, layer_config
from lrf_optuna.models.layer_kinds import SEPARABLE, walk_layers
from lrf_optuna.models.surgery import clone_with

CHECKED_IMAGES = 2
"""Random images on which a split network is compared with the original."""
OPEN_SIZE = 64
"""Positions along an axis that the model leaves open, for the random images."""
SPACING = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The relative spacing of numbers by type; it is 2**-23 in float32, and is counted so in other types."""
ROUNDINGS = 20
"""Times the rounding of the outputs that a split network may differ: its layers add up in another order.

The rounding is one spacing of the largest output, and what a change of the images by one spacing does to the outputs.
"""


def split_separable(model: Any) -> Any:
    """The same network with every separable convolution split in two; the model itself where it has none.

    The two are a `Sequential` of the layer's name. Raises LrfError where the outputs of the new network for random
    images are not the original's.
    """
    if not any(keras_class_name(layer) in SEPARABLE for _, layer in walk_layers(model)):
        return model

    def fill(layer: Any, new: Any) -> None:
        new.layers[0].set_weights([layer.depthwise_kernel])
        new.layers[1].set_weights([layer.pointwise_kernel, *([layer.bias] if layer.use_bias else [])])

    split = clone_with(model, lambda layer: split_layer(layer) if keras_class_name(layer) in SEPARABLE else None, fill)
    check_same_outputs(model, split)
    return split


def check_same_outputs(model: Any, split: Any, how: str = "splitting the model's separable convolutions") -> None:
    """Raises LrfError where two networks do not give the same outputs for random images, but for rounding.

    `how` the second came from the first, for the message.
    """
    images = random_images(model)
    spacing = relative_spacing(model)
    nudged = map_inputs(images, lambda array: array * np.float32(1 + spacing))
    runs = outputs(model, images), outputs(model, nudged), outputs(split, images)
    for original, rounded, new in zip(*runs, strict=True):
        apart, largest = np.abs(new - original).max(), np.abs(original).max()
        if not apart <= ROUNDINGS * (spacing * largest + np.abs(rounded - original).max()):
            raise LrfError(
                f"{how} changes its outputs by {apart:.1e} of {largest:.1e}: a layer has state that its "
                "save_own_variables does not give; put plain layers of Keras (DepthwiseConv, Conv) instead"
            )


def random_images(model: Any) -> Any:
    """Random inputs of a model in the structure that it takes."""
    rng = np.random.default_rng(0)
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input  # one that was never called, too
    sizes = keras.tree.map_structure(lambda tensor: [size or OPEN_SIZE for size in tensor.shape[1:]], inputs)
    return keras.tree.map_shape_structure(lambda shape: rng.random((CHECKED_IMAGES, *shape), np.float32), sizes)


def outputs(model: Any, images: Any) -> list[Any]:
    """The model's outputs as float32 arrays."""
    return [np.asarray(output, np.float32) for output in keras.tree.flatten(model(images, training=False))]


def relative_spacing(model: Any) -> float:
    """The relative spacing of numbers in the coarsest type of a model's layers; single precision at least."""
    return max(SPACING.get(layer.compute_dtype, 2.0**-23) for _, layer in walk_layers(model))


def split_layer(layer: Any) -> Any:
    """The unfilled `Sequential` of a separable convolution's two parts."""
    config, dims = layer_config(layer), keras_class_name(layer)[-2:]
    shared = {key: config[key] for key in ("trainable", "dtype", "data_format")}
    window = {key: config[key] for key in ("kernel_size", "strides", "padding", "dilation_rate")}
    depthwise = {key: config[key] for key in config if key.startswith("depth")}
    pointwise = {f"kernel_{part}": config[f"pointwise_{part}"] for part in ("initializer", "regularizer", "constraint")}
    first = getattr(keras.layers, f"DepthwiseConv{dims}").from_config(
        shared | window | depthwise | {"use_bias": False, "name": f"{layer.name}_depthwise"}
    )
    last = getattr(keras.layers, f"Conv{dims}").from_config(
        shared
        | pointwise
        | {key: config[key] for key in OUTPUT_KEYS}
        | {"filters": config["filters"], "kernel_size": 1, "name": f"{layer.name}_pointwise"}
    )
    return keras.Sequential([first, last], name=layer.name)
