"""From a plan to a model: plain Keras layers in the place of the factorized ones; the original stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from lrf_optuna.chains.conv import Array
from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.attention_layers import AttentionChain
from lrf_optuna.models.layer_copies import copy_layer, keras_class_name
from lrf_optuna.models.layer_kinds import LAYERS, assign_kernel, kind_of, projections, walk_layers
from lrf_optuna.plans.plan import Choice, Plan


def materialize(model: Any, plan: Plan, kernels: Mapping[str, tuple[Array, ...]]) -> Any:
    """A new model with the chains of `plan` built as plain Keras layers that carry `kernels` (site -> stage kernels).

    A factorized layer becomes a `Sequential` of its name, whose last layer has the bias and the activation. All other
    layers are copied with their state. Raises LrfError where the plan names a layer that the model does not have.
    """
    names, factorized = {id(layer): name for name, layer in walk_layers(model)}, plan.changed
    if unknown := sorted(factorized.keys() - names.values()):
        raise LrfError(
            f"the plan factorizes {unknown[0]!r}, which this model does not have: is it a plan of another model?"
        )
    attention: dict[int, AttentionChain] = {}

    def factorized_projections(layer: Any) -> dict[str, str]:
        found = {name: names[id(inner)] for name, inner in projections(layer).items()}
        return {name: path for name, path in found.items() if path in factorized}

    def chain(layer: Any) -> Any:
        if inside := factorized_projections(layer):
            new = attention_chain(layer, {name: factorized[path] for name, path in inside.items()})
            attention[id(new.layer)] = new
            return new.layer
        choice = factorized.get(names.get(id(layer), ""))
        return chain_layer(layer, choice) if choice else None

    def fill(layer: Any, new: Any) -> None:
        if id(new) in attention:
            inside = factorized_projections(layer)
            attention[id(new)].fill(layer, {name: kernels[path] for name, path in inside.items()})
        else:
            fill_chain(layer, new, kernels[names[id(layer)]])

    return clone_with(model, chain, fill, lambda layer: attention.get(id(layer), layer))


def clone_with(
    model: Any,
    replacement: Callable[[Any], Any],
    fill: Callable[[Any, Any], None],
    called: Callable[[Any], Callable[..., Any]] = lambda layer: layer,
) -> Any:
    """A copy of a model with the layers that `replacement` gives for some of its layers; it gives None for others.

    `fill` puts the weights of a layer into its replacement. All other layers are copied with their state. `called`
    gives what is called in the place of a new layer.
    """
    copies: dict[int, tuple[Any, Any, Callable[[Any, Any], None]]] = {}

    def copy(layer: Any) -> Any:
        if id(layer) not in copies:
            new = replacement(layer)
            copies[id(layer)] = (layer, copy_layer(layer), copy_state) if new is None else (layer, new, fill)
        return copies[id(layer)][1]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return called(layer)(*args, **kwargs)

    calls = {} if isinstance(model, keras.Sequential) else {"call_function": call}
    with uncompiled(model):
        clone = keras.models.clone_model(model, clone_function=copy, recursive=True, **calls)
    for layer, new, fill_layer in copies.values():
        fill_layer(layer, new)
    return clone


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """A block in which a model counts as not compiled: its loss may be a function that Keras cannot copy."""
    compiled = [one for one in model._flatten_layers() if getattr(one, "compiled", False)]
    for one in compiled:
        one.compiled = False
    try:
        yield
    finally:
        for one in compiled:
            one.compiled = True


def check_can_be_copied(model: Any) -> None:
    """Raises LrfError where a layer's configuration does not give the layer again: no model could be built then."""
    for _, layer in walk_layers(model):
        if type(layer).__name__ != "InputLayer":
            copy_layer(layer)


def copy_state(layer: Any, copy: Any) -> None:
    """Give a built copy of a layer all state of the layer, and of the layers inside it, as a saved file would.

    Weights alone would leave out what a layer derives from them, such as the constants of an adapted Normalization.
    An operation of keras.ops in the graph is no layer, and has no state.
    """
    if not isinstance(layer, keras.layers.Layer):
        return
    for one, other in zip(layer._flatten_layers(), copy._flatten_layers(), strict=True):
        state: dict[str, Any] = {}
        one.save_own_variables(state)
        if state:
            other.load_own_variables(state)


def chain_layer(layer: Any, choice: Choice) -> Any:
    """The unfilled `Sequential` of a choice in the place of a layer."""
    kind = LAYERS.get(keras_class_name(layer))
    if kind is None:
        raise LrfError(f"the plan factorizes {layer.name!r}, but a {type(layer).__name__} layer cannot be")
    stages = chain_of(kind.read(layer), choice).stages
    layers: list[Any] = []
    for i, stage in enumerate(stages, start=1):
        layers += kind.write(layer, stage, f"{layer.name}_{i}", i == 1, i == len(stages))
    shape = tuple(layer.get_build_config()["input_shape"][1:])
    called = {tuple(node.input_tensors[0].shape[1:]) for node in layer._inbound_nodes if node.input_tensors}
    if called != {shape}:  # other sizes in other calls
        shape = kind.any_size(layer, shape)
    entry = keras.Input(shape, dtype=layer.compute_dtype, name=f"{layer.name}_input")  # same name in every process
    chain = keras.Sequential([entry, *layers], name=layer.name)
    chain.trainable = layer.trainable
    return chain


def attention_chain(layer: Any, choices: Mapping[str, Choice]) -> AttentionChain:
    """The unfilled chain of an attention layer's projections with these choices."""
    found = projections(layer)
    stages = {name: chain_of(kind_of(found[name]).read(found[name]), choice).stages for name, choice in choices.items()}
    return AttentionChain.of(layer, stages)


def fill_chain(layer: Any, chain: Any, kernels: tuple[Array, ...]) -> None:
    """Put the stage kernels, and all weights of the original but its kernel, into a built chain."""
    weighted = [stage for stage in chain.layers if stage.weights]
    for stage, kernel in zip(weighted, kernels, strict=True):
        assign_kernel(stage, kernel)
    kind_of(layer).fill(layer, weighted[-1])
