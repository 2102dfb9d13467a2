"""Output heads: the outputs of a model by name, and the values before the activation that each of them stands for.

An activation is undone on the outputs themselves, so it does not matter where in the model it stands: as the last
layer's, as a layer, as an operation of `keras.ops`, in a nested model, before a reshape or a change of type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.metrics import METRICS, Metric
from lrf_optuna.data.tasks import KINDS, OUTPUT, Task, infer_kind
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.layer_copies import keras_class_name

SMALLEST_PROBABILITY = {"float16": 2.0**-24}
"""The least probability that has a logarithm, by the type of the outputs: the least number above 0 in float16."""
TINY = 1e-30
"""The least probability in other types; its logarithm is -69, and its gradient, 1e30, is a float32 with room above."""
SPACING_BELOW_ONE = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""The distance of 1 to the next lower number, by type; 2**-24 in float32."""
ACTIVATIONS = ("softmax", "sigmoid")
"""Activations that are undone. Outputs of others are compared as they are."""
SHAPE_ONLY = ("Reshape", "Flatten", "Permute", "Identity", "Cast", "Transpose", "Squeeze", "ExpandDims", "RepeatVector")
"""Layers and operations of Keras that change the shape or the type of an array, but none of its values."""


@dataclass(frozen=True, slots=True)
class OutputHead:
    """One output of a model: the activation that makes it, `softmax`, `sigmoid` or nothing, and its own name."""

    name: str
    activation: str
    shape: tuple[int | None, ...]

    def logits(self, outputs: Any) -> Any:
        """The float32 values before the activation, of `outputs` `(n, ...)`; softmax logits are centered.

        Probabilities give softmax logits up to a constant for each image. The clip of the probabilities is so small
        that the gradient reaches an image whose label has nearly no probability.
        """
        values = keras.ops.cast(with_units(outputs), "float32")
        if not self.activation:
            return values
        dtype = keras.backend.standardize_dtype(outputs.dtype)
        logs = keras.ops.log(keras.ops.maximum(values, SMALLEST_PROBABILITY.get(dtype, TINY)))
        if self.activation == "softmax":
            return logs - keras.ops.mean(logs, axis=-1, keepdims=True)
        return logs - keras.ops.log(keras.ops.maximum(1 - values, SPACING_BELOW_ONE.get(dtype, 2.0**-24)))

    def outputs(self, logits: Values) -> Values:
        """What the model gives where these are its values before the activation."""
        if self.activation == "softmax":
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            found: Values = powers / powers.sum(axis=-1, keepdims=True)
            return found
        return 1 / (1 + np.exp(-logits)) if self.activation else logits


def with_units(outputs: Any) -> Any:
    """Outputs with an axis for units: one number an image, `(n,)`, becomes `(n, 1)`."""
    return outputs if len(outputs.shape) > 1 else keras.ops.expand_dims(outputs, -1)


def output_heads(model: Any) -> dict[str, OutputHead]:
    """Name -> head of every output, in the model's order."""
    outputs = getattr(model, "outputs", None) or [None]
    shapes = [tuple(tensor.shape)[1:] or (1,) if tensor is not None else () for tensor in outputs]
    if len(outputs) == 1:
        return {OUTPUT: OutputHead(OUTPUT, activation_of(model), shapes[0])}
    heads: dict[str, OutputHead] = {}
    names = output_names(model)
    for i, own in enumerate(names):
        earlier = names[:i].count(own)
        name = f"{own}_{earlier + 1}" if earlier else own
        heads[name] = OutputHead(name, activation_of(model, i), shapes[i])
    return heads


def output_names(model: Any) -> list[str]:
    """The names of a model's outputs: the keys where they are a dict, as labels have them in Keras, else Keras' own."""
    outputs = getattr(model, "_outputs_struct", None)
    if isinstance(outputs, Mapping) and len(outputs) == len(model.outputs):
        return [str(key) for key in keras.tree.flatten({key: str(key) for key in outputs})]
    return list(getattr(model, "output_names", None) or ["output"])


def activation_of(model: Any, output: int = 0) -> str:
    """The activation that makes an output: `softmax`, `sigmoid`, or nothing for any other."""
    if not getattr(model, "outputs", None):
        layers = [layer for layer in model.layers if type(layer).__name__ not in SHAPE_ONLY]
        return activation_name(layers[-1]) if layers else ""
    tensor = model.outputs[output]
    while True:
        history = tensor._keras_history
        producer, place = history.operation, history.tensor_index
        if isinstance(producer, keras.Model):
            return activation_of(producer, place)
        found = activation_name(producer)
        node = producer._inbound_nodes[history.node_index]
        if found or not keeps_values(producer) or len(node.input_tensors) != 1:
            return found
        (tensor,) = node.input_tensors


def activation_name(producer: Any) -> str:
    """The activation that ends a layer or an operation, if it is one of `ACTIVATIONS` over the last axis.

    A layer that is not of Keras may do anything with its attributes, so that its activation is not known.
    """
    own_class = keras_class_name(producer)
    if not own_class:
        return ""
    if isinstance(producer, keras.layers.Wrapper):
        return activation_name(producer.layer)
    if isinstance(producer, keras.layers.RNN):  # its activation is inside
        return ""
    named = getattr(getattr(producer, "activation", None), "__name__", "")
    name = named if named in ACTIVATIONS else own_class.lower()
    if name not in ACTIVATIONS:
        return ""
    rank = len(getattr(getattr(producer, "output", None), "shape", ()))
    return name if getattr(producer, "axis", -1) in (-1, rank - 1) else ""


