"""Filter pruning by L1 norms (Li et al., ICLR 2017), scored without surgery: what factorization is compared with.

The same fraction of the filters goes in every layer that can lose some: those with the smallest L1 norms. A channel is
gone for the network when every layer that reads it has zeros there, whatever bias, BatchNorm or activation it went
through; so the kernels of the readers are all that is swapped. Only parameters and MACs are counted as if it were cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np

from lrf_optuna.baselines.budget import Costs, bisect_knob, checked, inside, too_large
from lrf_optuna.chains.conv import Array, Conv, Index
from lrf_optuna.chains.site import Site
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import keras_class_name
from lrf_optuna.models.layer_kinds import channels_first, walk_layers
from lrf_optuna.scoring.proxy import Proxy

MIXING = ("softmax", "log_softmax", "sparsemax", "glu")
"""Activations of Keras in which channels see each other."""
Change = Callable[[Any, Index, tuple[int, ...]], Index]
"""What a layer makes of channels: (layer, the filter that each channel is from, input shape) -> those of its output."""


def same(layer: Any, channels: Index, shape: tuple[int, ...]) -> Index:
    """Every channel stays where it is."""
    return channels


def multiplied(layer: Any, channels: Index, shape: tuple[int, ...]) -> Index:
    """A depthwise convolution makes `depth_multiplier` channels of each."""
    return np.repeat(channels, layer.depth_multiplier)


def flattened(layer: Any, channels: Index, shape: tuple[int, ...]) -> Index:
    """All channels of the first position, then those of the next one: `(*map, channels)` in that order."""
    return np.tile(channels, int(np.prod(shape[:-1])))


POOLING = [f"{of}Pooling{d}D" for of in ("Max", "Average", "GlobalMax", "GlobalAverage") for d in (1, 2, 3)]
SPATIAL = [f"{kind}{d}D" for kind in ("ZeroPadding", "Cropping", "UpSampling", "SpatialDropout") for d in (1, 2, 3)]
POINTWISE = ("BatchNormalization", "Activation", "ReLU", "LeakyReLU", "ELU", "Identity")
TRAINING = ("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization")
PASSING: dict[str, Change] = {
    **dict.fromkeys((*POOLING, *SPATIAL, *POINTWISE, *TRAINING), same),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), multiplied),
    "Flatten": flattened,
}
"""Layers of Keras in which no channel sees another; all others end the way of a channel."""
FILTERS = ("Dense", *(f"Conv{d}D{end}" for d in (1, 2, 3) for end in ("", "Transpose")))
"""Layers of Keras that have filters to prune, and that read all channels."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the channels of a layer go: for each channel that enters a layer, the filter that it is from.

    `between`: layers that they pass through; `readers`: layers that have weights for them.
    """

    between: Mapping[str, Index]
    readers: Mapping[str, Index]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A network without some filters: what simulates it, and what it costs.

    `kernels`: site -> its kernel, as Keras lays it out, with zeros for the channels that are gone, for
    `proxy.network.run` and `logits`; `removed`: site -> indices of its filters that are; `params`, `macs`: counts of
    the network as if it were cut; `params_share`, `macs_share`: the same with the original as the unit.
    """

    kernels: Mapping[str, Array]
    removed: Mapping[str, Index]
    params: int
    macs: int
    params_share: float
    macs_share: float

    @property
    def costs(self) -> dict[str, float]:
        """The shares of parameters and MACs."""
        return {"params": self.params_share, "macs": self.macs_share}


def pruned(proxy: Proxy, budget: Costs) -> Pruned:
    """The network with the least fraction of its filters pruned that meets a budget, `{"params": .., "macs": ..}`.

    Raises LrfError where no layer can be pruned, or where one filter a layer is still too large.
    """
    asked, ways = checked(budget), routes(proxy)
    if not ways:
        raise LrfError("no layer of this network can lose filters: all their channels are added, joined or put out")
    order = {site: weakest(proxy.kernels.originals[site]) for site in ways}

    def at(knob: float) -> dict[str, Index]:
        return {site: cut(filters, 1 - knob) for site, filters in order.items()}

    found = bisect_knob(at, lambda removed: inside(shares(proxy, ways, removed), asked))
    if found is None:
        raise too_large(shares(proxy, ways, at(0.0)), asked)
    return without(proxy, ways, found)


def weakest(kernel: Array) -> Index:
    """The filters of a kernel `(*window, cin, cout)` from the smallest L1 norm to the largest."""
    return np.argsort(np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1))), kind="stable")


def cut(filters: Index, fraction: float) -> Index:
    """That fraction of the filters, the first ones; at least one of them is left."""
    return np.sort(filters[: min(int(fraction * len(filters)), len(filters) - 1)])


def without(proxy: Proxy, ways: Mapping[str, Route], removed: Mapping[str, Index]) -> Pruned:
    """The network without these filters of the sites that have a route."""
    kernels = {}
    for site, filters in removed.items():
        for reader, channels in ways[site].readers.items() if len(filters) else ():
            kernel = proxy.kernels.originals[reader].copy()
            kernel[..., np.isin(channels, filters), :] = 0
            kernels[reader] = proxy.to_keras_layout(reader, kernel)
    whole, both = shares(proxy, ways, removed), counted(proxy, ways, removed)
    return Pruned(kernels, dict(removed), *both, whole["params"], whole["macs"])


