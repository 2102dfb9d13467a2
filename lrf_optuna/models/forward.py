"""A Keras model run from the outside: one compiled pass with other kernels, and the inputs of each layer.

Nothing is rebuilt. A pass takes the kernels as arguments in place of the layers' own variables, and layers are recorded
while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, batches_of, map_inputs
from lrf_optuna.data.sources import OpenShape
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.batchnorm import batch_statistics
from lrf_optuna.models.layer_calls import recording_calls
from lrf_optuna.models.layer_kinds import kernels_of, norms_of
from lrf_optuna.models.model_inputs import PASS_BATCH, Shape, Shapes
from lrf_optuna.models.outputs import output_heads

CallShapes = list[tuple[Shape | None, Shape | None]]
"""The input and output shapes of a layer's calls, without the batch axis; None for what is not one array."""


def called_shapes(model: Any, layers: Mapping[str, Any], shapes: Shapes) -> dict[str, CallShapes]:
    """The input and output shapes of every call of the layers.

    `shapes`: the model's input. Raises LrfError where the model cannot take it.
    """
    expected = getattr(model, "input_shape", None)
    if isinstance(expected, tuple) and isinstance(shapes, tuple) and not has_shape(shapes, expected[1:]):
        raise LrfError(f"the model does not take images of shape {shapes}: it takes {expected[1:]}")
    image = keras.tree.map_shape_structure(lambda shape: np.zeros((1, *shape), np.float32), shapes)
    recorded = {name: layer for name, layer in layers.items() if type(layer).__name__ != "InputLayer"}
    with recording_calls(recorded) as calls:
        try:
            model(image, training=False)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            (reason, *_) = str(error).strip().splitlines() or [type(error).__name__]
            raise LrfError(f"the model does not take images of shape {shapes}: {reason}") from None
    return {name: [(array_shape(a), array_shape(b)) for a, b in pairs] for name, pairs in calls.items()}


def array_shape(value: Any) -> Shape | None:
    """The shape of one array without its batch axis; None for a list or another structure."""
    return tuple(value.shape)[1:] if hasattr(value, "shape") else None


def has_shape(shape: Shape, expected: OpenShape) -> bool:
    """Whether inputs of a shape have the expected one, whose open axes are None."""
    return len(shape) == len(expected) and all(size in (None, n) for n, size in zip(shape, expected, strict=True))


def open_shape(model: Any) -> Shapes:
    """The model's input shape without the batch axis, of several inputs as the model takes them.

    Raises LrfError where the model leaves it open.
    """
    shapes = getattr(model, "input_shape", None)
    if isinstance(shapes, list):
        shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), model.input)
    settled = None if shapes is None else keras.tree.map_shape_structure(lambda shape: shape[1:], shapes)
    if None in keras.tree.flatten(settled):
        raise LrfError(f"the model takes inputs of shape {shapes}: say which, as input_shape or --size")
    return settled


