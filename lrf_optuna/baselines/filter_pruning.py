"""Filter pruning by L1 norms (Li et al., ICLR 2017), scored without surgery: what factorization is compared with.

Every layer that can lose filters loses the same fraction of them: the filters with the smallest L1 norms. A channel has
no effect on the network when every layer that consumes it has zero weights for it, whatever bias, BatchNorm or
activation is between. So only kernels of consumers change; counts are those of the network without the filters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from lrf_optuna.baselines.budget import Costs, check_budget, cost_shares, largest_within
from lrf_optuna.chains.conv import Array, Conv, Index
from lrf_optuna.chains.site import Site
from lrf_optuna.errors import LrfError
from lrf_optuna.models.layer_copies import keras_class_name
from lrf_optuna.models.layer_kinds import channels_first, walk_layers
from lrf_optuna.scoring.objectives import Measured
from lrf_optuna.scoring.proxy import Proxy

MIXING = ("softmax", "log_softmax", "sparsemax", "glu")
"""Activations of Keras in which channels see each other."""
ChannelMap = Callable[[Any, Index, int], Index]
"""(layer, the filter of every input channel, positions of the input) -> the filter of every output channel."""

POOLING = [f"{of}Pooling{d}D" for of in ("Max", "Average", "GlobalMax", "GlobalAverage") for d in (1, 2, 3)]
SPATIAL = [f"{kind}{d}D" for kind in ("ZeroPadding", "Cropping", "UpSampling", "SpatialDropout") for d in (1, 2, 3)]
POINTWISE = ("BatchNormalization", "Activation", "ReLU", "LeakyReLU", "ELU", "Identity")
TRAINING = ("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization")
DEPTHWISE_LAYERS = ("DepthwiseConv1D", "DepthwiseConv2D")
CHANNEL_WISE: dict[str, ChannelMap] = {
    **dict.fromkeys((*POOLING, *SPATIAL, *POINTWISE, *TRAINING), lambda layer, channels, positions: channels),
    **dict.fromkeys(DEPTHWISE_LAYERS, lambda layer, channels, positions: np.repeat(channels, layer.depth_multiplier)),
    "Flatten": lambda layer, channels, positions: np.tile(channels, positions),
}
"""Layers of Keras in which no channel sees another; at any other layer a channel group ends.

A depthwise convolution gives `depth_multiplier` channels for each input channel; Flatten gives all channels of the
first position, then the channels of the next one.
"""
LAYERS_WITH_FILTERS = ("Dense", *(f"Conv{d}D{end}" for d in (1, 2, 3) for end in ("", "Transpose")))
"""Layers of Keras that have filters to prune, and that consume all channels."""


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """The layers that depend on the filters of one layer, as in a dependency graph of structured pruning.

    `between`: channel-wise layer -> the filter of each of its input channels; `consumers`: the same for the layers that
    have weights for the channels.
    """

    between: Mapping[str, Index]
    consumers: Mapping[str, Index]


@dataclass(frozen=True, slots=True)
class PrunedNetwork:
    """A network without some filters: the kernels that simulate it, and what is measured of it.

    `kernels`: site -> its kernel as Keras lays it out, with zeros for removed channels; `removed`: site -> indices of
    its removed filters; `measured`: its similarities, and its counts as if the filters were removed.
    """

    kernels: Mapping[str, Array]
    removed: Mapping[str, Index]
    measured: Measured


def prune_filters(proxy: Proxy, budget: Costs) -> PrunedNetwork:
    """The network with the least fraction of its filters pruned that meets a budget; a layer keeps one at least.

    Raises LrfError where no layer can be pruned, and where one filter a layer is still over the budget.
    """
    check_budget(budget)
    groups = channel_groups(proxy)
    if not groups:
        raise LrfError("no layer of this network can lose filters: all their channels are added, joined or put out")
    kernels = {site: proxy.kernels.originals[site] for site in groups}
    norms = {site: np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0) for site, kernel in kernels.items()}
    by_norm = {site: np.argsort(own, kind="stable") for site, own in norms.items()}

    def removed_at(scale: float) -> dict[str, Index]:
        counts = {site: min(int((1 - scale) * len(own)), len(own) - 1) for site, own in by_norm.items()}
        return {site: np.sort(own[: counts[site]]) for site, own in by_norm.items()}

    removed = largest_within(removed_at, lambda gone: cost_shares(proxy, *pruned_counts(proxy, groups, gone)), budget)
    kernels, counts = zeroed_kernels(proxy, groups, removed), pruned_counts(proxy, groups, removed)
    return PrunedNetwork(kernels, removed, proxy.measured_with(kernels, *counts))


def zeroed_kernels(proxy: Proxy, groups: Mapping[str, ChannelGroup], removed: Mapping[str, Index]) -> dict[str, Array]:
    """Consumer -> its kernel as Keras lays it out, with zeros for the channels of removed filters."""
    kernels = {}
    for site, filters in removed.items():
        for consumer, channels in groups[site].consumers.items() if len(filters) else ():
            kernel = proxy.kernels.originals[consumer].copy()
            kernel[..., np.isin(channels, filters), :] = 0
            kernels[consumer] = proxy.to_keras_layout(consumer, kernel)
    return kernels


def pruned_counts(proxy: Proxy, groups: Mapping[str, ChannelGroup], removed: Mapping[str, Index]) -> tuple[int, int]:
    """Parameters and MACs of the network without removed filters: both are proportional to a layer's channels."""
    inputs: dict[str, Fraction] = {}
    outputs: dict[str, Fraction] = {}
    for site, group in groups.items():
        inputs |= {name: remaining(channels, removed[site]) for name, channels in group.consumers.items()}
        outputs |= {name: remaining(channels, removed[site]) for name, channels in group.between.items()}
        outputs[site] = remaining(np.arange(proxy.sites[site].op.cout), removed[site])
    params, macs = Fraction(0), Fraction(0)
    for row in proxy.inventory.rows:
        input_share, output_share = inputs.get(row.path, Fraction(1)), outputs.get(row.path, Fraction(1))
        weights = row.site.op.params if row.site else 0
        params += (weights * input_share + row.params - weights) * output_share
        macs += (row.macs or 0) * input_share * output_share
    return int(params), int(macs)


