"""Keras layers and the operations they are: `LAYERS`, and `find_sites`, which names a reason for every layer left out.

A new layer kind is one row of `LAYERS`: how its operation is read, how a stage is written as a layer, how it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lrf_optuna import convolutions as conv
from lrf_optuna import einsum, writing
from lrf_optuna.decompositions import chain_of, saving
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.network import Shape, Shapes, called_shapes, open_shape, view_of
from lrf_optuna.plan import Plan
from lrf_optuna.stages import Array, Chain, Conv, Site

Functional: Any = type(keras.Model(dummy := keras.Input((1,)), dummy))
"""The class of models that are a graph of layers; Keras has no public name for it."""

SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
TWO_IN_ONE = "two layers in one: split it first, as run does (lrf_optuna.separable.unseparated)"
ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention")
OWN_INSIDE = "builds its projections itself and cannot hold others: write them as EinsumDense layers to factorize them"
WRAPPED = "wraps another layer: put it in the model itself (Dense takes any number of axes) to factorize it"
REASONS = (
    dict.fromkeys(("TimeDistributed",), WRAPPED)
    | dict.fromkeys(SEPARABLE, TWO_IN_ONE)
    | dict.fromkeys(ATTENTION, OWN_INSIDE)
)
"""Why layers of Keras that look as if they could be factorized cannot be."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Keras layer.

    `read`: the operation of a layer. `write`: the layers for one stage of its chain (original, stage, name, whether it
    is the first, which takes the inputs, whether the last, which has the bias and the activation), of which one has
    weights. `ours`: a layer's kernel as `Conv` lays it out; `theirs`: such a kernel as the layer does. `map`: the
    spatial shape of an input of some shape; `any_size`: the shape of all inputs that the layer can take, given the one
    that it was built with. Shapes are without the batch.
    """

    read: Callable[[Any], Conv]
    write: Callable[[Any, Conv, str, bool, bool], list[Any]]
    ours: Callable[[Array, Any], Array] = lambda kernel, layer: kernel
    theirs: Callable[[Array, Any], Array] = lambda kernel, layer: kernel
    map: Callable[[Any, Shape], Shape] = lambda layer, shape: shape[1:] if channels_first(layer) else shape[:-1]
    any_size: Callable[[Any, einsum.Open], einsum.Open] = lambda layer, shape: (*(None for _ in shape[:-1]), shape[-1])


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


def find_sites(model: Any, input_shape: Shapes | None = None) -> Inventory:
    """Every layer of `model` with what it holds, and whether it can be factorized or the reason why not.

    `input_shape` (H, W, C) is needed where the model leaves it open; where it has several inputs, a list or dict of
    shapes as the model takes them. Raises LrfError where it is missing, or where the model cannot take it.
    """
    layers = dict(walk(model))
    shapes = called_shapes(model, layers, input_shape or open_shape(model))
    rows = tuple(row_of(path, layer, shapes.get(path, [])) for path, layer in layers.items())
    if not isinstance(model, (Functional, keras.Sequential)):
        why = f"inside the subclassed model {type(model).__name__}, which cannot be rebuilt: make it functional"
        rows = tuple(LayerRow(r.path, r.kind, r.params, r.macs, None, why if r.site else r.reason) for r in rows)
    return Inventory(rows, int(model.count_params()), sum(row.macs for row in rows))


def counts(inventory: Inventory, plan: Plan) -> tuple[int, int]:
    """Parameters (as `model.count_params()` would say) and MACs for one image of the network that a plan makes.

    Raises LrfError where the plan is not one of this model.
    """
    params, macs = inventory.params, inventory.macs
    sites = {site.name: site for site in inventory.sites}
    for name, choice in plan:
        site = lookup(sites, name, "site in the plan")
        chain = chain_of(site.op, choice)
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
            "methods": ", ".join(saving(row.site.op) if row.site else ()),
            "reason": row.reason,
        }
        for row in inventory.rows
    ]


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
    params, known = int(layer.count_params()) if layer.built else 0, from_keras(layer)
    kind = LAYERS.get(known)
    op, reason = None, why_not(layer, kind, calls)
    if kind and layer.built:
        try:
            op = kind.read(layer)
        except LrfError as why:
            reason = str(why)
    maps = tuple(kind.map(layer, before) for before, _ in calls) if kind and op else ()
    macs = sum(op.macs(shape) for shape in maps) if op else 0
    if known in COUNTED:
        macs = sum(COUNTED[known](layer, *call) for call in calls)
    if op and not reason:
        reason = nothing_saves(op)
    site = Site(path, op, maps) if op and not reason else None
    return LayerRow(path, type(layer).__name__, params, macs, site, reason)


def from_keras(layer: Any) -> str:
    """The name of a layer's class where it is one of Keras' own, else nothing."""
    return type(layer).__name__ if type(layer).__module__.startswith("keras.") else ""


def channels_first(layer: Any) -> bool:
    """Whether a layer's channels come before its positions."""
    return getattr(layer, "data_format", None) == "channels_first"


