"""Convolutions and Dense layers of Keras: their operations, and how their kernels are laid out. It imports no Keras."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from lrf_optuna.errors import LrfError
from lrf_optuna.stages import Array, Conv

Shape = tuple[int, ...]


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

    Where its map is open on several axes, or not the same in all its calls, the channels cannot be seen as several ones
    (Reshape takes one open axis): then it is a convolution of one point.
    """
    cin, cout = layer.kernel.shape
    positions = tuple(layer.get_build_config()["input_shape"][1:-1])
    called = {tuple(node.input_tensors[0].shape[1:-1]) for node in layer._inbound_nodes if node.input_tensors}
    ones = (1,) * len(positions) if positions.count(None) > 1 or called - {positions} else ()
    return Conv(ones, cin, cout, ones, ones)


def swapped(kernel: Array, layer: Any) -> Array:
    """A transposed convolution's kernel has its channels the other way round."""
    return np.swapaxes(kernel, -1, -2)


def merged(kernel: Array, layer: Any) -> Array:
    """A depthwise kernel `(*window, cin, multiplier)` with one channel of each group going in."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def shaped(kernel: Array, layer: Any) -> Array:
    """A Dense kernel in the shape of its operation's."""
    return kernel.reshape(read_dense(layer).kernel_shape)


def reshaped(kernel: Array, layer: Any) -> Array:
    """The same numbers in the shape of the layer's kernel."""
    return kernel.reshape(layer.kernel.shape)


def both_macs(layer: Any, before: Shape, after: Shape) -> int:
    """Multiply-accumulates of a separable convolution."""
    weights: int = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    return prod(after[:-1]) * weights
