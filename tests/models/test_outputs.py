"""The activation of an output is found wherever it stands, and is undone exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.heads import head_at

from lrf_optuna.data.tasks import KINDS, OUTPUT
from lrf_optuna.errors import LrfError
from lrf_optuna.models.outputs import ACTIVATIONS, OutputHead, TaskWishes, find_tasks, output_heads, unlabeled_tasks

Array = np.ndarray[Any, Any]
UNITS = 5


def nested(name: str) -> Callable[[Any], Any]:
    """A model inside the model that ends in the activation."""
    inner = keras.Input((8,))
    return keras.Model(inner, layers.Dense(UNITS, activation=name)(inner))


def kept_float32(name: str) -> Callable[[Any], Any]:
    """The activation, and after it the change of type that ends models of mixed precision."""
    return lambda x: layers.Activation("linear", dtype="float32")(layers.Dense(UNITS, activation=name)(x))


def by_position(name: str) -> Callable[[Any], Any]:
    """The same layer at each of two positions."""
    return lambda x: layers.TimeDistributed(layers.Dense(UNITS, activation=name))(layers.Reshape((2, 4))(x))


PLACES: dict[str, Callable[[str], Callable[[Any], Any]]] = {
    "last layer": lambda name: layers.Dense(UNITS, activation=name),
    "Activation": lambda name: lambda x: layers.Activation(name)(layers.Dense(UNITS)(x)),
    "function of keras.ops": lambda name: lambda x: getattr(keras.ops, name)(layers.Dense(UNITS)(x)),
    "before Reshape": lambda name: lambda x: layers.Reshape((1, UNITS))(layers.Dense(UNITS, activation=name)(x)),
    "before a change of type": kept_float32,
    "nested model": nested,
    "TimeDistributed": by_position,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", PLACES)
def test_an_activation_is_found_wherever_it_stands(place: str, name: str) -> None:
    inputs = keras.Input((8,))
    head = head_at(keras.Model(inputs, PLACES[place](name)(inputs)))
    assert (head.name, head.activation) == (OUTPUT, name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_of_a_sequential_model_is_found(name: str) -> None:
    first = [keras.Input((8,)), layers.Dense(6, activation="relu")]
    assert head_at(keras.Sequential([*first, layers.Dense(UNITS, activation=name)])).activation == name
    inner = keras.Sequential([*first, layers.Dense(UNITS), layers.Activation(name)])
    assert head_at(keras.Sequential([keras.Input((8,)), inner])).activation == name
    assert head_at(keras.Sequential([*first, layers.Dense(UNITS, activation=name), layers.Dense(3)])).activation == ""


def test_a_softmax_layer_is_found_over_the_last_axis_alone() -> None:
    inputs = keras.Input((4, 8))
    found = [head_at(keras.Model(inputs, layers.Softmax(axis)(inputs))).activation for axis in (-1, 2, 1)]
    assert found == ["softmax", "softmax", ""]


def test_the_activation_inside_a_recurrent_layer_is_not_that_of_its_output() -> None:
    inputs = keras.Input((4, 8))
    for layer in (layers.LSTM(3, activation="sigmoid"), layers.Bidirectional(layers.GRU(3, activation="softmax"))):
        assert head_at(keras.Model(inputs, layer(inputs))).activation == ""


class Squared(layers.Layer):
    """A layer that is not of Keras: what it does with its activation is its own affair."""

    activation = staticmethod(keras.activations.softmax)

    def call(self, x: Any) -> Any:
        return self.activation(x) ** 2


class Softmax(layers.Layer):
    """A layer that has only the name of one of Keras."""

    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("layer", [Squared, Softmax])
def test_the_activation_of_a_layer_that_is_not_of_keras_is_not_known(layer: Any) -> None:
    inputs = keras.Input((8,))
    assert head_at(keras.Model(inputs, layer()(inputs))).activation == ""


class Renamed(layers.Dense):
    """A layer that computes what its parent of Keras computes."""


def test_the_activation_of_a_subclass_that_changes_nothing_is_that_of_keras() -> None:
    inputs = keras.Input((8,))
    assert head_at(keras.Model(inputs, Renamed(3, activation="softmax")(inputs))).activation == "softmax"


def test_a_weight_without_the_name_of_an_output_holds_for_all_others() -> None:
    heads = {name: OutputHead(name, "softmax", (3,)) for name in ("one", "two")}
    tasks = find_tasks(heads, None, wishes=TaskWishes(weights={"": 3.0, "two": 2.0}))
    assert {name: task.weight for name, task in tasks.items()} == {"one": 3.0, "two": 2.0}


@pytest.mark.parametrize("tail", [layers.Dense(UNITS, activation="tanh"), lambda x: 2 * keras.ops.softmax(x)])
def test_what_changes_the_values_is_no_activation_that_is_undone(tail: Any) -> None:
    inputs = keras.Input((8,))
    assert head_at(keras.Model(inputs, tail(inputs))).activation == ""


def head_of(activation: str) -> OutputHead:
    return OutputHead(OUTPUT, activation, (7,))


def test_the_values_before_an_activation_are_found_again(rng: np.random.Generator) -> None:
    logits = rng.normal(size=(20, 7)).astype(np.float32)
    softmax, sigmoid, plain = (head_of(name) for name in ("softmax", "sigmoid", ""))
    centered = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax.logits(keras.ops.softmax(logits)), centered, atol=1e-5)
    np.testing.assert_allclose(sigmoid.logits(keras.ops.sigmoid(logits)), logits, atol=1e-4)
    np.testing.assert_array_equal(plain.logits(logits), logits)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_probabilities_of_0_and_1_have_finite_logits_that_give_them_again(name: str) -> None:
    head, sure = head_of(name), np.eye(3, dtype=np.float32)
    logits = np.asarray(head.logits(sure))
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(head.outputs(logits), sure, atol=1e-6)


def test_every_output_of_several_has_its_own_head() -> None:
    inputs = keras.Input((8,))
    outputs = {"kind": layers.Dense(4, activation="softmax", name="kind")(inputs), "size": layers.Dense(1)(inputs)}
    heads = output_heads(keras.Model(inputs, outputs))
    assert {name: (head.activation, head.shape) for name, head in heads.items()} == {
        "kind": ("softmax", (4,)),
        "size": ("", (1,)),
    }


def tasks_of(activation: str, shape: tuple[int, ...], labels: Any = None, **wishes: Any) -> Any:
    return find_tasks(
        {OUTPUT: OutputHead(OUTPUT, activation, shape)},
        None if labels is None else {OUTPUT: np.asarray(labels)},
        wishes=TaskWishes(**wishes),
    )[OUTPUT]


@pytest.mark.parametrize(
    ("family", "shape", "labels", "kind"),
    [
        ("binary", (1,), None, "binary"),
        ("binary", (3,), None, "labels"),
        ("binary", (8, 8, 1), None, "map"),
        ("classes", (4,), None, "classes"),
        ("numbers", (1,), [0, 1, 1], "numbers"),
        ("numbers", (2,), [[0, 1], [1, 1]], "numbers"),
        ("", (1,), [0, 1, 1], "binary"),
        ("", (4,), None, "embedding"),
    ],
)
def test_a_compiled_loss_tells_a_task_that_shape_and_labels_leave_open(
    family: str, shape: tuple[int, ...], labels: Any, kind: str
) -> None:
    assert tasks_of("", shape, labels, families={OUTPUT: family}).kind == kind


def test_the_wish_of_the_user_wins_over_the_compiled_loss() -> None:
    found = tasks_of("", (1,), [0, 1, 1], families={OUTPUT: "binary"}, kinds={"": "numbers"})
    assert found.kind == "numbers"


@pytest.mark.parametrize(
    ("kind", "shape", "activation", "fits"),
    [
        ("classes", (1,), "", "binary"),
        ("binary", (3,), "", "classes"),
        ("labels", (3,), "softmax", "classes"),
        ("map", (3,), "", "numbers"),
        ("classes", (8, 8, 3), "", "map"),
    ],
)
def test_a_task_that_an_output_cannot_have_is_refused_with_those_that_it_can(
    kind: str, shape: tuple[int, ...], activation: str, fits: str
) -> None:
    with pytest.raises(LrfError, match=rf"cannot be '{kind}': give one of .*{fits}"):
        tasks_of(activation, shape, kinds={"": kind})


def test_unknown_tasks_and_outputs_are_answered_with_the_names_there_are() -> None:
    with pytest.raises(LrfError, match="unknown task 'clases'") as error:
        tasks_of("", (3,), kinds={"": "clases"})
    assert all(kind in str(error.value) for kind in KINDS)
    with pytest.raises(LrfError, match="unknown output 'top'; there is: logits"):
        tasks_of("", (3,), kinds={"top": "classes"})


def test_without_labels_several_plain_numbers_count_as_logits_and_one_number_as_a_number() -> None:
    shapes = {"many": (9,), "one": (1,), "map": (4, 4, 3)}
    found = unlabeled_tasks({name: OutputHead(name, "", shape) for name, shape in shapes.items()})
    assert {name: task.kind for name, task in found.items()} == {
        "many": "classes",
        "one": "embedding",
        "map": "embedding",
    }
    assert not any(task.labeled for task in found.values())
