"""Every layer of a model: its parameters and MACs, and its site or the reason why it cannot be factorized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import chain_of, methods_within_limits, saving_methods
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.attention_layers import projection_reasons
from lrf_optuna.models.forward import CallShapes, called_shapes, open_shape
from lrf_optuna.models.layer_copies import keras_class_name
from lrf_optuna.models.layer_kinds import (
    ATTENTION,
    GRAPHS,
    LAYERS,
    SEPARABLE,
    LayerKind,
    channels_first,
    projections,
    walk_layers,
)
from lrf_optuna.models.macs import Macs, count_macs, uncounted_operations
from lrf_optuna.models.model_inputs import Shapes
from lrf_optuna.models.recurrent_layers import RECURRENT_CLASSES
from lrf_optuna.plans.plan import Plan

CHANNELS_FIRST = (
    "channels_first: only channels_last is factorized; build the same model with data_format='channels_last', and set "
    "its weights, which have the same shapes but for a Dense layer after a Flatten"
)
NO_RECURRENT_LAYER = "Keras has no layer for a factorized recurrent kernel"
REASONS = {
    **dict.fromkeys(ATTENTION, "its weights are in its projections, which are listed below it"),
    **dict.fromkeys(SEPARABLE, "two layers in one: split it first (lrf_optuna.models.separable.split_separable)"),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), NO_RECURRENT_LAYER),
    "RNN": "runs cells of its own: SimpleRNN, GRU and LSTM layers are factorized",
    "SpectralNormalization": "divides the kernel of the layer in it by its norm: take the layer out, with that kernel",
}
"""Why layers of Keras that look as if they could be factorized cannot be."""


RECURRENT_REMARK = f"The recurrent kernels of recurrent layers stay as they are: {NO_RECURRENT_LAYER}."
"""What is said beside layers of which only the input kernel is factorized."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a model: its path, kind, parameters and MACs (absolute), its site or the reason it has none.

    `macs` is None where they are not known. Those of an attention layer are without its projections, which have rows.
    """

    path: str
    kind: str
    params: int
    macs: Macs
    site: Site | None
    reason: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every layer of a model, and the model's totals: `model.count_params()` and the MACs for one image.

    `macs` is of what is counted; `uncounted` names the layers and the operations of the graph whose MACs are not known.
    """

    rows: tuple[LayerRow, ...]
    params: int
    macs: int
    uncounted: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """What is said of the layers of which a kernel stays as it is; empty where there is none."""
        kinds = {row.kind for row in self.rows if row.site}
        return RECURRENT_REMARK if kinds & {*RECURRENT_CLASSES, "Bidirectional"} else ""

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
    reasons = inner_reasons(model, layers)
    rows = tuple(
        row_of(path, layer, shapes.get(path, []), count_macs(path, layer, shapes), reasons.get(path, ""))
        for path, layer in layers.items()
    )
    uncounted = [row.path for row in rows if row.macs is None] + list(uncounted_operations(model))
    if not isinstance(model, GRAPHS):
        why = f"inside the subclassed model {type(model).__name__}, which cannot be rebuilt: make it functional"
        rows = tuple(replace(row, site=None, reason=why) if row.site else row for row in rows)
        uncounted.append(f"what {type(model).__name__} computes itself")
    return Inventory(rows, int(model.count_params()), sum(row.macs or 0 for row in rows), tuple(uncounted))


def inner_reasons(model: Any, layers: Mapping[str, Any]) -> dict[str, str]:
    """Path -> why a projection of an attention layer cannot be factorized; empty where it can."""
    free = set(map(id, layers_outside_sequential(model)))
    return {
        f"{path}/{name}": reason
        for path, layer in layers.items()
        if projections(layer)
        for name, reason in projection_reasons(layer, id(layer) not in free).items()
    }


def layers_outside_sequential(model: Any) -> Iterator[Any]:
    """The layers of a model and of its nested models that are not inside a Sequential."""
    for layer in () if isinstance(model, keras.Sequential) else model.layers:
        if isinstance(layer, GRAPHS):
            yield from layers_outside_sequential(layer)
        else:
            yield layer


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
    """A plain row for each layer, ready for JSON: its kind, sizes, and methods or the reason why it has none.

    MACs and their shares of what is counted are None where a layer's are not known.
    """
    return [
        {
            "layer": row.path,
            "kind": row.kind,
            "params": row.params,
            "params_share": row.params / max(inventory.params, 1),
            "macs": row.macs,
            "macs_share": None if row.macs is None else row.macs / max(inventory.macs, 1),
            "methods": ", ".join(m for m in methods_within_limits(row.site) if m != "intact") if row.site else "",
            "reason": row.reason,
        }
        for row in inventory.rows
    ]


def row_of(path: str, layer: Any, calls: CallShapes, macs: Macs, reason: str) -> LayerRow:
    """The row of one layer with these calls; `reason`: why it cannot be factorized, whatever its kind is."""
    params = int(layer.count_params()) if layer.built else 0
    params -= sum(int(inner.count_params()) for inner in projections(layer).values())
    kind = LAYERS.get(keras_class_name(layer))
    op, reason = None, reason or why_not(layer, kind, calls)
    if kind and layer.built:
        try:
            op = kind.read(layer)
            reason = reason or ("" if saving_methods(op) else "too small: no chain has fewer parameters")
        except LrfError as error:
            reason = reason or str(error)
    maps = tuple(kind.position_map(layer, before) for before, _ in calls if before) if kind and op else ()
    site = Site(path, op, maps) if op and not reason else None
    return LayerRow(path, type(layer).__name__, params, macs, site, reason)


def why_not(layer: Any, kind: LayerKind | None, calls: CallShapes) -> str:
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
        return CHANNELS_FIRST
    if getattr(layer, "output_padding", None) is not None:
        return "a transposed convolution with an output_padding of its own"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "has LoRA or quantized weights: factorize before that"
    return ""
