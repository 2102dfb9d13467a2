"""Running a Keras model from the outside: what goes into each layer, and one compiled pass with other kernels.

Nothing is rebuilt: a pass takes the kernels as arguments, in place of the layers' own variables, and layers are
listened to while the model runs. So it works for sequential, functional and nested models and for shared layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.files import digest
from lrf_optuna.models.batchnorm import batch_statistics
from lrf_optuna.models.images import BATCH, Images, Shape, Shapes, batches_of, count_of, map_inputs
from lrf_optuna.models.outputs import OUTPUT, logits_of, output_taps

Calls = dict[str, list[tuple[Any, Any]]]


def limit_threads(count: int) -> None:
    """Threads of a pass from now on; before anything was computed."""
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


@contextmanager
def recording_calls(layers: Mapping[str, Any]) -> Iterator[Calls]:
    """While the block runs, every call of a layer adds its `(inputs, outputs)` under the layer's name."""
    calls: Calls = {name: [] for name in layers}

    def wrapped(name: str, call: Any) -> Any:
        def listened(*args: Any, **kwargs: Any) -> Any:
            out = call(*args, **kwargs)
            calls[name].append((next(iter((*args, *kwargs.values())), None), out))
            return out

        return listened

    for name, layer in layers.items():
        layer.call = wrapped(name, layer.call)
    try:
        yield calls
    finally:
        for layer in layers.values():
            del layer.call


def called_shapes(model: Any, layers: Mapping[str, Any], shapes: Shapes) -> dict[str, list[tuple[Shape, Shape]]]:
    """Input and output shapes, without the batch axis, of every call of the layers that take and give one array."""
    image = keras.tree.map_shape_structure(lambda shape: np.zeros((1, *shape), np.float32), shapes)
    with recording_calls(
        {name: layer for name, layer in layers.items() if type(layer).__name__ != "InputLayer"}
    ) as calls:
        try:
            model(image, training=False)
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as reason:
            raise LrfError(f"the model does not take images of shape {shapes}: {first_line(reason)}") from None
    plain = {
        name: [(a, b) for a, b in found if hasattr(a, "shape") and hasattr(b, "shape")] for name, found in calls.items()
    }
    return {name: [(tuple(a.shape)[1:], tuple(b.shape)[1:]) for a, b in found] for name, found in plain.items()}


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


def first_line(reason: BaseException) -> str:
    """The first line of an error's text."""
    return (str(reason).strip().splitlines() or [type(reason).__name__])[0]