def keeps_values(producer: Any) -> bool:
    """Whether a layer or an operation changes no values: a change of shape or type, or no activation at all."""
    own_class = keras_class_name(producer)
    if own_class == "Activation":
        return producer.activation is keras.activations.linear
    return own_class in SHAPE_ONLY


@dataclass(frozen=True)
class TaskWishes:
    """What is known of outputs besides the model and the labels; the empty name stands for every output.

    `kinds`: of tasks; `families`: output -> the family of the loss that the model was compiled with.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    ignore: int | None = None

    def check(self, heads: Iterable[str]) -> None:
        """Raises LrfError for an output that the model has not."""
        for name in (*self.kinds, *self.metrics, *self.weights):
            if name:
                lookup(dict.fromkeys(heads), name, "output")


def find_tasks(
    heads: Mapping[str, OutputHead],
    labels: Mapping[str, Values] | None,
    inputs: tuple[int, ...] | None = None,
    wishes: TaskWishes = TaskWishes(),
) -> dict[str, Task]:
    """What every output is for: as the user wishes, else by its compiled loss, its activation, shape and labels.

    `labels`: head -> raw labels; heads without labels, and all of them for None, are measured against the original.
    `inputs`: the shape of the only input. Raises LrfError for an unknown kind, and for one that the output cannot be.
    """
    wishes.check(heads)
    return {name: find_task(head, (labels or {}).get(name), inputs, wishes) for name, head in heads.items()}


def find_task(head: OutputHead, labels: Values | None, inputs: tuple[int, ...] | None, wishes: TaskWishes) -> Task:
    """What one output is for."""
    name, family, positions = head.name, wishes.families.get(head.name, ""), len(head.shape) > 1
    kind = wishes.kinds.get(name) or wishes.kinds.get("") or infer_kind(head.shape, head.activation, labels, inputs)
    one_unit = head.shape[-1:] == (1,)
    asked = name in wishes.kinds or "" in wishes.kinds
    if not asked and family == "binary" and kind in ("embedding", "numbers", "classes"):
        kind = "map" if positions else "binary" if one_unit else "labels"
    elif not asked and family == "classes" and kind in ("embedding", "numbers"):
        kind = "map" if positions else "classes"
    elif not asked and family == "numbers" and not head.activation and kind in ("binary", "labels"):
        kind = "numbers"
    lookup(KINDS, kind, "task")
    check_possible(kind, head)
    metric = wishes.metrics.get(name) or wishes.metrics.get("") or METRICS[KINDS[kind].metrics[0]]
    if metric.name in METRICS and metric.name not in KINDS[kind].metrics:
        fitting = ", ".join(KINDS[kind].metrics)
        raise LrfError(f"the metric {metric.name} does not fit the task {kind!r} of an output: there is {fitting}")
    per_unit = head.activation == "sigmoid" or family == "binary" or one_unit
    return Task(
        kind,
        head.shape,
        one_hot=kind == "classes" or (kind == "map" and not per_unit),
        from_probabilities=head.activation == "sigmoid",
        metric=metric,
        ignore=wishes.ignore,
        weight=wishes.weights.get(name) or wishes.weights.get("") or 1.0,
        labeled=labels is not None or (kind == "copy" and inputs is not None),
    )


def check_possible(kind: str, head: OutputHead) -> None:
    """Raises LrfError where an output cannot be of a kind, with what its shape allows."""
    rank, units = len(head.shape), head.shape[-1] if head.shape else 0
    possible = {
        "classes": rank == 1 and (units or 0) > 1,
        "binary": rank == 1 and units == 1 and head.activation != "softmax",
        "labels": rank == 1 and head.activation != "softmax",
        "map": rank > 1,
    }
    if not possible.get(kind, rank > 0):
        fits = ", ".join(other for other in KINDS if possible.get(other, True))
        own = "" if head.name == OUTPUT else f" {head.name!r}"
        raise LrfError(f"the output{own} of shape {head.shape} cannot be {kind!r}: give one of {fits}")


def unlabeled_tasks(heads: Mapping[str, OutputHead]) -> dict[str, Task]:
    """What outputs are for as far as the model alone tells; several plain numbers are taken for logits of classes."""
    kinds = {name: "classes" for name, head in heads.items() if not head.activation and plain_logits(head)}
    return find_tasks(heads, None, wishes=TaskWishes(kinds=kinds))


def plain_logits(head: OutputHead) -> bool:
    """Whether an output has several units and no positions."""
    return len(head.shape) == 1 and (head.shape[0] or 0) > 1


def classes_of(heads: Mapping[str, OutputHead]) -> int | None:
    """The number of classes that a folder of class folders should have, where the only output tells it."""
    (head,) = heads.values()
    units = head.shape[-1] if len(head.shape) == 1 else None
    return 2 if units == 1 else units
