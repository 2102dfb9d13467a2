"""Output heads: the outputs of a model by name, and the logits that each of them stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

OUTPUT = "logits"
"""The name of the head of a model with one output; of several outputs each has the name that Keras gives it."""
SMALLEST_PROBABILITY = {"float16": 2.0**-24}
"""The least probability that has a logarithm, by the type of the outputs: the least number above 0 in float16."""
TINY = 1e-30
"""The least probability in other types; its logarithm is -69, and its gradient, 1e30, is a float32 with room above."""


@dataclass(frozen=True, slots=True)
class OutputHead:
    """One output of a model: whether a `softmax` makes it."""

    softmax: bool

    @classmethod
    def of(cls, model: Any, index: int = 0) -> OutputHead:
        """The head of one of a model's outputs; the first by default."""
        return list(output_heads(model).values())[index]

    def logits(self, outputs: Any) -> Any:
        """The float32 logits of `outputs` `(n, ..., classes)`: the outputs, or the logarithms of probabilities.

        Probabilities give logits up to a constant for each image, so these are centered. The clip of the probabilities
        is so small that the gradient reaches an image whose label has nearly no probability.
        """
        values = keras.ops.cast(outputs, "float32")
        if not self.softmax:
            return values
        least = SMALLEST_PROBABILITY.get(keras.backend.standardize_dtype(outputs.dtype), TINY)
        logs = keras.ops.log(keras.ops.maximum(values, least))
        return logs - keras.ops.mean(logs, axis=-1, keepdims=True)


def output_heads(model: Any) -> dict[str, OutputHead]:
    """Name -> head of every output, in the model's order."""
    if len(getattr(model, "outputs", None) or [None]) == 1:
        return {OUTPUT: OutputHead(ends_in_softmax(model))}
    heads: dict[str, OutputHead] = {}
    for i, name in enumerate(model.output_names):
        earlier = model.output_names[:i].count(name)
        heads[f"{name}_{earlier + 1}" if earlier else name] = OutputHead(ends_in_softmax(model, i))
    return heads


def ends_in_softmax(model: Any, output: int = 0) -> bool:
    """Whether the layer that gives an output is a Softmax layer or has the softmax activation."""
    if getattr(model, "outputs", None):
        end = model.outputs[output]._keras_history
        producer, output = end.operation, end.tensor_index
    else:
        producer, output = (model.layers or [None])[-1], 0
    if isinstance(producer, keras.Model):
        return ends_in_softmax(producer, output)
    activation = getattr(producer, "activation", None)
    return activation is keras.activations.softmax or isinstance(producer, keras.layers.Softmax)
