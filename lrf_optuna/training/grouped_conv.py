"""Grouped convolutions as one convolution for each group, while a training step is traced.

On a processor Keras compiles a grouped convolution with XLA, whose gradients are slow there: a forward and
backward pass of a ResNeXt-29 takes 21 times as long as with a convolution for each group
(benchmarks/results/grouped.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from lrf_optuna.models.layer_kinds import walk_layers

OPERATION = "convolution_op"
"""The method of Keras' convolutions that takes the inputs and the kernel."""
KINDS = keras.layers.Conv2D, keras.layers.Conv3D
"""The layers that call it; `Conv1D` has a call of its own."""


@contextmanager
def grouped_by_parts(*models: Any) -> Iterator[None]:
    """A block in which grouped convolutions of models are computed group by group; their layers stay as they are."""
    found = [layer for model in models for _, layer in walk_layers(model) if is_grouped(layer)]
    try:
        for layer in found:
            layer.__dict__[OPERATION] = by_parts(layer)
        yield
    finally:
        for layer in found:
            layer.__dict__.pop(OPERATION, None)


def is_grouped(layer: Any) -> bool:
    """Whether a layer is a grouped convolution of Keras' own, with channels last."""
    if not isinstance(layer, KINDS) or layer.groups == 1 or layer.data_format != "channels_last":
        return False
    return any(getattr(type(layer), OPERATION) is getattr(kind, OPERATION) for kind in KINDS)


def by_parts(layer: Any) -> Callable[[Any, Any], Any]:
    """(inputs, kernel) -> what a grouped convolution gives: the outputs of its groups, one after the other."""

    def operation(inputs: Any, kernel: Any) -> Any:
        how = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
        parts = zip(*(ops.split(both, layer.groups, axis=-1) for both in (inputs, kernel)), strict=True)
        return ops.concatenate([ops.conv(x, k, **how) for x, k in parts], axis=-1)

    return operation