def why_not(layer: Any, kind: Kind | None, calls: list[tuple[Shape, Shape]]) -> str:
    """Why a layer cannot be factorized, before its shapes are looked at; empty where nothing speaks against it."""
    if kind is None:
        if not layer.weights:
            return "no weights"
        if known := from_keras(layer):
            return REASONS.get(known, "no low-rank form for this kind")
        what = "subclassed model" if isinstance(layer, keras.Model) else "custom layer"
        return f"{what} {type(layer).__name__}: not known here"
    if not calls:
        return "not reached when the model runs"
    if channels_first(layer):
        return "channels_first: only channels_last is factorized"
    if getattr(layer, "output_padding", None) is not None:
        return "a transposed convolution with an output_padding of its own"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "has LoRA or quantized weights: factorize before that"
    return ""


def nothing_saves(op: Conv) -> str:
    """The reason why no decomposition of this operation has fewer parameters; empty where one has."""
    return "" if saving(op) else "too small: no chain has fewer parameters"


def set_kernel(layer: Any, kernel: Array) -> None:
    """Put a stage kernel, laid out as in `Conv`, into a layer."""
    kernel_of(layer).assign(keras_kernel(layer, kernel))


def keras_kernel(layer: Any, kernel: Array) -> Array:
    """A kernel, laid out as in `Conv`, as the layer lays it out."""
    return LAYERS[type(layer).__name__].theirs(kernel, layer)


def own_kernel(layer: Any) -> Array:
    """The layer's kernel, laid out as in `Conv`."""
    return LAYERS[type(layer).__name__].ours(np.asarray(view_of(kernel_of(layer)), np.float32), layer)


def own_maps(layer: Any, inputs: Array) -> Array:
    """What goes into a layer, `(n, ...)`, laid out as in `Conv`: `(n, *map, cin)`."""
    return inputs.reshape(len(inputs), *LAYERS[type(layer).__name__].map(layer, inputs.shape[1:]), -1)


def norms_of(model: Any) -> list[Any]:
    """The BatchNorm layers of a model."""
    return [layer for _, layer in walk(model) if isinstance(layer, keras.layers.BatchNormalization)]


def kernel_of(layer: Any) -> Any:
    """The Keras variable that holds a layer's kernel."""
    return getattr(layer, "_kernel", None) if getattr(layer, "_kernel", None) is not None else layer.kernel


PLAIN = Kind(conv.read_conv, writing.convolution)
DEPTHWISE = Kind(conv.read_depthwise, writing.convolution, conv.merged, conv.reshaped)
TRANSPOSED = Kind(conv.read_transposed, writing.convolution, conv.swapped, conv.swapped)
EINSUM = Kind(einsum.read, writing.einsum_dense, einsum.ours, einsum.theirs, einsum.position_map, einsum.any_size)
LAYERS: dict[str, Kind] = {
    "Conv1D": PLAIN,
    "Conv2D": PLAIN,
    "Conv3D": PLAIN,
    "DepthwiseConv1D": DEPTHWISE,
    "DepthwiseConv2D": DEPTHWISE,
    "Conv1DTranspose": TRANSPOSED,
    "Conv2DTranspose": TRANSPOSED,
    "Conv3DTranspose": TRANSPOSED,
    "Dense": Kind(conv.read_dense, writing.dense, conv.shaped, conv.reshaped),
    "EinsumDense": Kind(
        einsum.read, writing.einsum_dense, einsum.ours, einsum.theirs, einsum.position_map, einsum.any_size
    ),
}
COUNTED: dict[str, Callable[[Any, Shape, Shape], int]] = {
    **dict.fromkeys(SEPARABLE, conv.both_macs),
    "EinsumDense": einsum.macs,
}
"""Kinds that are counted by their input and output shapes, as not all of their layers have an operation."""
