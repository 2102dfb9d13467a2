"""From a plan to a model: plain Keras layers in the place of the factorized ones; the original stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.layer_kinds import LAYERS, set_kernel, walk_layers
from lrf_optuna.plans.plan import INTACT, Choice, Plan


def materialize(model: Any, plan: Plan, kernels: Mapping[str, tuple[Array, ...]]) -> Any:
    """A new model with the chains of `plan` built as plain Keras layers that carry `kernels` (site -> stage kernels).

    A factorized layer becomes a `Sequential` of its name, whose last layer has the bias and the activation. All other
    layers are copied with their weights. Raises LrfError where the plan names a layer that the model does not have.
    """
    layers = dict(walk_layers(model))
    factorized = {name: choice for name, choice in plan if choice != INTACT}
    for name in factorized:
        if name not in layers:
            raise LrfError(
                f"the plan factorizes {name!r}, which this model does not have: is it a plan of another model?"
            )
    paths = {id(layer): name for name, layer in layers.items()}
    made: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) not in made:
            name = paths.get(id(layer), "")
            if name in factorized:
                made[id(layer)] = chain_layer(layer, factorized[name])
            else:
                made[id(layer)] = copy_layer(layer)
        return made[id(layer)]

    built = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for name, layer in layers.items():
        if name in factorized:
            fill_chain(layer, made[id(layer)], kernels[name])
        elif layer.weights and id(layer) in made:
            made[id(layer)].set_weights(layer.get_weights())
    return built


def check_can_be_copied(model: Any) -> None:
    """Raises LrfError where a layer's configuration does not give the layer again: no model could be built then."""
    for _, layer in walk_layers(model):
        if type(layer).__name__ != "InputLayer":
            copy_layer(layer)


def copy_layer(layer: Any) -> Any:
    """A new layer of the same configuration; a Lambda's function is Python, which does not pass through one."""
    if isinstance(layer, keras.layers.Lambda):
        kept = {"name": layer.name, "dtype": layer.dtype_policy, "trainable": layer.trainable}
        return keras.layers.Lambda(layer.function, layer._output_shape, layer.mask, layer.arguments, **kept)
    try:
        return type(layer).from_config(layer.get_config())
    except (NotImplementedError, TypeError, ValueError) as reason:
        kind = type(layer).__name__
        raise LrfError(
            f"the {kind} layer {layer.name!r} cannot be copied: give it a get_config that its from_config understands"
        ) from reason


def chain_layer(layer: Any, choice: Choice) -> Any:
    """The unfilled `Sequential` of a choice in the place of a layer."""
    kind = LAYERS.get(type(layer).__name__)
    if kind is None:
        raise LrfError(f"the plan factorizes {layer.name!r}, but a {type(layer).__name__} layer cannot be")
    stages = chain_of(kind.read(layer), choice).stages
    made = [one for i, stage in enumerate(stages) for one in written(kind.write, layer, stage, i, len(stages))]
    shape = kind.any_size(layer, tuple(layer.get_build_config()["input_shape"][1:]))
    anywhere = keras.Input(shape, dtype=layer.compute_dtype)
    chain = keras.Sequential([anywhere, *made], name=layer.name)
    chain.trainable = layer.trainable
    return chain


def written(write: Any, layer: Any, stage: Conv, i: int, count: int) -> list[Any]:
    """The layers of the i-th stage."""
    found: list[Any] = write(layer, stage, f"{layer.name}_{i + 1}", i == 0, i == count - 1)
    return found


def fill_chain(layer: Any, chain: Any, kernels: tuple[Array, ...]) -> None:
    """Put the stage kernels and the original's bias into a built chain."""
    weighted = [made for made in chain.layers if made.weights]
    for made, kernel in zip(weighted, kernels, strict=True):
        set_kernel(made, kernel)
    if layer.bias is not None:
        weighted[-1].bias.assign(keras.ops.reshape(layer.bias, weighted[-1].bias.shape))
