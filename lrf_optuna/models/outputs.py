"""Running a Keras model from the outside: what goes into each layer, and one compiled pass with other kernels.

Nothing is rebuilt: a pass takes the kernels as arguments, in place of the layers' own variables, and layers are
listened to while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from typing import Any

import keras

OUTPUT = "logits"
"""The tap that is the model's only output; several have names of their own."""


def gives_probabilities(model: Any, output: int = 0) -> bool:
    """Whether a classifier (or one of several outputs) ends in a softmax: then its logits are its logarithms."""
    if getattr(model, "outputs", None):
        end = model.outputs[output]._keras_history
        producer, output = end.operation, end.tensor_index
    else:
        producer, output = (model.layers or [None])[-1], 0
    if isinstance(producer, keras.Model):
        return gives_probabilities(producer, output)
    activation = getattr(producer, "activation", None)
    return activation is keras.activations.softmax or isinstance(producer, keras.layers.Softmax)


def output_taps(model: Any) -> dict[str, bool]:
    """Name -> whether it ends in a softmax, of every output; the only one of a model is called `OUTPUT`."""
    if len(getattr(model, "outputs", None) or [None]) == 1:
        return {OUTPUT: gives_probabilities(model)}
    taps: dict[str, bool] = {}
    for i, name in enumerate(model.output_names):
        again = model.output_names[:i].count(name)
        taps[f"{name}_{again + 1}" if again else name] = gives_probabilities(model, i)
    return taps


def logits_of(outputs: Any, probabilities: bool) -> Any:
    """Logits, centred where they come from probabilities (they are known up to a constant an image)."""
    if not probabilities:
        return outputs
    logs = keras.ops.log(keras.ops.maximum(outputs, 1e-7))
    return logs - keras.ops.mean(logs, axis=-1, keepdims=True)
