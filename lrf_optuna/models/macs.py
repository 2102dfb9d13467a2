"""Multiply-accumulates of Keras layers by their closed forms; None where a layer's count is not known, never 0.

Products of inputs with kernels and with each other count. Element-wise operations (activations, gates, normalization,
pooling) do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Any

from lrf_optuna.models.conv_layers import separable_macs
from lrf_optuna.models.einsum_layers import einsum_macs
from lrf_optuna.models.forward import CallShapes, called_shapes
from lrf_optuna.models.layer_copies import keras_class_name
from lrf_optuna.models.layer_kinds import (
    ATTENTION,
    GRAPHS,
    SEPARABLE,
    channels_first,
    projections,
    walk_layers,
)
from lrf_optuna.models.model_inputs import Shape

Macs = int | None
"""A number of multiply-accumulates; None where it is not known."""
ELEMENTWISE = {
    *("activations", "core", "merging", "normalization", "pooling", "preprocessing", "regularization", "reshaping"),
}
"""The folders of `keras.layers` whose layers multiply no matrices, but for those of `FORMULAS` and of `UNKNOWN`."""
UNKNOWN = ("Dot", "FeatureSpace", "Lambda", "MelSpectrogram", "Pipeline", "ReversibleEmbedding", "STFTSpectrogram")
"""Layers in these folders that multiply matrices, or that run other code."""
CELLS = ("SimpleRNNCell", "GRUCell", "LSTMCell")
"""Cells of recurrent layers with an input kernel and a recurrent kernel."""
PRODUCTS = (
    *("Conv", "ConvTranspose", "Correlate", "DepthwiseConv", "Dot", "DotProductAttention", "Einsum", "Inner"),
    *("Matmul", "SeparableConv", "Tensordot", "Vdot"),
)
"""Operations of `keras.ops` in a model's graph that multiply-accumulate; they are no layers."""


def count_macs(path: str, layer: Any, calls: Mapping[str, CallShapes]) -> Macs:
    """The MACs for one image of all calls of a layer; `calls`: those of all layers, as `called_shapes` gives them."""
    if keras_class_name(layer) in ATTENTION:
        return attention_macs(layer, {name: calls.get(f"{path}/{name}", []) for name in projections(layer)})
    return known_sum(call_macs(layer, before, after) for before, after in calls.get(path, []))


def call_macs(layer: Any, before: Shape | None, after: Shape | None) -> Macs:
    """The MACs of one call of a layer with inputs and outputs of these shapes; None for what is not one array."""
    name = keras_class_name(layer)
    if name in FORMULAS:
        return None if before is None else FORMULAS[name](layer, before, after)
    folders = set(type(layer).__module__.split(".")) if name and name not in UNKNOWN else set()
    return 0 if folders & ELEMENTWISE else None


def known_sum(counts: Iterable[Macs]) -> Macs:
    """The sum of counts; None where one of them is not known."""
    found = list(counts)
    known = [count for count in found if count is not None]
    return sum(known) if len(known) == len(found) else None


def times(count: int, macs: Macs) -> Macs:
    """A number of equal counts."""
    return None if macs is None else count * macs


def uncounted_operations(model: Any) -> Iterator[str]:
    """The names of the operations of `keras.ops` in a model and its nested models that multiply-accumulate."""
    if isinstance(model, GRAPHS):
        for operation in getattr(model, "operations", model.layers):
            if isinstance(operation, GRAPHS):
                yield from uncounted_operations(operation)
            elif type(operation).__name__ in PRODUCTS and not hasattr(operation, "weights"):
                yield operation.name


def position_count(layer: Any, shape: Shape) -> int:
    """The number of positions of a map."""
    return prod(shape[1:] if channels_first(layer) else shape[:-1])


def kernel_size(layer: Any) -> int:
    """The number of weights of a layer's kernel."""
    size: int = prod(layer.kernel.shape)
    return size


def conv_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """A convolution, plain, grouped or depthwise: its kernel at every position of the output."""
    return None if after is None else position_count(layer, after) * kernel_size(layer)


def transposed_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """A transposed convolution: its kernel at every position of the input."""
    return position_count(layer, before) * kernel_size(layer)


def dense_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """A Dense layer at every position."""
    return prod(before) * int(layer.units)


def recurrent_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """A recurrent layer: the input kernel and the recurrent kernel of its cells at every step."""
    return times(before[0], cell_macs(layer.cell))


def cell_macs(cell: Any) -> Macs:
    """One step of a cell, or of a stack of cells."""
    if keras_class_name(cell) == "StackedRNNCells":
        return known_sum(map(cell_macs, cell.cells))
    known = keras_class_name(cell) in CELLS
    return kernel_size(cell) + prod(cell.recurrent_kernel.shape) if known else None


def conv_recurrent_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """A convolutional LSTM: at every step both kernels at every position of the output."""
    if after is None:
        return None
    kernels: int = kernel_size(layer.cell) + prod(layer.cell.recurrent_kernel.shape)
    return before[0] * position_count(layer, after[1:] if layer.return_sequences else after) * kernels


def bidirectional_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """Both directions. What they give is not one array's shape, which a convolutional LSTM would need."""
    return known_sum(call_macs(one, before, None) for one in (layer.forward_layer, layer.backward_layer))


def time_distributed_macs(layer: Any, before: Shape, after: Shape | None) -> Macs:
    """The wrapped layer or model at every step."""
    inner, shape = layer.layer, before[1:]
    if isinstance(inner, GRAPHS):
        layers = dict(walk_layers(inner))
        calls = called_shapes(inner, layers, shape)
        unknown = [None for _ in uncounted_operations(inner)]
        return times(before[0], known_sum([*unknown, *(count_macs(path, one, calls) for path, one in layers.items())]))
    return times(before[0], call_macs(inner, shape, after[1:] if after else None))


def attention_macs(layer: Any, calls: Mapping[str, CallShapes]) -> Macs:
    """An attention layer without its projections: the products of queries and keys, and the weighted sums of values.

    `calls`: name of a projection -> its calls. Every query of a head meets all keys along the attention axes.
    """
    counts: list[Macs] = []
    for (_, query), (_, key), (_, value) in zip(calls["query"], calls["key"], calls["value"], strict=True):
        if query is None or key is None or value is None:
            return None
        keys: int = prod(key[axis - 1] for axis in getattr(layer, "_attention_axes", (1,)))
        counts.append(prod(query[:-1]) * keys * (query[-1] + value[-1]))
    return known_sum(counts)


FORMULAS: dict[str, Callable[[Any, Shape, Any], Macs]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), conv_macs),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), transposed_macs),
    **dict.fromkeys(SEPARABLE, separable_macs),
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM", "RNN"), recurrent_macs),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), conv_recurrent_macs),
    "Dense": dense_macs,
    "EinsumDense": einsum_macs,
    "Bidirectional": bidirectional_macs,
    "TimeDistributed": time_distributed_macs,
    "SpectralNormalization": lambda layer, before, after: call_macs(layer.layer, before, after),
}
"""Class of Keras -> (layer, input shape, output shape or None) -> MACs of one call, for one image."""
