"""Weights of the HDF5 files of Keras 1 and 2, put into a model by the names of its layers.

The layouts of Keras 1 and of cuDNN layers are converted as Keras 2 did it on reading (`preprocess_weights_for_loading`
in its module hdf5_format).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lrf_optuna.errors import LrfError

SavedArray = np.ndarray[Any, Any]

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2D")
"""Layers whose kernels Theano turned around."""
HARD_SIGMOID_RATIO = 1.2
"""The slope 0.2 of `hard_sigmoid` in Keras 1 and 2 over the slope 1/6 in Keras 3; both are 0.5 at 0."""
GATES = {"LSTMCell": (4, (0, 1, 3)), "ConvLSTMCell": (4, (0, 1, 3)), "GRUCell": (3, (0, 1))}
"""Cell -> (number of gates in its kernels, gates that have the recurrent activation)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What wrote a file: the major number of its Keras, and the backend where it says so."""

    version: int
    backend: str = ""


def load_old_weights(model: Any, group: Any, origin: Origin) -> None:
    """Give a model the weights of a group of HDF5 (`layer_names`, and in each `weight_names`).

    Raises LrfError where the layers or the shapes are others.
    """
    saved = {name: read_layer(group[name]) for name in names_in(group, "layer_names")}
    saved = {name: found for name, found in saved.items() if found[0]}
    layers = [layer for layer in model.layers if layer.weights]
    by_name = {layer.name: layer for layer in layers}
    places = [name if name in by_name else name.replace("/", "_") for name in saved]
    if set(places) == set(by_name):
        layers = [by_name[name] for name in places]
    elif len(layers) != len(saved):
        raise LrfError(f"it has weights of {len(saved)} layers, but its configuration has {len(layers)} with weights")
    for layer, (names, values) in zip(layers, saved.values(), strict=True):
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        order = order_by_name(names, variables)
        assign(layer, variables, converted_weights(layer, [values[i] for i in order], origin))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state") and layer.weights:
            layer.finalize_state()  # what a Normalization derives from its statistics


def names_in(group: Any, key: str) -> list[str]:
    """The names in an attribute, which Keras cuts into several where it is too long for one."""
    parts = [key] if key in group.attrs else []
    while f"{key}{len(parts)}" in group.attrs:
        parts.append(f"{key}{len(parts)}")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def read_layer(group: Any) -> tuple[list[str], list[SavedArray]]:
    """The names and the values of the weights of one layer."""
    names = names_in(group, "weight_names")
    return names, [np.asarray(group[name]) for name in names]


def order_by_name(names: Sequence[str], variables: Sequence[Any]) -> list[int]:
    """The places of the saved weights in the order of `variables`: by layer and weight if these are unique names."""
    saved = [tuple(name.partition(":")[0].split("/")[-2:]) for name in names]
    wanted = [tuple(variable.path.split("/")[-2:]) for variable in variables]
    if len(set(saved)) == len(saved) and set(saved) == set(wanted) and len(wanted) == len(saved):
        return [saved.index(name) for name in wanted]
    return list(range(len(names)))


def assign(layer: Any, variables: Sequence[Any], values: Sequence[SavedArray]) -> None:
    """Give the variables of a layer their values. Raises LrfError where they are not of the same shapes."""
    shapes = [tuple(variable.shape) for variable in variables], [value.shape for value in values]
    if shapes[0] != shapes[1]:
        raise LrfError(f"the weights of {layer.name!r} have the shapes {shapes[1]}, but should have {shapes[0]}")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def converted_weights(layer: Any, values: list[SavedArray], origin: Origin) -> list[SavedArray]:
    """The saved weights of a layer in today's layout."""
    kind = type(layer).__name__
    if kind == "Bidirectional":
        half = len(values) // 2
        return converted_weights(layer.forward_layer, values[:half], origin) + converted_weights(
            layer.backward_layer, values[half:], origin
        )
    if kind == "TimeDistributed":
        return converted_weights(layer.layer, values, origin)
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    if isinstance(layer, keras.Model) and len(variables) == len(values):
        place = {id(variable): i for i, variable in enumerate(variables)}
        for inner in layer.layers:
            own = [place[id(variable)] for variable in [*inner.trainable_weights, *inner.non_trainable_weights]]
            for i, value in zip(own, converted_weights(inner, [values[i] for i in own], origin), strict=True):
                values[i] = value
        return values
    if origin.version < 2:
        values = weights_from_keras1(layer, kind, values)
    if kind in CONVOLUTIONS and origin.backend == "theano":
        values[0] = np.flip(values[0], axis=tuple(range(values[0].ndim - 2)))
    if kind in ("LSTM", "GRU") and len(values) == 3:
        values = from_cudnn(kind, values)
    return values


