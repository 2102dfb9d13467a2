"""A pass that gives feature maps before the logits, too, to compare what they predict with what the logits predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from lrf_optuna.models.forward import ForwardPass, called_shapes
from lrf_optuna.models.layer_calls import recording_calls
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.models.model_inputs import Shapes
from lrf_optuna.scoring.proxy import Proxy


class TappedPass(ForwardPass):
    """A proxy's pass whose `run` gives the output maps of `taps`, by the names of these layers, before the logits."""

    def __init__(self, proxy: Proxy) -> None:
        network = proxy.network
        super().__init__(network.model, network.layers, network.batch_size)
        shapes = tuple(proxy.scored.images.shape[1:])
        self.taps = deep_taps(network.model, list(walk_layers(network.model)), shapes)

    def compute_logits(self, kernels: list[Any], statistics: list[Any], x: Any) -> dict[str, Any]:
        """Name -> maps of the taps, then logits of every head, of one pass over `x`."""
        with recording_calls(self.taps) as calls:
            logits = super().compute_logits(kernels, statistics, x)
        return {name: tf.cast(recorded[-1][1], tf.float32) for name, recorded in calls.items()} | logits


def deep_taps(model: Any, layers: Sequence[tuple[str, Any]], shapes: Shapes) -> dict[str, Any]:
    """The layers that give a model's deepest maps: its last spatial map, and the input of its last weighted layer."""
    calls = called_shapes(model, dict(layers), shapes)
    called = [(name, layer, calls[name][-1][1]) for name, layer in layers if calls.get(name)]
    taps = dict([(name, layer) for name, layer, shape in called if len(shape) > 1][-1:])
    weighted = [i for i, (_, layer, _) in enumerate(called) if layer.weights]
    if weighted and weighted[-1] > 0:
        name, layer, _ = called[weighted[-1] - 1]
        taps[name] = layer
    return taps
