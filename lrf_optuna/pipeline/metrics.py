"""Metrics and losses by name: those of the table and of Keras, functions of a module, and objects of Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.metrics import METRICS, Metric, MetricFunction
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.load import import_function

OBJECT = "python:"
"""The beginning of the name of an object that was given in Python."""
OBJECTS: dict[str, Any] = {}
"""Name -> object that this process was given."""


def name_of_object(given: Any) -> str:
    """A name under which `metric_named` and `loss_named` find a function or an object of Keras in this process."""
    own = getattr(given, "__name__", None) or getattr(given, "name", None) or type(given).__name__
    OBJECTS[f"{OBJECT}{own}"] = given
    return f"{OBJECT}{own}"


def object_named(name: str) -> Any:
    """The object or function of a name. Raises LrfError where it was given in another process, or is not there."""
    if not name.startswith(OBJECT):
        return import_function(name)
    if name not in OBJECTS:
        what = name.removeprefix(OBJECT)
        raise LrfError(f"{what!r} was given as a Python object: give it again, or package.module:function")
    return OBJECTS[name]


def metric_named(name: str) -> Metric:
    """The metric of a name, or the user's function of (labels, outputs) or Keras metric. Raises LrfError."""
    if ":" in name:
        found = object_named(name)
        function = of_keras(found) if hasattr(found, "update_state") else found
        return Metric(name.rpartition(":")[2], checked(name, function), decides=False)
    by_name = {key.lower().replace(" ", "_"): metric for key, metric in METRICS.items()}
    return lookup(by_name, name.lower().replace(" ", "_").replace("-", "_"), "metric")


def checked(name: str, function: MetricFunction) -> MetricFunction:
    """A user's metric that raises LrfError where it fails, or does not give one finite number."""

    def metric(labels: Values, outputs: Values) -> float:
        try:
            found = np.asarray(function(labels, outputs), np.float64)
        except Exception as reason:  # whatever a stranger's code raises
            raise LrfError(f"the metric {name} failed: {reason!r}") from reason
        if found.size != 1 or not np.isfinite(found).all():
            raise LrfError(f"the metric {name} should give one finite number, but gave {found.tolist()!r:.60}")
        return float(found.reshape(()))

    return metric


def of_keras(metric: Any) -> MetricFunction:
    """A metric object of Keras as a function of (labels, outputs)."""

    def function(labels: Values, outputs: Values) -> float:
        metric.reset_state()
        metric.update_state(labels, outputs)
        return float(metric.result())

    return function


def loss_named(name: str) -> Any:
    """The loss of Keras of a name, or the user's function or object. Raises LrfError for an unknown one."""
    import keras

    if ":" in name:
        found = object_named(name)
        if not callable(found):
            raise LrfError(f"a loss should be a function of (labels, outputs), but {name} is a {type(found).__name__}")
        return found
    try:
        return keras.losses.get(name)
    except ValueError:
        raise LrfError(f"unknown loss {name!r}: give one of Keras, such as huber, or package.module:function") from None
