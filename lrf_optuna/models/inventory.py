"""Every layer of a model: its parameters and MACs, and its site or the reason why it cannot be factorized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import keras

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, saving_methods
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.forward import called_shapes, open_shape
from lrf_optuna.models.layer_kinds import COUNTED, GRAPHS, LAYERS, SEPARABLE, LayerKind, channels_first, walk_layers
from lrf_optuna.models.model_inputs import Shape, Shapes
from lrf_optuna.plans.plan import Plan

ATTENTION = "builds its projections itself and cannot hold others: write them as EinsumDense layers to factorize them"
WRAPPER = "wraps another layer: put it in the model itself (Dense takes any number of axes) to factorize it"
REASONS = {
    **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention"), ATTENTION),
    **dict.fromkeys(SEPARABLE, "two layers in one: split it first (lrf_optuna.models.separable.split_separable)"),
    "TimeDistributed": WRAPPER,
}
"""Why layers of Keras that look as if they could be factorized cannot be."""


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
    """Every layer of `model` with its parameters and MACs, and its site or the reason why it has none.

    `input_shape` (H, W, C) is needed where the model leaves it open; where it has several inputs, a list or dict of
    shapes as the model takes them. Raises LrfError where it is missing, or where the model cannot take it.
    """
    layers = dict(walk_layers(model))
    shapes = called_shapes(model, layers, input_shape or open_shape(model))
    rows = tuple(row_of(path, layer, shapes.get(path, [])) for path, layer in layers.items())
    if not isinstance(model, GRAPHS):
        why = f"inside the subclassed model {type(model).__name__}, which cannot be rebuilt: make it functional"
        rows = tuple(replace(row, site=None, reason=why) if row.site else row for row in rows)
    return Inventory(rows, int(model.count_params()), sum(row.macs for row in rows))


def plan_counts(inventory: Inventory, plan: Plan) -> tuple[int, int]:
    """Parameters, as `count_params()` counts them, and MACs for one image, of the network that a plan makes.

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


def inventory_rows(inventory: Inventory) -> list[dict[str, Any]]:
    """A plain row for each layer, ready for JSON: its kind, sizes, and methods or the reason why it has none."""
    return [
        {
            "layer": row.path,
            "kind": row.kind,
            "params": row.params,
            "params_share": row.params / max(inventory.params, 1),
            "macs": row.macs,
            "macs_share": row.macs / max(inventory.macs, 1),
            "methods": ", ".join(saving_methods(row.site.op) if row.site else ()),
            "reason": row.reason,
        }
        for row in inventory.rows
    ]


def row_of(path: str, layer: Any, calls: list[tuple[Shape, Shape]]) -> LayerRow:
    """The row of one layer that is called with these input and output shapes."""
    params, name = int(layer.count_params()) if layer.built else 0, keras_class_name(layer)
    kind = LAYERS.get(name)
    op, reason = None, why_not(layer, kind, calls)
    if kind and layer.built:
        try:
            op = kind.read(layer)
            reason = reason or ("" if saving_methods(op) else "too small: no chain has fewer parameters")
        except LrfError as error:
            reason = str(error)
    maps = tuple(kind.position_map(layer, before) for before, _ in calls) if kind and op else ()
    macs = sum(op.macs(shape) for shape in maps) if op else 0
    if name in COUNTED:
        macs = sum(COUNTED[name](layer, *call) for call in calls)
    site = Site(path, op, maps) if op and not reason else None
    return LayerRow(path, type(layer).__name__, params, macs, site, reason)


def keras_class_name(layer: Any) -> str:
    """The name of a layer's class if the class is one of Keras' own; empty for others."""
    return type(layer).__name__ if type(layer).__module__.startswith("keras.") else ""


def why_not(layer: Any, kind: LayerKind | None, calls: list[tuple[Shape, Shape]]) -> str:
    """Why a layer cannot be factorized, whatever its operation is; empty where it can."""
    if kind is None:
        if not layer.weights:
            return "no weights"
        if name := keras_class_name(layer):
            return REASONS.get(name, "no low-rank form for this kind")
        custom = "subclassed model" if isinstance(layer, keras.Model) else "custom layer"
        return f"{custom} {type(layer).__name__}: not known here"
    if not calls:
        return "not reached when the model runs"
    if channels_first(layer):
        return "channels_first: only channels_last is factorized"
    if getattr(layer, "output_padding", None) is not None:
        return "a transposed convolution with an output_padding of its own"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "has LoRA or quantized weights: factorize before that"
    return ""
