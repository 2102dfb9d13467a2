"""However a block ends, layers have the calls that they had before it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.models.layer_calls import recording_calls, replaced_calls


def two_layers() -> tuple[Any, dict[str, Any]]:
    """A model, and its two Dense layers by name."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")])
    return model, {layer.name: layer for layer in model.layers}


def test_inner_recording_leaves_the_outer_one_in_place() -> None:
    model, layers = two_layers()
    with recording_calls(layers) as outer:
        with recording_calls({"b": layers["b"]}) as inner:
            model(np.ones((1, 3), np.float32))
        model(np.ones((1, 3), np.float32))
    model(np.ones((1, 3), np.float32))
    assert {name: len(calls) for name, calls in outer.items()} == {"a": 2, "b": 2}
    assert len(inner["b"]) == 1
    assert not any("call" in vars(layer) for layer in layers.values())


def test_a_layer_under_two_names_is_recorded_under_both() -> None:
    model, layers = two_layers()
    with recording_calls(layers | {"again": layers["a"]}) as calls:
        model(np.ones((1, 3), np.float32))
    assert [len(calls[name]) for name in ("a", "again", "b")] == [1, 1, 1]
    assert "call" not in vars(layers["a"])


def test_calls_come_back_where_a_replacement_or_the_block_fails() -> None:
    _, layers = two_layers()

    def fails(call: Any) -> Any:
        raise KeyError

    with pytest.raises(KeyError), replaced_calls([(layers["a"], lambda call: call), (layers["b"], fails)]):
        pass
    with pytest.raises(ValueError, match="x"), recording_calls(layers):
        float("x")
    assert not any("call" in vars(layer) for layer in layers.values())
