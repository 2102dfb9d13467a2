"""Keras layers and the operations they are: `LAYERS`, and `find_sites`, which names a reason for every layer left out.

A new layer kind is one row of `LAYERS`: how its operation is read, how a stage is written as a layer, how it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import keras
import numpy as np

from lrf_optuna.decompositions import applicable, chain_of, choice_of
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.network import Shape, called_shapes
from lrf_optuna.plan import INTACT, Plan
from lrf_optuna.stages import Array, Chain, Conv, Site

Functional: Any = type(keras.Model(dummy := keras.Input((1,)), dummy))
"""The class of models that are a graph of layers; Keras has no public name for it."""


SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
TWO_IN_ONE = "two layers in one: split it first, as run does (lrf_optuna.separable.unseparated)"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of Keras layer.

    `read`: the operation of a layer. `write`: the layers for one stage of its chain (original, stage, name, whether it
    is the last, which has the bias and the activation); one of them has the kernel. `ours`: its kernel as `Conv` lays
    it out; `theirs`: such a kernel as Keras does, given the shape there.
    """

    read: Callable[[Any], Conv]
    write: Callable[[Any, Conv, str, bool], list[Any]]
    ours: Callable[[Array], Array] = lambda kernel: kernel
    theirs: Callable[[Array, Shape], Array] = lambda kernel, shape: kernel


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
            "methods": ", ".join(applicable(row.site.op)[1:] if row.site else ()),
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
    params = int(layer.count_params()) if layer.built else 0
    reason = why_not(layer, kind, calls)
    if name in SEPARABLE and calls:
        both = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
        return LayerRow(path, name, params, sum(prod(after[:-1]) * both for _, after in calls), None, TWO_IN_ONE)
    if kind is None or not layer.built:
        return LayerRow(path, name, params, 0, None, reason)
    try:
        op = kind.read(layer)
    except LrfError as why:
        return LayerRow(path, name, params, 0, None, str(why))
    first = getattr(layer, "data_format", None) == "channels_first"
    maps = tuple(before[1:] if first else before[:-1] for before, _ in calls)
    macs = sum(op.macs(shape) for shape in maps)
    reason = reason or nothing_saves(op)
    return LayerRow(path, name, params, macs, None if reason else Site(path, op, maps), reason)


def why_not(layer: Any, kind: Kind | None, calls: list[tuple[Shape, Shape]]) -> str:
    """Why a layer cannot be factorized, before its shapes are looked at; empty where nothing speaks against it."""
    if kind is None:
        if not layer.weights:
            return "no weights"
        known = type(layer).__module__.startswith("keras.")
        return "no low-rank form for this kind" if known else f"custom layer {type(layer).__name__}: not known here"
    if not calls:
        return "not reached when the model runs"
    if getattr(layer, "data_format", None) == "channels_first":
        return "channels_first: only channels_last is factorized"
    if getattr(layer, "output_padding", None) is not None:
        return "a transposed convolution with an output_padding of its own"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return "has LoRA or quantized weights: factorize before that"
    return ""


def nothing_saves(op: Conv) -> str:
    """The reason why no decomposition of this operation has fewer parameters; empty where one has."""
    saves = any(choice_of(op, method, 0.0) != INTACT for method in applicable(op))
    return "" if saves else "too small: no chain has fewer parameters"


def read_conv(layer: Any) -> Conv:
    """The operation of a Keras convolution, plain or grouped."""
    *window, each_in, cout = layer.kernel.shape
    return conv_of(layer, tuple(window), each_in * layer.groups, cout, layer.groups)


def read_depthwise(layer: Any) -> Conv:
    """The operation of a depthwise convolution: as many groups as channels."""
    *window, cin, multiplier = layer.kernel.shape
    return conv_of(layer, tuple(window), cin, cin * multiplier, cin)


def read_transposed(layer: Any) -> Conv:
    """The operation of a transposed convolution. Raises LrfError where a 1-wide window has a stride."""
    *window, cout, cin = layer.kernel.shape
    if any(size == 1 and stride > 1 for size, stride in zip(window, layer.strides, strict=True)):
        raise LrfError("a transposed convolution with a stride along a window of one point")
    return replace(conv_of(layer, tuple(window), cin, cout, 1), transposed=True)


def conv_of(layer: Any, window: Shape, cin: int, cout: int, groups: int) -> Conv:
    """An operation with the layer's strides, dilation and padding."""
    return Conv(window, cin, cout, tuple(layer.strides), tuple(layer.dilation_rate), layer.padding, groups)


def read_dense(layer: Any) -> Conv:
    """The operation of a Dense layer: a convolution with the window ()."""
    cin, cout = layer.kernel.shape
    return Conv((), cin, cout, (), ())


