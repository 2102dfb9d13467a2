"""The weights of a model as arrays that are not copied, and their digest."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.files import digest


def view_of(variable: Any) -> Array:
    """The values of a variable, not copied."""
    return np.asarray(tf.convert_to_tensor(variable))


def weights_digest(model: Any) -> str:
    """The digest of `model.get_weights()`; 100 MB take 0.05 s, so it is worked out again where it is needed."""
    return digest(*(view_of(variable) for variable in model.weights))
