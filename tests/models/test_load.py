"""A model comes from where its path says, trained; what cannot be used says why."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
from keras import layers
from support.heads import head_at

from lrf_optuna.cli.studies import find_study
from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.load_data import data_from_arrays, load_data
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.load import describe_input, load_model
from lrf_optuna.models.zoo import ZOO
from lrf_optuna.progress import Silent, Step

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(StudySpec.from_toml(find_study("digits")).data, 0, (8, 8, 1), 10)


class Counted(Silent):
    """Appends the number of every epoch to a list."""

    def __init__(self, epochs: list[int]) -> None:
        self.epochs = epochs

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Step]:
        yield lambda n, note="": self.epochs.append(len(self.epochs) + 1)


@pytest.fixture(scope="module")
def trained(digits: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path, list[int]]:
    """The digits net, the folder of its cache, and the epochs that were reported."""
    cache, epochs = tmp_path_factory.mktemp("zoo") / "made", []
    model = load_model("zoo:digits_cnn", cache=cache, data=digits, progress=Counted(epochs))
    return model, cache, epochs


def accuracy(model: keras.Model, data: Data) -> float:
    logits = model(data.preprocess(data.test.pixels), training=False)
    return float((np.argmax(logits, axis=1) == data.test.labels).mean())


def small(classes: int = 3) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(classes)])


def test_the_digits_net_is_trained_to_98_percent(trained: tuple[keras.Model, Path, list[int]], digits: Data) -> None:
    model, _, epochs = trained
    assert accuracy(model, digits) >= 0.98
    assert epochs == list(range(1, 9))
    assert 80_000 <= model.count_params() <= 110_000


def test_a_net_of_the_zoo_is_trained_once_for_the_same_images(
    trained: tuple[keras.Model, Path, list[int]], digits: Data
) -> None:
    model, cache, _ = trained
    epochs: list[int] = []
    again = load_model("zoo:digits_cnn", cache=cache, data=digits, progress=Counted(epochs))
    assert not epochs, "trained again"
    assert [path.name for path in cache.iterdir()] == ["original.keras"]
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def few(seed: int) -> Data:
    """A hundred digits, for the laws that do not need a good net."""
    data = load_data(StudySpec.from_toml(find_study("digits")).data, 0)
    train = data.calibration(100, seed)
    parts = {"train": train, "test": data.test, "val": data.val}
    pixels = {f"x_{name}": part.pixels for name, part in parts.items()}
    return data_from_arrays(pixels | {f"y_{name}": part.labels for name, part in parts.items()})


def test_training_follows_the_seed_and_other_images_mean_another_net(tmp_path: Path) -> None:
    first = load_model("zoo:digits_cnn", data=few(0), seed=5).get_weights()
    again = load_model("zoo:digits_cnn", data=few(0), seed=5, cache=tmp_path).get_weights()
    other = load_model("zoo:digits_cnn", data=few(1), seed=5, cache=tmp_path).get_weights()
    np.testing.assert_allclose(first[0], again[0], atol=1e-4)
    assert np.abs(first[0] - other[0]).max() > 1e-2


@pytest.fixture(scope="module", params=ZOO)
def net(request: pytest.FixtureRequest) -> tuple[str, keras.Model]:
    """The name and the untrained net of every line of the zoo."""
    return request.param, ZOO[request.param](0, request.param)


LITERATURE = {
    "digits_cnn": ((8, 8, 1), 10, 82_666),
    "lenet300100": ((28, 28, 1), 10, 266_610),
    "lenet5": ((28, 28, 1), 10, 431_080),
}
"""Images, classes and parameters; those of digits_cnn are its own."""


def test_a_net_of_the_zoo_is_the_one_of_its_paper(net: tuple[str, keras.Model]) -> None:
    name, model = net
    assert model.name == name
    assert (*describe_input(model), model.count_params()) == LITERATURE[name]
    assert not head_at(model).activation


def test_all_weights_of_a_net_of_the_zoo_are_in_layers_that_can_be_factorized(net: tuple[str, keras.Model]) -> None:
    inventory = find_sites(net[1])
    assert {row.kind for row in inventory.rows if row.params and not row.site} <= {"BatchNormalization"}
    assert {site.op.groups for site in inventory.sites} == {1}


@pytest.mark.parametrize("name", ZOO)
def test_an_untrained_net_of_the_zoo_follows_the_seed(name: str) -> None:
    first, again, other = (ZOO[name](seed, name).weights[0].numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_a_net_of_the_zoo_does_not_take_other_images(digits: Data) -> None:
    with pytest.raises(LrfError, match=r"takes \(28, 28, 1\) images in 10 classes, but the data are \(8, 8, 1\) in 10"):
        load_model("zoo:lenet5", data=digits)


def test_a_net_of_the_zoo_needs_data() -> None:
    with pytest.raises(LrfError, match="zoo:digits_cnn is trained on first use: give it data"):
        load_model("zoo:digits_cnn")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("zoo:digits", r"unknown net of the zoo 'digits' .*there is: digits_cnn, lenet300100, lenet5"),
        ("keras:ResNet5", r"unknown network of keras.applications 'ResNet5' \(did you mean 'ResNet50'\?\); there is:"),
        ("model.onnx", r"model.onnx is no model: give a .keras, .h5 or .hdf5 file, zoo:NAME, keras:NAME or package"),
        ("nowhere/model.keras", r"no such model file: nowhere/model.keras"),
        ("no_such_package:build", r"cannot import no_such_package:build \(package.module:function\): No module named"),
        ("lrf_optuna.models.zoo:lenet6", r"cannot import lrf_optuna.models.zoo:lenet6 .* has no attribute 'lenet6'"),
        ("builtins:dict", r"builtins:dict should return a keras.Model, but returned dict"),
    ],
)
def test_a_model_that_is_not_there_is_told_in_one_line(path: str, words: str) -> None:
    with pytest.raises(LrfError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_network_of_keras_is_asked_for_its_imagenet_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.applications, "MobileNet", lambda weights: small() if weights == "imagenet" else None)
    assert load_model("keras:MobileNet").count_params() == 64 * 3 + 3


def test_a_failed_download_says_what_to_give_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(weights: str) -> None:
        raise Exception(f"URL fetch failure on {weights}")  # as Keras does

    monkeypatch.setattr(keras.applications, "MobileNet", fail)
    with pytest.raises(LrfError, match=r"could not download keras:MobileNet \(URL fetch failure.*\); give a \.keras"):
        load_model("keras:MobileNet")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_gives_the_model_that_was_saved(tmp_path: Path, suffix: str) -> None:
    model, path = small(), tmp_path / f"net{suffix}"
    model.save(path)
    np.testing.assert_array_equal(load_model(str(path)).get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(
        LrfError, match=r"cannot load .*net[^\n]*: it is no Keras file but something else; give a .keras, [^\n]+$"
    ):
        load_model(str(path))


class Mine(layers.Layer):
    """A layer that Keras cannot know when it loads a file."""

    def call(self, inputs: object) -> object:
        return inputs


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: Mine(), "it uses the custom layer 'Mine'; load it in a function and give package.module:function"),
        (lambda: layers.Lambda(lambda x: x + 1), "it has a Lambda layer, .*; load it in a function and give package"),
    ],
    ids=["custom", "lambda"],
)
def test_a_layer_that_keras_cannot_load_is_named(tmp_path: Path, suffix: str, layer: object, words: str) -> None:
    path = tmp_path / f"net{suffix}"
    assert callable(layer)
    keras.Sequential([keras.Input((8, 8, 1)), layer(), layers.Flatten(), layers.Dense(3)]).save(path)
    with pytest.raises(LrfError, match=words):
        load_model(str(path))


def test_a_function_of_the_current_directory_gives_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from lrf_optuna.models.zoo import lenet300100\n\ndef build():\n    return lenet300100()\n"
    (tmp_path / "net_of_this_test.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_model("net_of_this_test:build").count_params() == 266_610


def test_a_model_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import keras\n\ndef build():\n    return keras.Sequential([keras.layers.Dense(3)])\n"
    (tmp_path / "unbuilt_of_this_test.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LrfError, match="has no weights yet: build and train it first"):
        load_model("unbuilt_of_this_test:build")


def test_a_model_is_described_by_its_images_and_outputs() -> None:
    assert describe_input(small()) == ((8, 8, 1), 3)
    anything = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(4)])
    assert describe_input(anything) == ((None, None, 3), 4)


def two_inputs() -> keras.Model:
    inputs = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    return keras.Model(inputs, layers.Flatten()(layers.Add()(inputs)))


class Subclassed(keras.Model):
    """A model without a graph."""

    def call(self, inputs: object) -> object:
        return inputs


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (two_inputs, "with one input and one output, but has 2 inputs and 1 outputs"),
        (Subclassed, "with one input and one output, but has 0 inputs and 0 outputs"),
        (
            lambda: keras.Sequential([keras.Input(()), layers.Reshape((1,)), layers.Dense(3)]),
            r"images \(N, H, W, C\) or other arrays, but takes \(None,\)",
        ),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)]), r"but gives \(None, 6, 6, 2\)"),
    ],
    ids=["two inputs", "subclassed", "no images", "no classes"],
)
def test_a_model_of_another_kind_says_what_it_is(build: object, words: str) -> None:
    assert callable(build)
    with pytest.raises(LrfError, match=words):
        describe_input(build())


def test_the_reason_is_the_last_line_of_the_message_of_keras(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    small().save(path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"units": 3', b'"units": 3, "colour": 7')
    with zipfile.ZipFile(path, "w") as whole:
        for name, part in parts.items():
            whole.writestr(name, part)
    with pytest.raises(LrfError, match=r"cannot load .*net.keras: .*Unrecognized keyword.*colour"):
        load_model(str(path))


@pytest.mark.parametrize("path", ["nowhere/model.keras", "nowhere/model.h5", "model.onnx"])
def test_a_wrong_path_is_refused_before_keras_is_imported(path: str) -> None:
    code = (
        "import sys\nfrom lrf_optuna.errors import LrfError\nfrom lrf_optuna.models.load import load_model\n"
        f"try:\n    load_model({path!r})\nexcept LrfError as error:\n    print(error, 'keras' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "model" in said
    assert said.strip().endswith("False")


def test_another_backend_of_keras_is_refused_in_one_line() -> None:
    code = (
        "import lrf_optuna\nfrom lrf_optuna.errors import LrfError\n"
        "try:\n    lrf_optuna.find_sites\nexcept LrfError as error:\n    print(error)"
    )
    env = os.environ | {"KERAS_BACKEND": "torch"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout == "Keras runs on torch, but lrf_optuna needs TensorFlow: set KERAS_BACKEND=tensorflow\n"


def test_training_a_net_of_the_zoo_leaves_the_random_numbers_of_the_process_alone() -> None:
    numbers = []
    for train in (False, True):
        keras.utils.set_random_seed(3)
        if train:
            load_model("zoo:digits_cnn", data=few(0), seed=5)
        numbers.append((random.random(), np.random.random(), float(keras.random.uniform(()))))
    assert numbers[0] == numbers[1]
