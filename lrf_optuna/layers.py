"""Keras layers and the operations they are: `LAYERS`, and `find_sites`, which names a reason for every layer left out.

A new layer kind is one row of `LAYERS`: how its operation is read, how a stage is written as a layer, how it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import numpy as np

from lrf_optuna.decompositions import DECOMPOSITIONS, chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.network import Shape, called_shapes
from lrf_optuna.plan import Plan
from lrf_optuna.stages import Array, Chain, Conv, Site

Functional: Any = type(keras.Model(dummy := keras.Input((1,)), dummy))
"""The class of models that are a graph of layers; Keras has no public name for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Keras layer.

    `read`: the operation of a layer, where it can be factorized. `write`: the layer for one stage of its chain
    (original, stage, name, whether it is the last, which has the bias and the activation). `macs`: of one call, from
    the shapes that come in and go out. `later`: why a kind that only counts is not factorized.
    """

    macs: Callable[[Any, Shape, Shape], int]
    read: Callable[[Any], Conv] | None = None
    write: Callable[[Any, Conv, str, bool], Any] | None = None
    later: str = ""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a model: its path, kind, parameters and MACs (absolute), its site or the reason it has none."""

    path: str
    kind: str
    params: int
    macs: int
    site: Site | None
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every layer of a model, and the model's totals: `model.count_params()` and the MACs for one image."""

    rows: tuple[LayerRow, ...]
    params: int
    macs: int

    @property
    def sites(self) -> tuple[Site, ...]:
        """The layers that can be factorized, in the model's order."""
        return tuple(row.site for row in self.rows if row.site)


def find_sites(model: Any, input_shape: Shape | None = None) -> Inventory:
    """Every layer of `model` with what it holds, and whether it can be factorized or the reason why not.

    `input_shape` (H, W, C) is needed where the model leaves it open. Raises LrfError where it is missing, or where the
    model cannot take it.
    """
    layers = dict(walk(model))
    shapes = called_shapes(model, layers, input_shape or open_shape(model))
    rows = tuple(row_of(path, layer, shapes.get(path, [])) for path, layer in layers.items())
    if not isinstance(model, (Functional, keras.Sequential)):
        why = f"inside the subclassed model {type(model).__name__}, which cannot be rebuilt: make it functional"
        rows = tuple(LayerRow(r.path, r.kind, r.params, r.macs, None, why if r.site else r.reason) for r in rows)
    return Inventory(rows, int(model.count_params()), sum(row.macs for row in rows))


def counts(inventory: Inventory, plan: Plan) -> tuple[int, int]:
    """Parameters (as `model.count_params()` would say) and MACs for one image of the network that a plan makes."""
    params, macs = inventory.params, inventory.macs
    sites = {site.name: site for site in inventory.sites}
    for name, choice in plan:
        site, chain = sites[name], chain_of(sites[name].op, choice)
        params += chain.params - site.op.params
        macs += site.macs(chain) - site.macs(Chain((site.op,)))
    return params, macs


def described(inventory: Inventory) -> list[dict[str, Any]]:
    """One plain row a layer, ready for JSON: what it is, what it holds, its methods or the reason why it has none."""
    return [
        {
            "layer": row.path,
            "kind": row.kind,
            "params": row.params,
            "params_share": row.params / max(inventory.params, 1),
            "macs": row.macs,
            "macs_share": row.macs / max(inventory.macs, 1),
            "methods": ", ".join(
                n for n, d in DECOMPOSITIONS.items() if row.site and n != "intact" and d.applies(row.site.op)
            ),
            "reason": row.reason,
        }
        for row in inventory.rows
    ]


