"""A model whose layers are of Keras' own classes and have functions that a file can name, wherever that is possible."""

from __future__ import annotations

from typing import Any

from lrf_optuna.models.layer_copies import foreign_objects, keras_class, with_inner_layers
from lrf_optuna.models.layer_kinds import GRAPHS, walk_layers
from lrf_optuna.models.separable import check_same_outputs
from lrf_optuna.models.surgery import clone_with


def with_plain_layers(model: Any) -> Any:
    """The same network of plain layers of Keras; the model itself where nothing is to change, or it is no graph.

    A subclass that computes what its class of Keras does becomes that class. A function that Keras cannot name, such as
    a lambda or `tf.nn.silu`, becomes the same one of Keras or gets a name. Initializers of other packages are dropped.
    Raises LrfError where the outputs of the new network for random images are not the original's.
    """
    if not isinstance(model, GRAPHS) or not any(is_to_replace(layer) for _, layer in walk_layers(model)):
        return model
    plain = clone_with(model, lambda layer: None, lambda layer, new: None)
    check_same_outputs(model, plain, "copying the model's layers")
    return plain


def is_to_replace(layer: Any) -> bool:
    """Whether a layer is of a subclass of its class of Keras, or has objects that are not of Keras."""
    return keras_class(layer) not in (None, type(layer)) or any(map(foreign_objects, with_inner_layers(layer)))