def shares(proxy: Proxy, ways: Mapping[str, Route], removed: Mapping[str, Index]) -> dict[str, float]:
    """Parameters and MACs of the network cut to what is left, with the original as the unit."""
    params, macs = counted(proxy, ways, removed)
    return {"params": params / proxy.inventory.params, "macs": macs / proxy.inventory.macs}


def counted(proxy: Proxy, ways: Mapping[str, Route], removed: Mapping[str, Index]) -> tuple[int, int]:
    """Parameters and MACs of the network cut to what is left: those of a layer are proportional to its channels."""
    into: dict[str, Fraction] = {}
    out: dict[str, Fraction] = {}
    for site, way in ways.items():
        into |= {name: left(channels, removed[site]) for name, channels in way.readers.items()}
        out |= {name: left(channels, removed[site]) for name, channels in way.between.items()}
        out[site] = left(np.arange(proxy.sites[site].op.cout), removed[site])
    params, macs = Fraction(0), Fraction(0)
    for row in proxy.inventory.rows:
        inside, outside = into.get(row.path, Fraction(1)), out.get(row.path, Fraction(1))
        weights = row.site.op.params if row.site else 0
        params += (weights * inside + row.params - weights) * outside
        macs += row.macs * inside * outside
    return int(params), int(macs)


def left(channels: Index, removed: Index) -> Fraction:
    """The share of channels that are not from removed filters."""
    return 1 - Fraction(int(np.isin(channels, removed).sum()), len(channels))


@dataclass(frozen=True, slots=True)
class Graph:
    """The calls of one model, by the tensors that they read; nested models have graphs of their own."""

    calls: tuple[Any, ...]
    outputs: frozenset[int]

    def reading(self, tensor: Any) -> list[Any]:
        """The calls that read a tensor."""
        return [call for call in self.calls if any(other is tensor for other in call.input_tensors)]


def graphs(model: Any) -> list[Graph]:
    """The graph of a functional or sequential model, and those of the models in it."""
    found = [getattr(nest, "_functional", None) or nest for nest in model._flatten_layers()]
    own = {id(nest): nest for nest in found if hasattr(nest, "_nodes_by_depth")}
    calls = {key: tuple(chain.from_iterable(nest._nodes_by_depth.values())) for key, nest in own.items()}
    return [Graph(calls[key], frozenset(map(id, nest.outputs))) for key, nest in own.items()]


def routes(proxy: Proxy) -> dict[str, Route]:
    """Site -> the route of its channels, for the sites that can lose filters, in the network's order.

    Those are the layers with filters, called once, whose channels reach only layers that have weights for each of
    them, through layers that keep channels apart: never a sum, a concatenation, an unknown layer or an output.
    """
    names = {id(layer): path for path, layer in walk_layers(proxy.network.model)}
    every = graphs(proxy.network.model)
    times = Counter(id(call.operation) for graph in every for call in graph.calls)
    once = {layer: path for layer, path in names.items() if times[layer] == 1}
    found = {}
    for graph in every:
        for call in graph.calls:
            path = once.get(id(call.operation), "")
            if path in proxy.sites and prunable(call.operation, proxy.sites[path]):
                found[path] = route(graph, call, proxy.sites, once)
    return {path: way for path in proxy.sites if (way := found.get(path))}


def prunable(layer: Any, site: Site) -> bool:
    """Whether a layer has filters of which one can go without changing what the others give."""
    return has_filters(layer, site.op) and site.op.cout > 1 and len(site.maps) == 1 and apart(layer)


def has_filters(layer: Any, op: Conv) -> bool:
    """Whether each output of a layer has a filter of its own over all inputs."""
    return keras_class_name(layer) in FILTERS and op.groups == 1


def apart(layer: Any) -> bool:
    """Whether a layer's activation is applied to every number by itself, as far as is known."""
    act = getattr(layer, "activation", None)
    known = getattr(act, "__module__", "").startswith("keras.") and hasattr(act, "__name__")
    return act is None or (known and act.__name__ not in MIXING)


def passes(layer: Any, dims: int) -> bool:
    """Whether a layer keeps the channels of an array of so many dimensions apart."""
    last = getattr(layer, "axis", -1) in (-1, dims - 1)
    return keras_class_name(layer) in PASSING and not channels_first(layer) and last and apart(layer)


def route(graph: Graph, start: Any, sites: Mapping[str, Site], once: Mapping[int, str]) -> Route | None:
    """The route of the channels that a call gives; `None` where one of them goes anywhere else."""
    between: dict[str, Index] = {}
    readers: dict[str, Index] = {}
    ahead = [(start.output_tensors[0], np.arange(start.output_tensors[0].shape[-1]))]
    for tensor, channels in ahead:
        if id(tensor) in graph.outputs:
            return None
        for call in graph.reading(tensor):
            layer, path = call.operation, once.get(id(call.operation))
            if path is None or len(call.input_tensors) != 1:
                return None
            if path in sites and has_filters(layer, sites[path].op):
                readers[path] = channels
            elif passes(layer, len(tensor.shape)):
                between[path] = channels
                change = PASSING[type(layer).__name__]
                ahead.append((call.output_tensors[0], change(layer, channels, tuple(tensor.shape[1:]))))
            else:
                return None
    return Route(between, readers) if readers else None