def open_shape(model: Any) -> Shape:
    """The model's input shape without the batch axis. Raises LrfError where the model leaves it open."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or any(size is None for size in shape[1:]):
        raise LrfError(f"the model takes inputs of shape {shape}: say which, as input_shape or --size")
    return shape[1:]


def walk(model: Any) -> Iterator[tuple[str, Any]]:
    """`(path, layer)` of every layer, once; those of nested models under the name of the nest."""
    seen: set[int] = set()

    def inside(nest: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for layer in nest.layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            if isinstance(layer, (Functional, keras.Sequential)):
                yield from inside(layer, f"{prefix}{layer.name}/")
            else:
                yield prefix + layer.name, layer

    yield from inside(model, "")


def row_of(path: str, layer: Any, calls: list[tuple[Shape, Shape]]) -> LayerRow:
    """The row of one layer that is called with these input and output shapes."""
    name = type(layer).__name__
    kind = LAYERS.get(name) if type(layer).__module__.startswith("keras.") else None
    macs = sum(kind.macs(layer, before, after) for before, after in calls) if kind else 0
    reason = why_not(layer, kind, calls)
    site = None
    if not reason and kind and kind.read:
        op = kind.read(layer)
        reason = nothing_saves(op)
        site = None if reason else Site(path, op, tuple(before[:-1] for before, _ in calls))
    return LayerRow(path, name, int(layer.count_params()) if layer.built else 0, macs, site, reason)


def why_not(layer: Any, kind: Kind | None, calls: list[tuple[Shape, Shape]]) -> str:
    """Why a layer cannot be factorized, before its shapes are looked at; empty where nothing speaks against it."""
    if kind is None:
        if not layer.weights:
            return "no weights"
        known = type(layer).__module__.startswith("keras.")
        return "no low-rank form for this kind" if known else f"custom layer {type(layer).__name__}: not known here"
    if kind.read is None:
        return kind.later
    if not calls:
        return "not reached when the model runs"
    if getattr(layer, "groups", 1) > 1:
        return f"grouped convolution ({layer.groups} groups): not factorized yet"
    if getattr(layer, "data_format", None) == "channels_first":
        return "channels_first: only channels_last is factorized yet"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "has LoRA or quantized weights: factorize before that"
    return ""


def nothing_saves(op: Conv) -> str:
    """The reason why no decomposition of this operation has fewer parameters; empty where one has."""
    smallest = [d.chain(op, d.ranks(op, 0.0)).params for d in DECOMPOSITIONS.values() if d.applies(op)]
    return "" if min(smallest) < op.params else "too small: no chain has fewer parameters"


def conv_macs(layer: Any, before: Shape, after: Shape) -> int:
    """A kernel entry is used once at every output position; `(H, W, C)` shapes."""
    return int(prod(after[:-1]) * prod(layer.kernel.shape))


def transposed_macs(layer: Any, before: Shape, after: Shape) -> int:
    """A kernel entry is used once at every input position."""
    return int(prod(before[:-1]) * prod(layer.kernel.shape))


def separable_macs(layer: Any, before: Shape, after: Shape) -> int:
    """The depthwise and the pointwise part, both at every output position."""
    return int(prod(after[:-1]) * (prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)))


def read_conv(layer: Any) -> Conv:
    """The operation of a Keras convolution."""
    *window, each_in, cout = layer.kernel.shape
    return Conv(
        tuple(window),
        each_in * layer.groups,
        cout,
        tuple(layer.strides),
        tuple(layer.dilation_rate),
        layer.padding,
        layer.groups,
    )


def read_dense(layer: Any) -> Conv:
    """The operation of a Dense layer: a convolution with the window ()."""
    cin, cout = layer.kernel.shape
    return Conv((), cin, cout, (), ())


def stage_config(layer: Any, name: str, last: bool) -> dict[str, Any]:
    """The original layer's configuration for one stage: the bias, activation and constraints go to the last."""
    config = dict(layer.get_config(), name=name)
    if not last:
        config |= {"activation": "linear", "use_bias": False, "activity_regularizer": None, "kernel_constraint": None}
    return config


def write_conv2d(layer: Any, stage: Conv, name: str, last: bool) -> Any:
    """The Keras layer for one stage of a Conv2D's chain."""
    config = stage_config(layer, name, last)
    shape = {
        "kernel_size": stage.window,
        "strides": stage.strides,
        "dilation_rate": stage.dilation,
        "padding": stage.padding,
    }
    if not stage.depthwise:
        return keras.layers.Conv2D.from_config(config | shape | {"filters": stage.cout, "groups": stage.groups})
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}")
    config.pop("filters")
    config.pop("groups")
    return keras.layers.DepthwiseConv2D.from_config(config | shape)


def write_dense(layer: Any, stage: Conv, name: str, last: bool) -> Any:
    """The Keras layer for one stage of a Dense layer's chain."""
    config = stage_config(layer, name, last)
    return keras.layers.Dense.from_config(config | {"units": stage.cout})


def set_kernel(layer: Any, kernel: Array) -> None:
    """Put a stage kernel, laid out as in `Conv`, into the layer that `write` made."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    kernel_of(layer).assign(np.swapaxes(kernel, -1, -2) if depthwise else kernel)


def kernel_of(layer: Any) -> Any:
    """The Keras variable that holds a layer's kernel."""
    return getattr(layer, "_kernel", None) if getattr(layer, "_kernel", None) is not None else layer.kernel


def waits(macs: Callable[[Any, Shape, Shape], int]) -> Kind:
    """A kind that is counted, but not factorized yet."""
    return Kind(macs, later="this kind is not factorized yet")


LAYERS: dict[str, Kind] = {
    "Conv2D": Kind(conv_macs, read_conv, write_conv2d),
    "Dense": Kind(conv_macs, read_dense, write_dense),
    "Conv1D": waits(conv_macs),
    "Conv3D": waits(conv_macs),
    "DepthwiseConv1D": waits(conv_macs),
    "DepthwiseConv2D": waits(conv_macs),
    "SeparableConv1D": waits(separable_macs),
    "SeparableConv2D": waits(separable_macs),
    "Conv1DTranspose": waits(transposed_macs),
    "Conv2DTranspose": waits(transposed_macs),
    "Conv3DTranspose": waits(transposed_macs),
}
