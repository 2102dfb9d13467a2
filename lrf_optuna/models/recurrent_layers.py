"""Layers of sequences, whose (input) kernel is one matrix at every step: operation, kernel, and stages as layers.

A kernel W = A B becomes a Dense layer A at every step, and the same recurrent layer with the input kernel B. The two
directions of a Bidirectional layer take the same inputs: their kernels stand side by side and share A.
"""

from __future__ import annotations

from typing import Any

import keras

from lrf_optuna.chains.conv import Conv
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.errors import LrfError
from lrf_optuna.models.conv_layers import stage_config
from lrf_optuna.models.layer_copies import copy_layer, layer_config

RECURRENT_CLASSES = ("SimpleRNN", "GRU", "LSTM")
FIRST_STAGE_KEYS = ("trainable", "dtype", "kernel_initializer", "kernel_regularizer")
"""The keys of a recurrent layer's configuration that its Dense stages have too."""


def directions(layer: Any) -> list[Any]:
    """The recurrent layers that take the inputs: the layer itself, or the two in a Bidirectional layer."""
    return [layer.forward_layer, layer.backward_layer] if hasattr(layer, "backward_layer") else [layer]


def input_kernels(layer: Any) -> list[Any]:
    """The variables of the input kernels, one a direction."""
    return [one.cell.kernel for one in directions(layer)]


def read_recurrent(layer: Any) -> Conv:
    """The operation of a recurrent layer's input kernels. Raises LrfError where no Sequential can replace the layer."""
    parts = directions(layer)
    kinds = {type(one).__name__ for one in parts}
    reasons = {
        "wraps another layer than SimpleRNN, GRU or LSTM": not kinds <= set(RECURRENT_CLASSES),
        "is stateful: its batch has a fixed size": layer.stateful,
        "gives its state beside its output, and a Sequential gives one array": layer.return_state,
        "gives two outputs, and a Sequential gives one array": getattr(layer, "merge_mode", "") is None,
        "is called with an initial state, which a Sequential does not take": has_initial_state(layer),
        "has directions of different dropout": len({getattr(one, "dropout", 0.0) for one in parts}) > 1,
    }
    for reason, holds in reasons.items():
        if holds:
            raise LrfError(f"a recurrent layer that {reason}")
    kernels = input_kernels(layer)
    return Conv((1,), kernels[0].shape[0], sum(kernel.shape[1] for kernel in kernels), (1,), (1,))


def has_initial_state(layer: Any) -> bool:
    """Whether a call of the layer in a graph of layers has an initial state."""
    calls = [node.arguments for node in layer._inbound_nodes]
    return any(state is not None for call in calls for state in (*call.args[1:2], call.kwargs.get("initial_state")))


def any_steps(layer: Any, shape: OpenShape) -> OpenShape:
    """The shape of inputs of any number of steps; an unrolled layer has a fixed number."""
    return shape if any(one.unroll for one in directions(layer)) else (None, shape[-1])


def write_recurrent(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a recurrent layer's chain; the last one is the layer itself, without dropout of its inputs.

    That dropout is of a feature at all steps, and stands before the first stage.
    """
    if last:
        return [copy_layer(layer, lambda config: narrow_config(config) | {"name": name})]
    (one, *_) = directions(layer)
    config = layer_config(one)
    dense = keras.layers.Dense.from_config(
        {key: config[key] for key in FIRST_STAGE_KEYS} | {"units": stage.cout, "use_bias": False, "name": name}
    )
    if not first or not one.dropout:
        return [dense]
    dropout = {"rate": one.dropout, "seed": config["seed"], "dtype": config["dtype"], "name": f"{name}_dropout"}
    return [keras.layers.SpatialDropout1D.from_config(dropout), dense]


def narrow_config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a recurrent layer without its dropout of inputs, for inputs of another size."""
    if "layer" not in config:
        return config | {"dropout": 0.0}
    inner = {key: config[key] for key in ("layer", "backward_layer") if key in config}
    plain = {
        key: {name: value for name, value in one.items() if name != "build_config"}
        | {"config": narrow_config(one["config"])}
        for key, one in inner.items()
    }
    return config | plain


def fill_recurrent(layer: Any, last: Any) -> None:
    """Give the last stage all weights of a recurrent layer other than its input kernels."""
    kernels = {id(kernel) for kernel in input_kernels(layer)}
    for variable, new in zip(layer.weights, last.weights, strict=True):
        if id(variable) not in kernels:
            new.assign(variable)


def read_steps(layer: Any) -> Conv:
    """The operation of a Dense layer at every step. Raises LrfError where a TimeDistributed layer wraps another one."""
    inner = layer.layer
    if type(inner).__name__ != "Dense":
        raise LrfError(f"applies a {type(inner).__name__} at every step, and only Dense layers are factorized there")
    if inner.lora_enabled or inner.quantization_mode:
        raise LrfError("has LoRA or quantized weights: factorize before that")
    cin, cout = inner.kernel.shape
    return Conv((1,), cin, cout, (1,), (1,))


def write_steps(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a Dense layer at every step, which a Dense layer itself is."""
    return [keras.layers.Dense.from_config(stage_config(layer.layer, name, last) | {"units": stage.cout})]
