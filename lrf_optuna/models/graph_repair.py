"""The graph of a functional model of Keras 1 and 2 in the form of Keras 3.

Keras 2 writes a call of a layer as a list `[[layer, node, tensor, options], ...]`, Keras 3 as `{args, kwargs}`.
Nested models count their calls from 1 in Keras 2, and from 0 in Keras 3. TensorFlow functions that stand in the graph
become operations of keras.ops.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from lrf_optuna.models.tensorflow_ops import CONSTANT, OP_LAYERS, operation_of

Config = dict[str, Any]

RECURRENT_LAYERS = ("RNN", "SimpleRNN", "LSTM", "GRU", "ConvLSTM2D", "Bidirectional")
"""Layers that Keras 2 calls with a list of the inputs and the initial states."""


def repair_graph(config: Config, notes: Counter[str], version: int) -> Config:
    """The configuration of a functional model whose layers are repaired, with its calls in the form of Keras 3."""
    config = rename_layers(config, notes)
    layers = config["layers"]
    nests = {layer["name"] for layer in layers if "layers" in layer["config"]}
    graph = Graph({layer["name"] for layer in layers}, nests, notes)
    old = any(isinstance(node, list) for layer in layers for node in layer.get("inbound_nodes", []))
    if old:
        config["layers"] = [graph.repair_layer(layer) for layer in layers]
    if old or version < 3:
        sequential = {layer["name"] for layer in layers if layer["class_name"] == "Sequential"}
        for key in ("input_layers", "output_layers"):
            config[key] = graph.ends(config[key], sequential)
    return config


class Graph:
    """The names of a model's layers, and of the models among them, for the references of its calls."""

    def __init__(self, names: set[str], nests: set[str], notes: Counter[str]) -> None:
        self.names, self.nests, self.notes = names, nests, notes

    def repair_layer(self, layer: Config) -> Config:
        """A layer with its calls; one that is a TensorFlow function becomes an operation of Keras."""
        layer = dict(layer)
        calls = [self.call(node) for node in layer.get("inbound_nodes", [])]
        if layer["class_name"] in OP_LAYERS:
            self.notes["TensorFlow functions as layers"] += 1
            return operation_of(layer, calls)
        if layer["class_name"] in RECURRENT_LAYERS and any(args and isinstance(args[0], list) for args, _ in calls):
            self.notes["initial states of recurrent layers"] += 1
            layer.pop("build_config", None)  # the shapes of the states, too
            calls = [([args[0][0]], kwargs | {"initial_state": args[0][1:]}) for args, kwargs in calls]
        layer["inbound_nodes"] = [
            {"args": args, "kwargs": {key: value for key, value in kwargs.items() if value is not None}}
            for args, kwargs in calls
        ]
        return layer

    def call(self, node: Any) -> tuple[list[Any], Config]:
        """The arguments of one call."""
        if isinstance(node, dict) and "args" in node:
            return node["args"], node["kwargs"]
        if isinstance(node, list) and node and isinstance(node[0], list):
            tensors = [self.argument(part) for part in node]
            kwargs = node[0][3] if len(node[0]) > 3 else {}
            return [tensors[0] if len(tensors) == 1 else tensors], self.options(kwargs)
        if isinstance(node, list) and node:
            return [self.argument(node)], self.options(node[3] if len(node) > 3 else {})
        return [], {}

    def argument(self, part: list[Any]) -> Any:
        """The tensor or the constant of one entry `[layer, node, tensor, options]`."""
        return part[2] if part[0] == CONSTANT else self.tensor(*part[:3])

    def options(self, kwargs: Config) -> Config:
        """The options of a call, with tensors where they refer to layers."""
        if any(self.is_reference(value) for value in kwargs.values()):
            self.notes["tensors among the options of calls"] += 1
        return {key: self.option(value) for key, value in kwargs.items()}

    def option(self, value: Any) -> Any:
        """A value of an option: a tensor where it refers to a layer."""
        if self.is_reference(value):
            return value[2] if value[0] == CONSTANT else self.tensor(*value[:3])
        return [self.option(part) for part in value] if isinstance(value, list) else value

    def is_reference(self, value: Any) -> bool:
        """Whether a value is `[layer, node, tensor]`."""
        known = isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)
        return known and value[0] in {*self.names, CONSTANT} and isinstance(value[1], int)

    def tensor(self, name: str, node: int, index: int) -> Config:
        """A tensor in the form of Keras 3, which reads the last three numbers alone."""
        if name in self.nests:
            self.notes["calls of nested models"] += 1
            node -= 1
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": [name, node, index]},
        }

    def ends(self, value: Any, sequential: set[str]) -> Any:
        """The inputs or outputs of a model: a list of one is that one, as in Keras 2.

        Keras 3 counts from 1 for functional models here, and from 0 for Sequential ones.
        """
        if isinstance(value, dict):
            return {key: self.ends(inner, sequential) for key, inner in value.items()}
        if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str):
            self.notes["calls of nested models"] += value[0] in sequential
            return [value[0], value[1] - (value[0] in sequential), value[2]]
        if isinstance(value, list) and len(value) == 1:
            return self.ends(value[0], sequential)
        return [self.ends(inner, sequential) for inner in value]


def rename_layers(config: Config, notes: Counter[str]) -> Config:
    """The configuration with no slash in the name of a layer, which Keras 3 keeps for scopes."""
    names = [layer.get("name", layer["config"].get("name")) for layer in config["layers"]]
    new: dict[str, str] = {}
    for name in names:
        other = name.replace("/", "_")
        while other != name and (other in names or other in new.values()):
            other += "_"
        new[name] = other
    if all(name == other for name, other in new.items()):
        return config
    notes["slashes in names of layers"] += 1

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(inner) for key, inner in value.items()}
        if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [new.get(value[0], value[0]), *(rename(part) for part in value[1:])]
        return [rename(inner) for inner in value] if isinstance(value, list) else value

    layers = []
    for name, layer in zip(names, config["layers"], strict=True):
        inner = layer["config"] | {"name": new[name]}
        layers.append(
            layer | {"name": new[name], "config": inner, "inbound_nodes": rename(layer.get("inbound_nodes", []))}
        )
    ends = {key: rename(config[key]) for key in ("input_layers", "output_layers")}
    return config | {"layers": layers} | ends
