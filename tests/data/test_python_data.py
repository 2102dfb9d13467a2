"""Data as Python has them: tuples, datasets of TensorFlow and Keras, generators, tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lrf_optuna.data import python_data
from lrf_optuna.data.python_data import arrays_of
from lrf_optuna.errors import LrfError

SHAPES = {"image": (8, 6, 3)}
X = np.random.default_rng(0).integers(0, 256, (50, 8, 6, 3), dtype=np.uint8)
Y = np.arange(50) % 3


class Batches(keras.utils.PyDataset):
    """Batches of seven images."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return X[7 * index : 7 * index + 7], Y[7 * index : 7 * index + 7]


class Indexed:
    """Batches by index, without anything of Keras."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        if index > 1:
            raise RuntimeError("asked for more than there is")
        return X[25 * index : 25 * index + 25], Y[25 * index : 25 * index + 25]


class Tensor:
    """Like a tensor of torch that has a gradient: it must be detached, moved and converted."""

    def __init__(self, array: Any, detached: bool = False) -> None:
        self.array, self.detached, self.shape = array, detached, array.shape

    def detach(self) -> Tensor:
        return Tensor(self.array, True)

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        assert self.detached
        return self.array


class Frame:
    """Like a frame of pandas."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape = array, array.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.array, dtype)

    def to_numpy(self) -> Any:
        return self.array


def generated(batch: int | None = 8) -> Iterator[Any]:
    if batch is None:
        yield from zip(X, Y, strict=True)
    else:
        for i in range(0, 50, batch):
            yield X[i : i + batch], Y[i : i + batch]