def stage_config(layer: Any, name: str, last: bool) -> dict[str, Any]:
    """What a stage has of the original's configuration: the bias, the activation and the constraint go to the last."""
    config = layer.get_config()
    kernel = "depthwise" if "depthwise_initializer" in config else "kernel"
    kept = {key: config[key] for key in ("trainable", "dtype")} | {"name": name}
    kept |= {f"kernel_{part}": config[f"{kernel}_{part}"] for part in ("initializer", "regularizer")}
    if not last:
        return kept | {"use_bias": False}
    ends = ("activation", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint", "activity_regularizer")
    return (
        kept
        | {key: config[key] for key in ends if key in config}
        | {"kernel_constraint": config[f"{kernel}_constraint"]}
    )


def write_conv(layer: Any, stage: Conv, name: str, last: bool) -> list[Any]:
    """The Keras layer for one stage of a convolution's chain."""
    return [convolution(layer, stage, name, last)]


def convolution(layer: Any, stage: Conv, name: str, last: bool) -> Any:
    """One convolution, plain, depthwise or transposed."""
    config, dims = stage_config(layer, name, last), f"{len(stage.window)}D"
    config |= {
        "kernel_size": stage.window,
        "strides": stage.strides,
        "dilation_rate": stage.dilation,
        "padding": stage.padding,
    }
    if stage.transposed:
        return getattr(keras.layers, f"Conv{dims}Transpose").from_config(config | {"filters": stage.cout})
    depthwise = getattr(keras.layers, f"DepthwiseConv{dims}", None)
    if depthwise is None or stage.groups == 1 or stage.groups != stage.cin or stage.padding == "causal":
        config |= {"filters": stage.cout, "groups": stage.groups}
        return getattr(keras.layers, f"Conv{dims}").from_config(config)
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}", None) or (
            "glorot_uniform" if part == "initializer" else None
        )
    return depthwise.from_config(config | {"depth_multiplier": stage.cout // stage.cin})


def write_dense(layer: Any, stage: Conv, name: str, last: bool) -> list[Any]:
    """The Keras layers for one stage of a Dense layer's chain."""
    config = stage_config(layer, name, last)
    if stage.slices == 1:
        return [keras.layers.Dense.from_config(config | {"units": stage.cout})]
    return contracted(layer, stage, config, last)


def contracted(layer: Any, stage: Conv, config: dict[str, Any], last: bool) -> list[Any]:
    """A contraction: the channels seen as (lead, axis, trail), the kernel on the axis; after the last one as before.

    The activation follows then: one like softmax looks at all channels.
    """
    name, positions = config["name"], layer.get_build_config()["input_shape"][1:-1]
    free = [-1 if size is None else size for size in positions]
    axes = [("l", stage.lead), ("i", stage.kernel_shape[0]), ("t", stage.trail)]
    there = [(axis, size) for axis, size in axes if axis == "i" or size > 1]
    before = "".join(axis for axis, _ in there)
    after, out = before.replace("i", "o"), [stage.kernel_shape[1] if axis == "i" else size for axis, size in there]
    kept = "abcdefgh"[: 1 + len(positions)]
    ends = {key: config.pop(key) for key in ("activation", "activity_regularizer") if key in config}
    config |= {"bias_axes": after} if config.pop("use_bias") else {}
    made = [
        keras.layers.Reshape((*free, *(size for _, size in there)), name=f"{name}_view", dtype=layer.dtype_policy),
        keras.layers.EinsumDense(
            f"{kept}{before},io->{kept}{after}", (*(None if n < 0 else n for n in free), *out), **config
        ),
    ]
    if last:
        made.append(keras.layers.Reshape((*free, stage.cout), name=f"{name}_flat", dtype=layer.dtype_policy))
    if last and (ends.get("activity_regularizer") or ends["activation"] != "linear"):
        made.append(keras.layers.Activation(name=f"{name}_end", dtype=layer.dtype_policy, **ends))
    return made


def set_kernel(layer: Any, kernel: Array) -> None:
    """Put a stage kernel, laid out as in `Conv`, into a layer."""
    kernel_of(layer).assign(keras_kernel(layer, kernel))


def keras_kernel(layer: Any, kernel: Array) -> Array:
    """A kernel, laid out as in `Conv`, as the layer lays it out."""
    return LAYERS[type(layer).__name__].theirs(kernel, tuple(kernel_of(layer).shape))


def own_kernel(layer: Any) -> Array:
    """The layer's kernel, laid out as in `Conv`."""
    return LAYERS[type(layer).__name__].ours(np.asarray(kernel_of(layer).numpy(), np.float32))


def kernel_of(layer: Any) -> Any:
    """The Keras variable that holds a layer's kernel."""
    return getattr(layer, "_kernel", None) if getattr(layer, "_kernel", None) is not None else layer.kernel


def swapped(kernel: Array, shape: Shape = ()) -> Array:
    """A transposed convolution's kernel has its channels the other way round."""
    return np.swapaxes(kernel, -1, -2)


def reshaped(kernel: Array, shape: Shape) -> Array:
    """The same numbers in another shape."""
    return kernel.reshape(shape)


PLAIN = Kind(read_conv, write_conv)
DEPTHWISE = Kind(read_depthwise, write_conv, lambda kernel: kernel.reshape(*kernel.shape[:-2], 1, -1), reshaped)
TRANSPOSED = Kind(read_transposed, write_conv, swapped, swapped)
LAYERS: dict[str, Kind] = {
    "Conv1D": PLAIN,
    "Conv2D": PLAIN,
    "Conv3D": PLAIN,
    "DepthwiseConv1D": DEPTHWISE,
    "DepthwiseConv2D": DEPTHWISE,
    "Conv1DTranspose": TRANSPOSED,
    "Conv2DTranspose": TRANSPOSED,
    "Conv3DTranspose": TRANSPOSED,
    "Dense": Kind(read_dense, write_dense),
}