def remaining(channels: Index, removed: Index) -> Fraction:
    """The share of channels that are not of removed filters."""
    return 1 - Fraction(int(np.isin(channels, removed).sum()), len(channels))


def layer_calls(model: Any) -> tuple[list[Any], set[int]]:
    """The layer calls in a functional or sequential model and in the models in it, and the ids of models' outputs."""
    nests = [getattr(nest, "_functional", None) or nest for nest in model._flatten_layers()]
    graphs = {id(nest): nest for nest in nests if hasattr(nest, "_nodes_by_depth")}.values()
    calls = [call for graph in graphs for level in graph._nodes_by_depth.values() for call in level]
    return calls, {id(tensor) for graph in graphs for tensor in graph.outputs}


def channel_groups(proxy: Proxy) -> dict[str, ChannelGroup]:
    """Site -> its channel group, for the sites that can lose filters, in the network's order.

    Such a site has filters, is called once, and its channels reach only consumers with weights for each of them,
    through channel-wise layers: no sum, no concatenation, no unknown layer, no output.
    """
    calls, outputs = layer_calls(proxy.network.model)
    times = Counter(id(call.operation) for call in calls)
    called_once = {id(layer): path for path, layer in walk_layers(proxy.network.model) if times[id(layer)] == 1}
    found = {}
    for call in calls:
        path = called_once.get(id(call.operation), "")
        if path in proxy.sites and is_prunable(call.operation, proxy.sites[path]):
            found[path] = trace_group(call, calls, outputs, proxy.sites, called_once)
    return {path: group for path in proxy.sites if (group := found.get(path))}


def is_prunable(layer: Any, site: Site) -> bool:
    """Whether a layer has filters, each of which can be removed without a change of the other outputs."""
    return has_filters(layer, site.op) and site.op.cout > 1 and len(site.maps) == 1 and is_elementwise(layer)


def has_filters(layer: Any, op: Conv) -> bool:
    """Whether each output of a layer has a filter of its own over all inputs."""
    return keras_class_name(layer) in LAYERS_WITH_FILTERS and op.groups == 1


def is_elementwise(layer: Any) -> bool:
    """Whether a layer's activation is one of Keras that is applied to every number by itself."""
    act = getattr(layer, "activation", None)
    known = getattr(act, "__module__", "").startswith("keras.") and hasattr(act, "__name__")
    return act is None or (known and act.__name__ not in MIXING)


def is_channel_wise(layer: Any, dims: int) -> bool:
    """Whether no channel of an array with `dims` dimensions sees another one in a layer."""
    on_last_axis = getattr(layer, "axis", -1) in (-1, dims - 1)
    return (
        keras_class_name(layer) in CHANNEL_WISE and not channels_first(layer) and on_last_axis and is_elementwise(layer)
    )


def trace_group(
    start: Any, calls: Sequence[Any], outputs: Set[int], sites: Mapping[str, Site], called_once: Mapping[int, str]
) -> ChannelGroup | None:
    """The channel group of a call's output; None where a channel goes to anything but consumers."""
    between: dict[str, Index] = {}
    consumers: dict[str, Index] = {}
    queue = [(start.output_tensors[0], np.arange(start.output_tensors[0].shape[-1]))]
    for tensor, channels in queue:
        if id(tensor) in outputs:
            return None
        for call in (call for call in calls if any(source is tensor for source in call.input_tensors)):
            layer, path = call.operation, called_once.get(id(call.operation))
            if path is None or len(call.input_tensors) != 1:
                return None
            if path in sites and has_filters(layer, sites[path].op):
                consumers[path] = channels
            elif is_channel_wise(layer, len(tensor.shape)):
                between[path] = channels
                positions = prod(size or 1 for size in tensor.shape[1:-1])
                mapped = CHANNEL_WISE[type(layer).__name__](layer, channels, positions)
                queue.append((call.output_tensors[0], mapped))
            else:
                return None
    return ChannelGroup(between, consumers) if consumers else None
