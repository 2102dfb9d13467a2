"""Data of every source meet models of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna.config import StudySpec
from lrf_optuna.data import load_data
from lrf_optuna.data.preprocess import KerasPreprocess, Preprocess
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.pipeline import load_inputs
from lrf_optuna.pipeline.identity import data_identity
from lrf_optuna.pipeline.load_inputs import dataset, own_preprocess, with_original_labels
from lrf_optuna.pipeline.run import Run
from tests.support.data_files import write_images

X = np.random.default_rng(0).integers(0, 256, (60, 8, 6, 3), dtype=np.uint8)
Y = np.arange(60) % 3


def spec(data: str = "python:data", **options: Any) -> StudySpec:
    plain = StudySpec(name="x", model=ModelSpec(path="python:model"), data=DataSpec(path=data))
    return plain.override({key.replace("__", "."): value for key, value in options.items()})


def net(shape: tuple[int | None, ...], units: int = 3, activation: str | None = "softmax") -> keras.Model:
    x = inputs = keras.Input(shape, name="image")
    x = layers.Dense(4)(x)
    x = layers.Flatten()(x) if len(shape) < 3 else x
    x = {3: layers.GlobalAveragePooling2D, 4: layers.GlobalAveragePooling3D}.get(len(shape), layers.Identity)()(x)
    return keras.Model(inputs, layers.Dense(units, activation=activation)(x))


def copier() -> keras.Model:
    x = inputs = keras.Input((12, 20, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x))


def test_an_npz_of_images_alone_is_measured_against_the_original(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=X)
    model = net((8, 6, 3))
    data = with_original_labels(model, dataset(spec(str(tmp_path / "x.npz")), None, model))
    assert not data.tasks[OUTPUT].labeled
    assert data.notes[0].startswith("There are no labels: the outputs of the original stand for them")
    wanted = np.asarray(model(data.test.pixels.astype("float32"))).argmax(axis=1)
    np.testing.assert_array_equal(data.targets(data.test.labels)[OUTPUT], wanted)


def test_labels_are_left_alone_where_none_are_wanted(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=X, y_train=np.full(60, "odd"), x_test=X)
    data = dataset(spec(str(tmp_path / "x.npz"), output__labels="none"), None, net((8, 6, 3)))
    assert (data.tasks[OUTPUT].labeled, data.train.labels, len(data.test)) == (False, None, 60)
    assert not any("texts" in note for note in data.notes)


def test_a_test_part_without_labels_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        LrfError, match="x_test and y_test go together, but there is only x_test: give both, or --labels"
    ):
        dataset(spec(), {"x_train": X, "y_train": Y, "x_test": X}, net((8, 6, 3)))


def test_labels_that_are_texts_have_their_task() -> None:
    data = dataset(spec(), (X, np.array(["no", "yes"])[Y % 2]), net((8, 6, 3), 1, "sigmoid"))
    assert data.tasks[OUTPUT].kind == "binary"
    assert set(data.train.labels.tolist()) == {0, 1}
    assert any("no = 0, yes = 1" in note for note in data.notes)


@pytest.mark.parametrize("shape", [(12,), (30, 4), (30, 1), (4, 4, 4, 2)], ids=str)
def test_rows_series_and_volumes_are_data(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    for given in (x, x[..., 0] if shape[-1] == 1 else x):
        data = dataset(spec(data__divide=2), (given, Y), net(shape))
        assert data.train.pixels.shape[1:] == shape
        np.testing.assert_allclose(data.preprocess(data.test.pixels), data.test.pixels / 2, rtol=1e-6)


def test_loose_images_are_data_of_a_classifier_and_of_an_autoencoder(tmp_path: Path) -> None:
    write_images(tmp_path, 30)
    labeled = dataset(spec(str(tmp_path)), None, net((12, 20, 3)))
    assert not labeled.tasks[OUTPUT].labeled
    data = dataset(spec(str(tmp_path), data__divide=255), None, copier())
    assert (data.tasks[OUTPUT].kind, data.tasks[OUTPUT].labeled) == ("copy", True)
    part = data.test
    np.testing.assert_allclose(data.targets(part.labels)[OUTPUT], part.pixels / 255, rtol=1e-6)


def test_the_classes_of_folders_are_no_labels_of_an_autoencoder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 15)
    data = dataset(spec(str(tmp_path)), None, copier())
    assert data.tasks[OUTPUT].kind == "copy"
    assert dataset(spec(str(tmp_path)), None, net((12, 20, 3), 2)).tasks[OUTPUT].kind == "classes"


@pytest.mark.parametrize("setting", ["loss", "metric", "task", "weights"])
def test_a_setting_for_an_unknown_output_is_refused(setting: str) -> None:
    value = {"loss": "mse", "metric": "F1", "task": "classes", "weights": 2.0}[setting]
    with pytest.raises(LrfError, match="unknown output 'colour'; there is: logits"):
        dataset(spec(**{f"output__{setting}": {"colour": value}}), (X, Y), net((8, 6, 3)))


def test_series_are_not_flipped_which_is_said_before_any_work(tmp_path: Path) -> None:
    series = {
        "x_train": np.zeros((60, 16, 2), np.float32),
        "y_train": Y,
        "x_test": np.ones((6, 16, 2)),
        "y_test": Y[:6],
    }
    run = Run.open(spec(data__augment="flip"), tmp_path / "run", model=net((16, 2)), data=series)
    with pytest.raises(LrfError, match="augment 'flip' is for images"):
        run.search()
    assert not (tmp_path / "run" / "study.db").exists()


def test_labels_become_numbers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for module in (load_inputs, load_data):
        own = module.index_names
        monkeypatch.setattr(module, "index_names", lambda arrays, own=own: calls.append(1) or own(arrays))
    data = dataset(spec(), (X, np.array(["no", "yes"])[Y % 2]), net((8, 6, 3), 2))
    assert len(calls) == 1
    assert sum("no = 0, yes = 1" in note for note in data.notes) == 1


def test_a_generator_is_read_once() -> None:
    data = dataset(spec(), ((X[i], Y[i]) for i in range(60)), net((8, 6, 3)))
    assert len(data.train) + len(data.val) + len(data.test) == 60


def test_images_of_several_shapes_are_told_in_one_line() -> None:
    with pytest.raises(LrfError, match="x_train should be an array, but its parts have different shapes") as caught:
        dataset(spec(), ([X[0], X[0][:5]], [0, 1]), net((8, 6, 3)))
    assert "\n" not in str(caught.value)


def test_keys_name_the_arrays_of_a_mapping() -> None:
    data = dataset(spec(data__keys={"x_train": "X", "y_train": "y"}), {"X": X, "y": Y}, net((8, 6, 3)))
    assert data.tasks[OUTPUT].kind == "classes"


def test_the_identity_of_data_is_that_of_all_inputs() -> None:
    x = {name: keras.Input((8, 6, 3), name=name) for name in ("left", "right")}
    both = layers.GlobalAveragePooling2D()(layers.Concatenate()([*x.values()]))
    model = keras.Model(x, layers.Dense(3)(both))
    one, again, other = (
        dataset(spec(), {"x_train": {"left": X, "right": right}, "y_train": Y}, model) for right in (X, X.copy(), X + 1)
    )
    assert data_identity(spec(), one) == data_identity(spec(), again) != data_identity(spec(), other)


def of_keras(**options: Any) -> StudySpec:
    return spec(**options).override({"model.path": "keras:VGG16"})


def test_a_network_of_keras_prepares_pixels_as_in_its_training_and_says_so() -> None:
    own, notes = own_preprocess(of_keras())
    assert own.preprocess == "keras:vgg16"
    assert len(notes) == 1
    assert "keras:vgg16" in notes[0]


@pytest.mark.parametrize("option", [{"divide": 1}, {"mean": [0]}, {"std": [2]}, {"preprocess": "none"}])
def test_what_is_said_of_pixels_wins_over_what_the_network_knows(option: dict[str, Any]) -> None:
    given = of_keras(**{f"data__{key}": value for key, value in option.items()})
    assert own_preprocess(given) == (given.data, ())
    assert own_preprocess(StudySpec.from_json(given.model_dump_json()))[1] == (), "also after the study was stored"


def test_other_models_take_pixels_as_they_are() -> None:
    data = dataset(spec(), (X, Y), net((8, 6, 3)))
    assert data.preprocess == Preprocess()
    data = dataset(spec(data__preprocess="keras:resnet"), (X, Y), net((8, 6, 3)))
    assert data.preprocess == KerasPreprocess("resnet")