class ForwardPass:
    """A model whose named `layers` can run with other kernels; `batch_size`: images of one pass at most.

    Kernels are laid out as Keras has them. Where a layer has none in an argument `kernels`, it has its own.
    """

    def __init__(self, model: Any, layers: Mapping[str, Any], batch_size: int = PASS_BATCH) -> None:
        self.model, self.layers, self.batch_size = model, dict(layers), batch_size
        self.variables = {name: kernels_of(layer) for name, layer in self.layers.items()}
        self.original_kernels = {
            name: joined_kernels([tf.cast(tf.convert_to_tensor(one), tf.float32) for one in variables])
            for name, variables in self.variables.items()
        }
        self.norms = norms_of(model)
        self.moving = [variable for norm in self.norms for variable in (norm.moving_mean, norm.moving_variance)]
        self.original_statistics = [tf.constant(variable.numpy(), tf.float32) for variable in self.moving]
        self.heads = output_heads(model)
        self.compiled: Any = tf.function(self.compute_logits, reduce_retracing=True)
        self.compiled_statistics: Any = tf.function(self.batch_statistics_of, reduce_retracing=True)
        self.compiled_inputs: Any = tf.function(self.record_inputs, reduce_retracing=True)

    def compute_logits(self, kernels: list[Any], statistics: list[Any], x: Any) -> dict[str, Any]:
        """Name -> logits of every head, of one pass over `x`.

        `kernels` are in the order of the layers, `statistics` in the order of the BatchNorm layers' variables.
        """
        values = [*self.kernel_values(kernels), *zip(self.moving, statistics, strict=True)]
        with keras.StatelessScope(state_mapping=values):
            outputs = keras.tree.flatten(self.model(x, training=False))
        return {name: head.logits(output) for (name, head), output in zip(self.heads.items(), outputs, strict=True)}

    def record_inputs(self, kernels: list[Any], x: Any) -> dict[str, list[Any]]:
        """The inputs of each layer, call by call, of one pass over `x` with kernels in the order of the layers."""
        with keras.StatelessScope(state_mapping=self.kernel_values(kernels)), recording_calls(self.layers) as calls:
            self.model(x, training=False)
        return {name: [tf.cast(inputs, tf.float32) for inputs, _ in recorded] for name, recorded in calls.items()}

    def batch_statistics_of(self, kernels: list[Any], x: Any) -> list[Any]:
        """The BatchNorm statistics of one batch; each layer sees the batch as the layers before it normalize it."""
        old = zip(self.moving, self.original_statistics, strict=True)
        values = [*self.kernel_values(kernels), *old]
        with keras.StatelessScope(state_mapping=values) as scope, batch_statistics(self.norms):
            for norm in self.norms:
                norm.momentum = 0.0
            self.model(x, training=False)
        return [scope.get_current_value(variable) for variable in self.moving]

    def statistics(self, x: Images) -> list[Any]:
        """The BatchNorm statistics of one batch of images with the layers' own kernels."""
        found: list[Any] = self.compiled_statistics(self.kernel_list({}), self.as_tensors(x))
        return found

    def kernel_values(self, kernels: list[Any]) -> list[tuple[Any, Any]]:
        """Every variable of a kernel with its value, for kernels in the order of the layers."""
        values: list[tuple[Any, Any]] = []
        for variables, kernel in zip(self.variables.values(), kernels, strict=True):
            sizes = [variable.shape[-1] for variable in variables]
            values += zip(variables, tf.split(kernel, sizes, axis=-1) if len(sizes) > 1 else [kernel], strict=True)
        return values

    def as_tensors(self, x: Images) -> Any:
        """Images `(n, ...)` as tensors, which `run` takes without a copy."""
        return map_inputs(x, tf.constant)

    def kernel_list(self, kernels: Mapping[str, Array]) -> list[Any]:
        """A kernel for every layer, in their order: the given one, or else the layer's own."""
        return [kernels.get(name, own) for name, own in self.original_kernels.items()]

    def run(self, x: Any, kernels: Mapping[str, Array], statistics: list[Any] | None = None) -> dict[str, Array]:
        """Name -> logits of every head, for images `(n, ...)` as tensors, with `kernels` in their layers.

        `statistics`: BatchNorm statistics as `batchnorm.reestimated_statistics` gives them; the model's own without.
        """
        listed = self.kernel_list(kernels)
        statistics = statistics or self.original_statistics
        parts = [self.compiled(listed, statistics, part) for part in batches_of(x, self.batch_size)]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

    def inputs(
        self, x: Images, kernels: Mapping[str, Array] | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Array]]:
        """The inputs of each (named) layer, call by call, for images `(n, ...)` with `kernels` in their layers."""
        recorded = self.compiled_inputs(self.kernel_list(kernels or {}), self.as_tensors(x))
        return {name: [maps.numpy() for maps in recorded[name]] for name in names or recorded}

    def logits(self, x: Images, kernels: Mapping[str, Array], statistics: list[Any] | None = None) -> Array:
        """The logits of the only head for any number of images. Raises LrfError where there are several heads."""
        lookup(self.heads, OUTPUT, "output")
        parts = (self.as_tensors(part) for part in batches_of(x, PASS_BATCH))
        return np.concatenate([self.run(part, kernels, statistics)[OUTPUT] for part in parts])

    def outputs_of_model(self, model: Any, x: Images) -> dict[str, Array]:
        """Name -> logits of another model with the same heads, for images `(n, ...)`."""
        parts = [keras.tree.flatten(model(part, training=False)) for part in batches_of(x, self.batch_size)]
        each = zip(self.heads.items(), zip(*parts, strict=True), strict=True)
        return {name: np.concatenate([np.asarray(head.logits(y)) for y in own]) for (name, head), own in each}

    def logits_of_model(self, model: Any, x: Images) -> Array:
        """The logits of another model with the same only head, for images `(n, ...)`."""
        return self.outputs_of_model(model, x)[OUTPUT]


def joined_kernels(kernels: list[Any]) -> Any:
    """The kernels of one layer side by side; a single one is not copied."""
    return tf.concat(kernels, axis=-1) if len(kernels) > 1 else kernels[0]
