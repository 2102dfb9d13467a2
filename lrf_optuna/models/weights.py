"""The weights of a model as arrays that are not copied, and their digest."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.files import digest

WEIGHTS_DIGESTS: WeakKeyDictionary[Any, tuple[list[Array], str]] = WeakKeyDictionary()
"""Model -> views of its weights and their digest."""


def view_of(variable: Any) -> Array:
    """The values of a variable, not copied; TensorFlow gives a variable with a view new memory when it changes."""
    return np.asarray(tf.convert_to_tensor(variable))


def weights_digest(model: Any) -> str:
    """A digest of a model's weights, worked out again only where a variable has changed.

    A variable whose values are viewed gets new memory when it changes, so equal addresses are equal values.
    """
    weights = [view_of(variable) for variable in model.weights]
    views, old = WEIGHTS_DIGESTS.get(model, ([], ""))
    if [view.ctypes.data for view in views] == [view.ctypes.data for view in weights]:
        return old
    WEIGHTS_DIGESTS[model] = weights, digest(*weights)
    return WEIGHTS_DIGESTS[model][1]
