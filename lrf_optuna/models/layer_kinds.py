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
from lrf_optuna.models.model_inputs import Shape
from lrf_optuna.models.weights import view_of

Functional: Any = type(keras.Model(dummy := keras.Input((1,)), dummy))
"""The class of models that are a graph of layers; Keras has no public name for it."""
GRAPHS = (Functional, keras.Sequential)
"""The classes of models that can be cloned with other layers."""

SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


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


def walk_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """`(path, layer)` of every layer, once; the path of a layer in a nested model begins with the name of the nest."""
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


def channels_first(layer: Any) -> bool:
    """Whether a layer's channels come before its positions."""
    return getattr(layer, "data_format", None) == "channels_first"


def to_keras_kernel(layer: Any, kernel: Array) -> Array:
    """A kernel, laid out as in `Conv`, as the layer lays it out."""
    return LAYERS[type(layer).__name__].to_keras_kernel(kernel, layer).reshape(kernel_of(layer).shape)


def read_kernel(layer: Any) -> Array:
    """The layer's kernel, laid out as in `Conv`."""
    kind, kernel = LAYERS[type(layer).__name__], np.asarray(view_of(kernel_of(layer)), np.float32)
    return kind.from_keras_kernel(kernel, layer).reshape(kind.read(layer).kernel_shape)


def read_maps(layer: Any, inputs: Array) -> Array:
    """A layer's inputs `(n, ...)`, laid out as in `Conv`: `(n, *map, cin)`."""
    return inputs.reshape(len(inputs), *LAYERS[type(layer).__name__].position_map(layer, inputs.shape[1:]), -1)


def norms_of(model: Any) -> list[Any]:
    """The BatchNorm layers of a model."""
    return [layer for _, layer in walk_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def kernel_of(layer: Any) -> Any:
    """The Keras variable that holds a layer's kernel."""
    return getattr(layer, "_kernel", None) if getattr(layer, "_kernel", None) is not None else layer.kernel


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
LAYERS: dict[str, LayerKind] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), PLAIN),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), DEPTHWISE),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), TRANSPOSED),
    "Dense": LayerKind(conv.read_dense, conv.write_dense),
    "EinsumDense": EINSUM,
}
COUNTED: dict[str, Callable[[Any, Shape, Shape], int]] = {
    **dict.fromkeys(SEPARABLE, conv.separable_macs),
    "EinsumDense": einsum.einsum_macs,
}
"""(layer, input shape, output shape) -> MACs, for kinds whose layers do not all have an operation."""