def weights_from_keras1(layer: Any, kind: str, values: list[SavedArray]) -> list[SavedArray]:
    """The weights of a layer of Keras 1 in the layout of Keras 2."""
    first = getattr(layer, "data_format", None) == "channels_first"
    if kind == "Conv1D" and values[0].ndim == 4:
        if values[0].shape[:2] != (layer.kernel_size[0], 1) or values[0].shape[3] != layer.filters:
            values[0] = values[0].transpose(2, 3, 1, 0)
        values[0] = values[0][:, 0]
    if kind in ("Conv2D", "Conv3D") and first:
        values[0] = values[0].transpose(*range(2, values[0].ndim), 1, 0)
    if kind == "Conv2DTranspose":
        values[0] = values[0].transpose((2, 3, 0, 1) if first else (0, 1, 3, 2))
    gates = {("GRU", 9): (0, 3, 6), ("LSTM", 12): (0, 6, 3, 9), ("ConvLSTM2D", 12): (0, 6, 3, 9)}
    if starts := gates.get((kind, len(values))):
        values = [np.concatenate([values[start + part] for start in starts], axis=-1) for part in range(3)]
    return values


def from_cudnn(kind: str, values: list[SavedArray]) -> list[SavedArray]:
    """The kernels and biases of a cuDNN layer as those of an LSTM or GRU layer; others stay as they are."""
    gates, (kernel, recurrent, bias) = 4 if kind == "LSTM" else 3, values
    if bias.shape != (2 * gates * recurrent.shape[0],):
        return values
    kernel = np.hstack([part.T.reshape(part.shape, order="F") for part in np.hsplit(kernel, gates)])
    recurrent = np.hstack([part.T for part in np.hsplit(recurrent, gates)])
    return [kernel, recurrent, bias.reshape(2, -1).sum(0) if kind == "LSTM" else bias.reshape(2, -1)]


def adapt_hard_sigmoid(model: Any) -> None:
    """Scale what goes into every `hard_sigmoid` of a model of Keras 1 or 2, so that Keras 3's gives the same values.

    The old one is clip(0.2 x + 0.5, 0, 1), today's is clip(x / 6 + 0.5, 0, 1).
    """
    for layer in {id(inner): inner for inner in model._flatten_layers()}.values():
        if type(layer).__name__ in GATES:
            scale_gates(layer)
        elif getattr(layer, "activation", None) is keras.activations.hard_sigmoid and not getattr(layer, "cell", None):
            scale_output(layer)


def scale_gates(cell: Any) -> None:
    """Scale the gates of a recurrent cell that are behind a `hard_sigmoid`."""
    gates, recurrent = GATES[type(cell).__name__]
    old = keras.activations.hard_sigmoid
    places = set(recurrent) if cell.recurrent_activation is old else set()
    if cell.activation is old:
        raise LrfError("it has a recurrent layer with activation='hard_sigmoid', which is another function in Keras 3")
    scale = np.repeat([HARD_SIGMOID_RATIO if gate in places else 1.0 for gate in range(gates)], cell_units(cell))
    for variable in (cell.kernel, cell.recurrent_kernel, cell.bias):
        if variable is not None:
            variable.assign(np.asarray(variable) * scale.astype(np.float32))


def cell_units(cell: Any) -> int:
    """The number of units or filters of a recurrent cell."""
    return int(getattr(cell, "units", None) or cell.filters)


def scale_output(layer: Any) -> None:
    """Scale the last kernel and the bias of a layer with the activation `hard_sigmoid`."""
    kernels = [getattr(layer, name, None) for name in ("pointwise_kernel", "kernel", "recurrent_kernel")]
    if kernels[0] is not None:
        kernels = kernels[:1]
    scaled = [variable for variable in (*kernels, getattr(layer, "bias", None)) if variable is not None]
    if not scaled:
        raise LrfError(f"{layer.name!r} has the hard_sigmoid of Keras 2, which is another function in Keras 3")
    for variable in scaled:
        variable.assign(np.asarray(variable) * np.float32(HARD_SIGMOID_RATIO))
