"""The projections of Keras' attention layers, and which of them can be factorized with plain Keras layers.

A projection W = A B of the query, the value or the key becomes a Dense layer A before the attention layer, which then
projects the smaller input by B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import keras

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.models.layer_copies import layer_config
from lrf_optuna.models.layer_kinds import assign_kernel, projections

INPUTS = ("query", "value", "key")
"""The inputs of an attention layer, which are also the names of their projections."""


def projection_reasons(layer: Any, in_sequential: bool) -> dict[str, str]:
    """Name -> why a projection of an attention layer cannot be factorized; empty where it can.

    `in_sequential`: whether the layer is in a model inside a Sequential, whose calls Keras cannot rebuild.
    """
    kind, found = type(layer).__name__, projections(layer)
    reasons = dict.fromkeys(found, "")
    reasons["attention_output"] = f"the last projection of a {kind} layer: only query, key and value are factorized"
    if "gate" in found:
        reasons |= dict.fromkeys(("query", "gate"), f"the gate of a {kind} layer has the same input as its query")
    for why, holds in {
        "wants inputs of equal sizes": kind != "MultiHeadAttention",
        "is in a model inside a Sequential": in_sequential,
    }.items():
        if holds:
            return dict.fromkeys(found, f"a projection of a {kind} layer that {why}")
    return reasons


@dataclass(frozen=True, slots=True)
class AttentionChain:
    """A new attention `layer` and the Dense layers before it: `before` has them by the name of the input."""

    layer: Any
    before: Mapping[str, list[Any]]

    @classmethod
    def of(cls, layer: Any, stages: Mapping[str, tuple[Conv, ...]]) -> AttentionChain:
        """The unfilled chain in the place of a layer; `stages`: name of a projection -> the stages of its chain."""
        config = layer_config(layer)
        if "output_shape" in config and not config["output_shape"]:
            config["output_shape"] = int(projections(layer)["attention_output"].kernel.shape[-1])
        dense = {key: config[key] for key in ("trainable", "dtype", "kernel_initializer", "kernel_regularizer")}
        before = {
            name: [
                keras.layers.Dense.from_config(
                    dense | {"units": stage.cout, "use_bias": False, "name": f"{layer.name}_{name}_{i}"}
                )
                for i, stage in enumerate(chain[:-1], start=1)
            ]
            for name, chain in stages.items()
        }
        return cls(type(layer).from_config(config), before)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the attention layer gives for the arguments of a call of the original."""
        given = signature(self.layer.call).bind(*args, **kwargs).arguments
        inputs = {name: given.get(name) if given.get(name) is not None else given["value"] for name in INPUTS}
        for name, layers in self.before.items():
            for layer in layers:
                inputs[name] = layer(inputs[name])
        others = {name: value for name, value in given.items() if name not in INPUTS}
        return self.layer(inputs["query"], inputs["value"], key=inputs["key"], **others)

    def fill(self, layer: Any, kernels: Mapping[str, tuple[Array, ...]]) -> None:
        """Give the chain all weights of the original `layer`, but the stage kernels to the projections named here."""
        new = projections(self.layer)
        for name, projection in projections(layer).items():
            if name in kernels:
                for one, kernel in zip([*self.before[name], new[name]], kernels[name], strict=True):
                    assign_kernel(one, kernel)
            else:
                new[name].kernel.assign(projection.kernel)
            if projection.bias is not None:
                new[name].bias.assign(projection.bias)