def dataset(*parts: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


WITH_LABELS = {
    "tuple": lambda: (X, Y),
    "list": lambda: [X, Y],
    "lists of numbers": lambda: (X.tolist(), Y.tolist()),
    "mapping": lambda: {"x_train": X, "y_train": Y},
    "tf.data": lambda: dataset(X, Y),
    "tf.data, batched": lambda: dataset(X, Y).batch(16),
    "tf.data, shuffled and prefetched": lambda: dataset(X, Y).batch(16).prefetch(2),
    "tf.data of dicts": lambda: dataset({"image": X, "label": Y}).batch(16),
    "tf.data of dicts by input": lambda: tf.data.Dataset.zip((dataset({"image": X}), dataset(Y))),
    "PyDataset": lambda: Batches(),
    "indexed": lambda: Indexed(),
    "generator of batches": lambda: generated(),
    "generator of images": lambda: generated(None),
    "generator function": lambda: generated,
    "list of batches": lambda: list(generated()),
    "list of images": lambda: list(generated(None)),
    "loader of lists": lambda: [*map(list, generated())].__iter__(),
    "part": lambda: {"train": dataset(X, Y)},
    "tensors with a gradient": lambda: (Tensor(X), Tensor(Y)),
    "frames": lambda: (Frame(X), Frame(Y)),
    "tensors of TensorFlow": lambda: (tf.constant(X), tf.constant(Y)),
}


def as_plain(arrays: dict[str, Any], name: str) -> Any:
    array = arrays[name]
    return np.asarray(array["image"] if isinstance(array, dict) else array)


@pytest.mark.parametrize("form", WITH_LABELS)
def test_images_with_labels_come_from_every_usual_form(form: str) -> None:
    loaded = arrays_of(WITH_LABELS[form](), SHAPES)
    assert list(loaded.arrays) == ["x_train", "y_train"]
    np.testing.assert_array_equal(as_plain(loaded.arrays, "x_train"), X)
    np.testing.assert_array_equal(as_plain(loaded.arrays, "y_train"), Y)
    assert loaded.notes == ()


WITHOUT_LABELS = {
    "array": lambda: X,
    "tuple of one": lambda: (X,),
    "tf.data": lambda: dataset(X),
    "tf.data, batched": lambda: dataset(X).batch(9),
    "generator": lambda: iter(X),
    "generator of batches": lambda: (x for x, _ in generated()),
    "dict by input": lambda: {"image": X},
    "tensor": lambda: tf.constant(X),
}


@pytest.mark.parametrize("form", WITHOUT_LABELS)
def test_images_without_labels_come_from_every_usual_form(form: str) -> None:
    loaded = arrays_of(WITHOUT_LABELS[form](), SHAPES)
    assert list(loaded.arrays) == ["x_train"]
    np.testing.assert_array_equal(as_plain(loaded.arrays, "x_train"), X)


TWO_PARTS = {
    "as keras.datasets gives them": lambda: ((X, Y), (X[:10], Y[:10])),
    "two datasets": lambda: (dataset(X, Y), dataset(X[:10], Y[:10]).batch(4)),
    "by name": lambda: {"train": dataset(X, Y), "test": (X[:10], Y[:10])},
    "mapping": lambda: {"x_train": X, "y_train": Y, "x_test": X[:10], "y_test": Y[:10]},
}


@pytest.mark.parametrize("form", TWO_PARTS)
def test_training_and_test_parts_come_from_every_usual_form(form: str) -> None:
    arrays = arrays_of(TWO_PARTS[form](), SHAPES).arrays
    assert {name: len(array) for name, array in arrays.items()} == {
        "x_train": 50,
        "y_train": 50,
        "x_test": 10,
        "y_test": 10,
    }


def test_three_parts_are_train_validation_and_test() -> None:
    arrays = arrays_of(((X, Y), (X[:20], Y[:20]), (X[:10], Y[:10])), SHAPES).arrays
    assert {name: len(array) for name, array in arrays.items() if name[0] == "x"} == {
        "x_train": 50,
        "x_test": 10,
        "x_val": 20,
    }


def test_several_inputs_and_outputs_keep_their_names() -> None:
    given = dataset({"left": X, "right": X[:, ::-1]}, {"kind": Y, "age": Y.astype(float)}).batch(8)
    arrays = arrays_of(given, {"left": (8, 6, 3), "right": (8, 6, 3)}).arrays
    np.testing.assert_array_equal(arrays["x_train"]["right"], X[:, ::-1])
    np.testing.assert_array_equal(arrays["y_train"]["age"], Y)


def test_images_without_an_axis_of_channels_are_told_from_batches() -> None:
    gray, shapes = X[..., 0], {"image": (8, 6, 1)}
    for given in (dataset(gray, Y), dataset(gray, Y).batch(8)):
        np.testing.assert_array_equal(arrays_of(given, shapes).arrays["x_train"], gray)


@pytest.mark.parametrize("shape", [(12,), (30, 4), (4, 4, 4, 2)])
def test_rows_series_and_volumes_are_batches_or_single(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(20, *shape)).astype(np.float32)
    for given in (dataset(x, Y[:20]), dataset(x, Y[:20]).batch(8), (x, Y[:20])):
        np.testing.assert_array_equal(arrays_of(given, {"x": shape}).arrays["x_train"], x)


def test_texts_of_a_dataset_stay_texts() -> None:
    labels = arrays_of(dataset(X, np.array(["cat", "dog"] * 25)).batch(8), SHAPES).arrays["y_train"]
    assert labels[:2].tolist() == [b"cat", b"dog"]


def endless() -> Iterator[Any]:
    for i in itertools.count():
        yield X[i % 50], Y[i % 50]


@pytest.mark.parametrize("form", ["generator", "tf.data"])
def test_an_endless_set_is_cut_at_the_budget_and_this_is_said(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_data, "DATASET_BYTES", 20 * (X[0].nbytes + 8))
    loaded = arrays_of(endless() if form == "generator" else dataset(X, Y).repeat(), SHAPES)
    np.testing.assert_array_equal(loaded.arrays["x_train"], X[:20])
    assert loaded.notes[0].startswith("train: only the first 20 images are used; more would not fit the budget of")


def test_a_long_set_is_cut_at_a_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_data, "DATASET_IMAGES", 16)
    assert len(arrays_of(generated(8), SHAPES).arrays["x_train"]) == 16


def test_weights_of_images_are_said_to_be_unused() -> None:
    loaded = arrays_of(dataset(X, Y, np.ones(50)).batch(10), SHAPES)
    assert loaded.notes == ("train: weights of images are not used.",)


def test_other_names_of_a_mapping_are_given_by_keys() -> None:
    arrays = arrays_of({"pictures": X, "y_train": Y}, SHAPES, {"x_train": "pictures"}).arrays
    assert set(arrays) == {"x_train", "y_train"}


def read_before() -> Any:
    given = generated()
    list(given)
    return given


WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (lambda: None, "the data should be arrays by name, .* but got NoneType"),
    "number": (lambda: 3, "but got int"),
    "four": (lambda: (X, Y, X, Y), "but got a tuple of 4"),
    "read before": (read_before, "the data gave no batch: the generator is empty, or was read before"),
    "sizes": (lambda: iter([(X[0], 1), (X[0][:5], 1)]), "the batches of the data have different shapes"),
    "axes": (lambda: dataset(X[None, None]), "have the shape .*, but the model takes .* an image"),
    "dicts": (lambda: dataset({"a": X, "b": Y}), "should be .x, y. or have 'image' and 'label', but have: a, b"),
    "no train": (lambda: {"test": (X, Y)}, "the data lack train; they have test"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_data_is_told_in_one_line(name: str) -> None:
    given, words = WRONG[name]
    with pytest.raises(LrfError, match=words) as caught:
        arrays_of(given(), SHAPES)
    assert "\n" not in str(caught.value)
