"""Convolutions and Dense layers of Keras: the operation of a layer, its kernel's layout, and stages as layers."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import keras
import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.errors import LrfError
from lrf_optuna.models.layer_copies import layer_config
from lrf_optuna.models.model_inputs import Shape

OUTPUT_KEYS = (
    "activation",
    "use_bias",
    "bias_initializer",
    "bias_regularizer",
    "bias_constraint",
    "activity_regularizer",
)
"""The keys of a layer's configuration that concern its output: they go to the last stage of a chain."""


def read_conv(layer: Any) -> Conv:
    """The operation of a Keras convolution, plain or grouped."""
    *window, each_in, cout = layer.kernel.shape
    return conv_of(layer, tuple(window), each_in * layer.groups, cout, layer.groups)


def read_depthwise(layer: Any) -> Conv:
    """The operation of a depthwise convolution: as many groups as channels."""
    *window, cin, multiplier = layer.kernel.shape
    return conv_of(layer, tuple(window), cin, cin * multiplier, cin)


def read_transposed(layer: Any) -> Conv:
    """The operation of a transposed convolution. Raises LrfError where a 1-wide window has a stride."""
    *window, cout, cin = layer.kernel.shape
    if any(size == 1 and stride > 1 for size, stride in zip(window, layer.strides, strict=True)):
        raise LrfError("a transposed convolution with a stride along a window of one point")
    return replace(conv_of(layer, tuple(window), cin, cout, 1), transposed=True)


def conv_of(layer: Any, window: Shape, cin: int, cout: int, groups: int) -> Conv:
    """An operation with the layer's strides, dilation and padding."""
    return Conv(window, cin, cout, tuple(layer.strides), tuple(layer.dilation_rate), layer.padding, groups)


def read_dense(layer: Any) -> Conv:
    """The operation of a Dense layer: a convolution with the window (), which may be tensorized.

    Tensorizing needs a Reshape layer, which takes one open axis. So the operation is a convolution of one point where
    the input has several open axes, or other positions in another call.
    """
    cin, cout = layer.kernel.shape
    positions = tuple(layer.get_build_config()["input_shape"][1:-1])
    called = {tuple(node.input_tensors[0].shape[1:-1]) for node in layer._inbound_nodes if node.input_tensors}
    ones = (1,) * len(positions) if positions.count(None) > 1 or called - {positions} else ()
    return Conv(ones, cin, cout, ones, ones)


def swap_channels(kernel: Array, layer: Any) -> Array:
    """A transposed convolution's kernel with its two channel axes swapped: Keras has the outputs first."""
    return np.swapaxes(kernel, -1, -2)


def separable_macs(layer: Any, before: Shape, after: Shape) -> int:
    """Multiply-accumulates of a separable convolution."""
    weights: int = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    return prod(after[:-1]) * weights


def stage_config(layer: Any, name: str, last: bool) -> dict[str, Any]:
    """The original's configuration for one stage: the last one alone has the bias, activation and constraint."""
    config = layer_config(layer)
    if "depthwise_initializer" in config:
        config |= {key.replace("depthwise", "kernel"): value for key, value in config.items() if "depthwise_" in key}
    of_output = (*OUTPUT_KEYS, "kernel_constraint") if last else ()
    keys = ("trainable", "dtype", "kernel_initializer", "kernel_regularizer", *of_output)
    return {"use_bias": False} | {key: config[key] for key in keys if key in config} | {"name": name}


def write_conv(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a convolution's chain."""
    config, dims = stage_config(layer, name, last), f"{len(stage.window)}D"
    config |= {
        "kernel_size": stage.window,
        "strides": stage.strides,
        "dilation_rate": stage.dilation,
        "padding": stage.padding,
    }
    if stage.transposed:
        return [getattr(keras.layers, f"Conv{dims}Transpose").from_config(config | {"filters": stage.cout})]
    depthwise = getattr(keras.layers, f"DepthwiseConv{dims}", None)
    uneven = len(set(stage.strides)) > 1  # TensorFlow has such depthwise layers for some processors only
    if depthwise is None or stage.groups == 1 or stage.groups != stage.cin or stage.padding == "causal" or uneven:
        config |= {"filters": stage.cout, "groups": stage.groups}
        return [getattr(keras.layers, f"Conv{dims}").from_config(config)]
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}", None)
    return [depthwise.from_config(config | {"depth_multiplier": stage.cout // stage.cin})]


def write_dense(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a Dense layer's chain."""
    config = stage_config(layer, name, last)
    if stage.slices == 1:
        return [keras.layers.Dense.from_config(config | {"units": stage.cout})]
    output = {key: config.pop(key) for key in ("activation", "activity_regularizer") if key in config}
    stages, policy = write_contraction(layer, stage, config), layer.dtype_policy
    if last:
        stages.append(keras.layers.Reshape((*position_axes(layer), stage.cout), name=f"{name}_flat", dtype=policy))
    if last and (output.get("activity_regularizer") or output["activation"] != "linear"):  # softmax needs all channels
        stages.append(keras.layers.Activation(name=f"{name}_end", dtype=policy, **output))
    return stages


def write_contraction(layer: Any, stage: Conv, config: dict[str, Any]) -> list[Any]:
    """A Reshape of the channels to (lead, axis, trail), and an EinsumDense layer with the kernel on the axis."""
    axes = {"l": stage.lead, "i": stage.kernel_shape[0], "t": stage.trail}
    before = {axis: size for axis, size in axes.items() if axis == "i" or size > 1}
    after = {axis.replace("i", "o"): stage.kernel_shape[1] if axis == "i" else n for axis, n in before.items()}
    free, before_letters, after_letters = position_axes(layer), "".join(before), "".join(after)
    rest = "abcdefgh"[: 1 + len(free)]
    bias = {"bias_axes": after_letters} if config.pop("use_bias") else {}
    view = keras.layers.Reshape((*free, *before.values()), name=f"{config['name']}_view", dtype=layer.dtype_policy)
    sizes = (*(None if size == -1 else size for size in free), *after.values())
    return [view, keras.layers.EinsumDense(f"{rest}{before_letters},io->{rest}{after_letters}", sizes, **config | bias)]


def position_axes(layer: Any) -> tuple[int, ...]:
    """The axes between the batch and the channels that the layer was built with, as Reshape takes them: -1 for any."""
    return tuple(-1 if size is None else size for size in layer.get_build_config()["input_shape"][1:-1])