class ForwardPass:
    """A model whose named layers can run with other kernels, and whose maps can be read.

    `layers`: name -> layer whose kernel may be replaced; `variables`: name -> its kernel's Keras variable; `norms`: the
    BatchNorm layers whose statistics may be; `batch_size`: images of one pass.
    """

    def __init__(
        self,
        model: Any,
        layers: Mapping[str, Any],
        variables: Mapping[str, Any],
        taps: Mapping[str, Any],
        norms: Sequence[Any] = (),
        batch_size: int = BATCH,
    ) -> None:
        self.batch_size = batch_size
        self.model, self.layers, self.variables, self.taps = model, dict(layers), dict(variables), dict(taps)
        self.original_kernels = {
            name: tf.cast(tf.convert_to_tensor(v), tf.float32) for name, v in self.variables.items()
        }
        self.norms = list(norms)
        self.moving = [variable for norm in self.norms for variable in (norm.moving_mean, norm.moving_variance)]
        self.statistics = [tf.constant(variable.numpy(), tf.float32) for variable in self.moving]
        self.heads = output_taps(model)
        self.compiled: Any = tf.function(self.compute_maps, reduce_retracing=True)
        self.compiled_statistics: Any = tf.function(self.batch_statistics_of, reduce_retracing=True)
        self.compiled_inputs: Any = tf.function(self.record_inputs, reduce_retracing=True)

    def compute_maps(self, kernels: list[Any], statistics: list[Any], x: Any) -> dict[str, Any]:
        """The taps of one pass over `x` with these kernels in the layers' order, and these BatchNorm statistics."""
        swaps = [*zip(self.variables.values(), kernels, strict=True), *zip(self.moving, statistics, strict=True)]
        with keras.StatelessScope(state_mapping=swaps), recording_calls(self.taps) as calls:
            out = self.model(x, training=False)
        maps = {name: tf.cast(found[-1][1], tf.float32) for name, found in calls.items()}
        ends = zip(self.heads.items(), keras.tree.flatten(out), strict=True)
        return maps | {name: logits_of(tf.cast(whole, tf.float32), soft) for (name, soft), whole in ends}

    def record_inputs(self, kernels: list[Any], x: Any) -> dict[str, list[Any]]:
        """What goes into each layer, call by call."""
        swaps = list(zip(self.variables.values(), kernels, strict=True))
        with keras.StatelessScope(state_mapping=swaps), recording_calls(self.layers) as calls:
            self.model(x, training=False)
        return {name: [tf.cast(inputs, tf.float32) for inputs, _ in found] for name, found in calls.items()}

    def batch_statistics_of(self, kernels: list[Any], x: Any) -> list[Any]:
        """The BatchNorm statistics of one batch, each layer's behind those before it."""
        swaps = [*zip(self.variables.values(), kernels, strict=True), *zip(self.moving, self.statistics, strict=True)]
        with keras.StatelessScope(state_mapping=swaps) as scope, batch_statistics(self.norms):
            for norm in self.norms:
                norm.momentum = 0.0
            self.model(x, training=False)
        return [scope.get_current_value(variable) for variable in self.moving]

    def batchnorm_statistics(self, kernels: Mapping[str, Array], batches: Iterable[Images]) -> list[Any]:
        """BatchNorm statistics with `kernels` in their layers: the plain average over the batches of images."""
        found = [self.compiled_statistics(self.kernel_list(kernels), self.as_tensors(x)) for x in batches]
        return [tf.reduce_mean(tf.stack(each_batch), axis=0) for each_batch in zip(*found, strict=True)]

    def as_tensors(self, x: Images) -> Any:
        """Images `(n, ...)` as tensors that `run` takes without a copy."""
        return map_inputs(x, tf.constant)

    def run(self, x: Any, kernels: Mapping[str, Array], statistics: list[Any] | None = None) -> dict[str, Array]:
        """Maps at the taps and the outputs' logits, for images `(n, ...)`, with `kernels` in the named layers.

        `statistics`: of the BatchNorm layers as `batchnorm_statistics` gives them, where they are not the model's own.
        """
        taken = self.kernel_list(kernels)
        parts = batches_of(x, self.batch_size) if count_of(x) > self.batch_size else [x]
        found = [self.compiled(taken, statistics or self.statistics, part) for part in parts]
        return {name: np.concatenate([part[name].numpy() for part in found]) for name in found[0]}

    def kernel_list(self, kernels: Mapping[str, Array]) -> list[Any]:
        """A kernel for every layer: the given one, else its own."""
        return [kernels.get(name, own) for name, own in self.original_kernels.items()]

    def inputs(
        self, x: Images, kernels: Mapping[str, Array] | None = None, names: Sequence[str] | None = None
    ) -> dict[str, list[Array]]:
        """What goes into each (named) layer, call by call, for images `(n, ...)` with `kernels` in their layers."""
        heard = self.compiled_inputs(self.kernel_list(kernels or {}), self.as_tensors(x))
        return {name: [maps.numpy() for maps in heard[name]] for name in names or heard}

    def outputs(self, x: Images, kernels: Mapping[str, Array], statistics: list[Any] | None = None) -> dict[str, Array]:
        """Name -> logits of all outputs for many images, in batches."""
        parts = [self.run(self.as_tensors(part), kernels, statistics) for part in batches_of(x, BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.heads}

    def logits(self, x: Images, kernels: Mapping[str, Array], statistics: list[Any] | None = None) -> Array:
        """The only output for many images, in batches. Raises LrfError where there are several."""
        lookup(self.heads, OUTPUT, "output")
        return self.outputs(x, kernels, statistics)[OUTPUT]

    def logits_of_model(self, model: Any, x: Array) -> Array:
        """Another model's outputs for images `(n, ...)` as logits like this one's."""
        outs = [tf.cast(model(part, training=False), tf.float32) for part in batches_of(x, self.batch_size)]
        return np.asarray(logits_of(tf.concat(outs, 0), self.heads[OUTPUT]))


def view_of(variable: Any) -> Array:
    """The values of a variable, not copied: TensorFlow gives a variable new memory where its old is looked at."""
    found: Array = np.asarray(tf.convert_to_tensor(variable))
    return found


def weights_of(model: Any) -> list[Array]:
    """What `model.get_weights()` gives, not copied."""
    return [view_of(variable) for variable in model.weights]


WEIGHTS_DIGESTS: WeakKeyDictionary[Any, tuple[list[Array], str]] = WeakKeyDictionary()
"""Model -> views of its weights and their digest."""


def weights_digest(model: Any) -> str:
    """A digest of a model's weights, worked out again only where a variable has changed.

    A variable whose values are viewed gets new memory when it changes, so equal addresses are equal values.
    """
    weights = weights_of(model)
    views, found = WEIGHTS_DIGESTS.get(model, ([], ""))
    if [view.ctypes.data for view in views] != [array.ctypes.data for array in weights]:
        found = digest(*weights)
        WEIGHTS_DIGESTS[model] = weights, found
    return found


def deep_taps(model: Any, layers: Sequence[tuple[str, Any]], shapes: Shapes) -> dict[str, Any]:
    """The deepest maps of a model: its last spatial map, and what goes into its last layer with weights."""
    found = called_shapes(model, dict(layers), shapes)
    order = [(name, layer, found[name][-1][1]) for name, layer in layers if found.get(name)]
    spatial = [(name, layer) for name, layer, out in order if len(out) > 1]
    taps = dict(spatial[-1:])
    weighted = [i for i, (_, layer, _) in enumerate(order) if layer.weights]
    if weighted and weighted[-1] > 0:
        name, layer, _ = order[weighted[-1] - 1]
        taps[name] = layer
    return taps
