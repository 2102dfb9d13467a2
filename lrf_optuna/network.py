"""Running a Keras model from the outside: what goes into each layer, and one compiled pass with other kernels.

Nothing is rebuilt: a pass takes the kernels as arguments, in place of the layers' own variables, and layers are
listened to while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.errors import LrfError
from lrf_optuna.stages import Array, Site

Shape = tuple[int, ...]
Calls = dict[str, list[tuple[Any, Any]]]
OUTPUT = "logits"
"""The tap that is the model's output."""
HEARD_BYTES = 2**28
"""Layer inputs that are held at a time."""


@contextmanager
def listening(layers: Mapping[str, Any]) -> Iterator[Calls]:
    """While the block runs, every call of a layer adds its `(inputs, outputs)` under the layer's name."""
    calls: Calls = {name: [] for name in layers}

    def wrapped(name: str, call: Any) -> Any:
        def listened(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            out = call(inputs, *args, **kwargs)
            calls[name].append((inputs, out))
            return out

        return listened

    for name, layer in layers.items():
        layer.call = wrapped(name, layer.call)
    try:
        yield calls
    finally:
        for layer in layers.values():
            del layer.call


def called_shapes(model: Any, layers: Mapping[str, Any], shape: Shape) -> dict[str, list[tuple[Shape, Shape]]]:
    """Input and output shapes, without the batch axis, of every call of the layers that take and give one array."""
    image = np.zeros((1, *shape), np.float32)
    with listening({name: layer for name, layer in layers.items() if type(layer).__name__ != "InputLayer"}) as calls:
        try:
            model(image, training=False)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as reason:
            raise LrfError(f"the model does not take images of shape {shape}: {first_line(reason)}") from None
    plain = {
        name: [(a, b) for a, b in found if hasattr(a, "shape") and hasattr(b, "shape")] for name, found in calls.items()
    }
    return {name: [(tuple(a.shape)[1:], tuple(b.shape)[1:]) for a, b in found] for name, found in plain.items()}


def first_line(reason: BaseException) -> str:
    """The first line of an error's text."""
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0]


def gives_probabilities(model: Any) -> bool:
    """Whether a classifier ends in a softmax: then its logits are the logarithms of its outputs."""
    producer = model.outputs[0]._keras_history.operation if getattr(model, "outputs", None) else model.layers[-1]
    while isinstance(producer, keras.Model):
        producer = producer.layers[-1]
    activation = getattr(producer, "activation", None)
    return activation is keras.activations.softmax or isinstance(producer, keras.layers.Softmax)


def logits_of(outputs: Any, probabilities: bool) -> Any:
    """Logits, centred where they come from probabilities (they are known up to a constant an image)."""
    if not probabilities:
        return outputs
    logs = keras.ops.log(keras.ops.maximum(outputs, 1e-7))
    return logs - keras.ops.mean(logs, axis=-1, keepdims=True)


class Network:
    """A model whose named layers can run with other kernels, and whose maps can be read.

    `layers`: name -> layer whose kernel may be replaced; `variables`: name -> its kernel's Keras variable.
    """

    def __init__(
        self, model: Any, layers: Mapping[str, Any], variables: Mapping[str, Any], taps: Mapping[str, Any]
    ) -> None:
        self.model, self.layers, self.variables, self.taps = model, dict(layers), dict(variables), dict(taps)
        self.own = {name: tf.constant(variable.numpy(), tf.float32) for name, variable in self.variables.items()}
        self.probabilities = gives_probabilities(model)
        self.compiled: Any = tf.function(self.passed, reduce_retracing=True)
        self.heard: Any = tf.function(self.listened, reduce_retracing=True)

    def passed(self, kernels: list[Any], x: Any) -> dict[str, Any]:
        """The taps of one pass over `x` with these kernels in the layers' order."""
        swaps = list(zip(self.variables.values(), kernels, strict=True))
        with keras.StatelessScope(state_mapping=swaps), listening(self.taps) as calls:
            out = self.model(x, training=False)
        maps = {name: tf.cast(found[-1][1], tf.float32) for name, found in calls.items()}
        return maps | {OUTPUT: logits_of(tf.cast(out, tf.float32), self.probabilities)}

    def listened(self, kernels: list[Any], x: Any) -> dict[str, list[Any]]:
        """What goes into each layer, call by call."""
        swaps = list(zip(self.variables.values(), kernels, strict=True))
        with keras.StatelessScope(state_mapping=swaps), listening(self.layers) as calls:
            self.model(x, training=False)
        return {name: [tf.cast(inputs, tf.float32) for inputs, _ in found] for name, found in calls.items()}

    def held(self, x: Array) -> Any:
        """Images `(n, ...)` as a tensor that `run` takes without a copy."""
        return tf.constant(x)

    def run(self, x: Any, kernels: Mapping[str, Array]) -> dict[str, Array]:
        """Maps at the taps and `logits`, for images `(n, ...)`, with `kernels` in the named layers."""
        return {name: value.numpy() for name, value in self.compiled(self.taken(kernels), x).items()}

    def taken(self, kernels: Mapping[str, Array]) -> list[Any]:
        """A kernel for every layer: the given one, else its own."""
        return [kernels.get(name, own) for name, own in self.own.items()]

    def inputs(
        self, x: Array, kernels: Mapping[str, Array] | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Array]]:
        """What goes into each (named) layer, call by call, for images `(n, ...)` with `kernels` in their layers."""
        heard = self.heard(self.taken(kernels or {}), tf.constant(x))
        return {name: [maps.numpy() for maps in heard[name]] for name in names or heard}

    def logits(self, x: Array, kernels: Mapping[str, Array], batch: int = 256) -> Array:
        """Outputs for many images, in batches."""
        parts = [self.run(self.held(x[i : i + batch]), kernels)[OUTPUT] for i in range(0, len(x), batch)]
        return np.concatenate(parts)

    def comparable(self, model: Any, x: Array) -> Array:
        """Another model's outputs for images `(n, ...)` as logits like this one's."""
        return np.asarray(logits_of(tf.cast(model(x, training=False), tf.float32), self.probabilities))


def in_batches(images: Array, sites: Iterable[Site]) -> list[Array]:
    """Images in batches of which the inputs of all sites together stay within `HEARD_BYTES`, 128 at most."""
    each = sum(4 * site.op.cin * prod(shape) for site in sites for shape in site.maps)
    size = int(np.clip(HEARD_BYTES // max(each, 1), 1, 128))
    return [images[i : i + size] for i in range(0, len(images), size)]


def deep_taps(model: Any, layers: Sequence[tuple[str, Any]], shape: Shape) -> dict[str, Any]:
    """The deepest maps of a model: its last spatial map, and what goes into its last layer with weights."""
    shapes = called_shapes(model, dict(layers), shape)
    order = [(name, layer, shapes[name][-1][1]) for name, layer in layers if shapes.get(name)]
    spatial = [(name, layer) for name, layer, out in order if len(out) > 1]
    taps = dict(spatial[-1:])
    weighted = [i for i, (_, layer, _) in enumerate(order) if layer.weights]
    if weighted and weighted[-1] > 0:
        name, layer, _ = order[weighted[-1] - 1]
        taps[name] = layer
    return taps
