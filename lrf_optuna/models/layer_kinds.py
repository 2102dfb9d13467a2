"""The kinds of Keras layers that can be factorized, in one table, and the kernels of layers.

A new layer kind is one row of `LAYERS`: how its operation is read, and how a stage is written as a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.models import conv_layers as conv
from lrf_optuna.models import einsum_layers as einsum
from lrf_optuna.models import recurrent_layers as recurrent
from lrf_optuna.models.layer_copies import keras_class_name
from lrf_optuna.models.model_inputs import Shape
from lrf_optuna.models.weights import view_of

Functional: Any = type(keras.Model(dummy := keras.Input((1,)), dummy))
"""The class of models that are a graph of layers; Keras has no public name for it."""
GRAPHS = (Functional, keras.Sequential)
"""The classes of models that can be cloned with other layers."""

SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention")


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One kind of Keras layer: its operation, its chain as layers, and its kernel in both layouts.

    Shapes are without the batch axis.
    """

    read: Callable[[Any], Conv]
    """The operation of a layer."""
    write: Callable[[Any, Conv, str, bool, bool], list[Any]]
    """(original layer, stage, name, is first, is last) -> the layers of one stage, of which one has weights."""
    from_keras_kernel: Callable[[Array, Any], Array] = lambda kernel, layer: kernel
    """(kernel as the layer lays it out, layer) -> its values in the order of `Conv`, in any shape."""
    to_keras_kernel: Callable[[Array, Any], Array] = lambda kernel, layer: kernel
    """(kernel as `Conv` lays it out, layer) -> its values in the order of the layer's kernel, in any shape."""
    position_map: Callable[[Any, Shape], Shape] = lambda layer, shape: (
        shape[1:] if channels_first(layer) else shape[:-1]
    )
    """(layer, shape of its input) -> the shape of the positions at which its operation is applied."""
    any_size: Callable[[Any, OpenShape], OpenShape] = lambda layer, shape: (*(None for _ in shape[:-1]), shape[-1])
    """(layer, input shape it was built with) -> that shape, with None for the sizes that the layer leaves open."""
    kernels: Callable[[Any], list[Any]] = lambda layer: [kernel_of(layer)]
    """The variables that are the layer's kernel: several stand side by side along their last axis."""
    fill: Callable[[Any, Any], None] = lambda layer, last: fill_bias(layer, last)
    """(layer, last layer of its chain): give the last one all weights of the layer other than its kernel."""


def walk_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """`(path, layer)` of every layer, once; the path of a layer in a nested model begins with the name of the nest.

    The projections of an attention layer follow it, and their paths begin with its own.
    """
    seen: set[int] = set()
    stack = [("", model)]
    while stack:
        path, layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if layer is model or isinstance(layer, GRAPHS):
            stack += reversed([(f"{path}/{inner.name}".lstrip("/"), inner) for inner in layer.layers])
        else:
            yield path, layer
            stack += reversed([(f"{path}/{name}", inner) for name, inner in projections(layer).items()])


def projections(layer: Any) -> dict[str, Any]:
    """Name -> EinsumDense layer of the projections of an attention layer of Keras; empty for other layers."""
    if keras_class_name(layer) not in ATTENTION or not layer.built:
        return {}
    inner = layer._flatten_layers(recursive=False, include_self=False)
    return {one.name: one for one in inner if isinstance(one, keras.layers.EinsumDense)}


def channels_first(layer: Any) -> bool:
    """Whether a layer's channels come before its positions."""
    return getattr(layer, "data_format", None) == "channels_first"


def to_keras_kernel(layer: Any, kernel: Array) -> Array:
    """A kernel, laid out as in `Conv`, as the layer lays it out."""
    return kind_of(layer).to_keras_kernel(kernel, layer).reshape(kernel_shape(layer))


def read_kernel(layer: Any) -> Array:
    """The layer's kernel, laid out as in `Conv`; the kernel of one variable is not copied."""
    first, *others = (np.asarray(view_of(one), np.float32) for one in kernels_of(layer))
    kernel = np.concatenate([first, *others], axis=-1) if others else first
    return kind_of(layer).from_keras_kernel(kernel, layer).reshape(kind_of(layer).read(layer).kernel_shape)


def read_maps(layer: Any, inputs: Array) -> Array:
    """A layer's inputs `(n, ...)`, laid out as in `Conv`: `(n, *map, cin)`."""
    return inputs.reshape(len(inputs), *kind_of(layer).position_map(layer, inputs.shape[1:]), -1)


def norms_of(model: Any) -> list[Any]:
    """The BatchNorm layers of a model."""
    return [layer for _, layer in walk_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def kind_of(layer: Any) -> LayerKind:
    """The kind of a layer that can be factorized."""
    return LAYERS[keras_class_name(layer)]


def kernels_of(layer: Any) -> list[Any]:
    """The Keras variables that hold a layer's kernel: several stand side by side along their last axis."""
    return kind_of(layer).kernels(layer)


def kernel_shape(layer: Any) -> Shape:
    """The shape of a layer's kernel, all its variables side by side."""
    first, *others = (tuple(variable.shape) for variable in kernels_of(layer))
    return (*first[:-1], first[-1] + sum(shape[-1] for shape in others))


def assign_kernel(layer: Any, kernel: Array) -> None:
    """Give a layer a kernel laid out as in `Conv`."""
    variables, start = kernels_of(layer), 0
    laid_out = to_keras_kernel(layer, kernel)
    for variable in variables:
        variable.assign(laid_out[..., start : start + variable.shape[-1]])
        start += variable.shape[-1]


def kernel_of(layer: Any) -> Any:
    """The only variable that holds a layer's kernel."""
    return getattr(layer, "_kernel", None) if getattr(layer, "_kernel", None) is not None else layer.kernel


def fill_bias(layer: Any, last: Any) -> None:
    """Give the last layer of a chain the bias of the layer that the chain replaces."""
    if layer.bias is not None:
        last.bias.assign(keras.ops.reshape(layer.bias, last.bias.shape))


PLAIN = LayerKind(conv.read_conv, conv.write_conv)
DEPTHWISE = LayerKind(conv.read_depthwise, conv.write_conv)
TRANSPOSED = LayerKind(conv.read_transposed, conv.write_conv, conv.swap_channels, conv.swap_channels)
EINSUM = LayerKind(
    einsum.read_einsum,
    einsum.write_einsum,
    einsum.from_einsum_kernel,
    einsum.to_einsum_kernel,
    einsum.position_map,
    einsum.any_size,
)
RECURRENT = LayerKind(
    recurrent.read_recurrent,
    recurrent.write_recurrent,
    any_size=recurrent.any_steps,
    kernels=recurrent.input_kernels,
    fill=recurrent.fill_recurrent,
)
LAYERS: dict[str, LayerKind] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), PLAIN),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), DEPTHWISE),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), TRANSPOSED),
    "Dense": LayerKind(conv.read_dense, conv.write_dense),
    "EinsumDense": EINSUM,
    **dict.fromkeys((*recurrent.RECURRENT_CLASSES, "Bidirectional"), RECURRENT),
    "TimeDistributed": LayerKind(
        recurrent.read_steps,
        recurrent.write_steps,
        kernels=lambda layer: [kernel_of(layer.layer)],
        fill=lambda layer, last: fill_bias(layer.layer, last),
    ),
}
