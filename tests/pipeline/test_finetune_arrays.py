"""The public fine-tune takes what `compress` takes: models, arrays and the keys of [tune]."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from support.evaluation import accuracy

import lrf_optuna
from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.pipeline.finetune import finetune
from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.sections import TuneSpec
from lrf_optuna.training.losses import check_own_losses

QUIET: dict[str, Any] = {"epochs": 1, "rate": 1e-2, "progress": None, "preprocess": {"divide": 16}}


@pytest.fixture
def arrays(digits: Data) -> dict[str, Any]:
    parts = {"train": digits.train, "val": digits.val, "test": digits.test}
    return {f"x_{n}": p.pixels for n, p in parts.items()} | {f"y_{n}": p.labels for n, p in parts.items()}


def smaller(model: Any, digits: Data) -> Any:
    """The network with a plain SVD in the place of its hidden layer."""
    images = digits.preprocess(digits.train.pixels[:64])
    proxy = lrf_optuna.Proxy(model, images, refit=False)
    assert "hidden" in {site.name for site in find_sites(model).sites}
    return lrf_optuna.build(model, Plan.of({"hidden": Choice("svd", (3,))}), proxy)


def test_its_arguments_are_the_keys_of_the_section_with_their_defaults() -> None:
    own = {name: one.default for name, one in inspect.signature(finetune).parameters.items()}
    keys = {name: field.default for name, field in TuneSpec.model_fields.items() if name != "calibrate"}
    assert own.items() >= keys.items()
    assert lrf_optuna.finetune is finetune


def test_a_smaller_network_gets_better_in_place(digits_net: Any, digits: Data, arrays: dict[str, Any]) -> None:
    model = smaller(digits_net, digits)
    before = accuracy(model, digits, digits.val)
    tuned = lrf_optuna.finetune(model, digits_net, arrays, **QUIET)
    assert tuned.val_metric[0] == pytest.approx(before)
    assert accuracy(model, digits, digits.val) == tuned.val_metric[tuned.kept_epoch] > before


def test_without_labels_the_original_is_the_goal(digits_net: Any, digits: Data, arrays: dict[str, Any]) -> None:
    model = smaller(digits_net, digits)
    images = {name: array for name, array in arrays.items() if name.startswith("x_")}
    before, *_, after = lrf_optuna.finetune(model, digits_net, images, **QUIET).val_metric
    assert after > before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, "epochs should be 1 or more"),
        ({"epochs": -1}, "epochs should be 1 or more, but got -1"),
        ({"epochs": "3"}, "epochs should be 1 or more, but got '3'"),
        ({"data": None}, "the data should be arrays, a data set or a file, but got None"),
        ({"preprocess": 5}, "preprocess should be keras:MODULE or a dict, but got int"),
        ({"trials": 5}, "unknown keyword 'trials'"),
        ({"loss": lambda labels, outputs: (labels[:, None] - outputs) ** 2}, "cannot be computed from labels"),
        ({"rate": -1.0}, "rate should be greater than 0"),
        ({"optimizer": "adam"}, "optimizer should be"),
        ({"loss": "huber"}, "cannot be computed from labels (16,) and outputs (16, 10)"),
        ({"preprocess": {"divide": 16, "augment": "turn"}}, "augment should be"),
        ({"callbacks": ["x"]}, "callbacks should be callbacks of Keras"),
        ({"callbacks": keras.callbacks.History}, "callbacks should be callbacks of Keras, but got type"),
        ({"callbacks": 5}, "callbacks should be callbacks of Keras, but got int"),
        ({"distil_by": "logits", "distil": 0}, "distil_by needs a distillation"),
        ({"original": "net.keras"}, "should be Keras models, but got str"),
        (
            {"original": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])},
            "inputs and outputs of its original",
        ),
        ({"data": Path("none.npz")}, "no such data"),
    ],
)
def test_what_does_not_fit_is_one_line(
    digits_net: Any, digits: Data, arrays: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    given = {"model": smaller(digits_net, digits), "original": digits_net, "data": arrays} | QUIET | change
    weights = given["model"].get_weights()
    with pytest.raises(LrfError) as caught:
        lrf_optuna.finetune(**given)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert all(np.array_equal(one, other) for one, other in zip(weights, given["model"].get_weights(), strict=True))


def test_a_network_is_not_its_own_original(digits_net: Any, arrays: dict[str, Any]) -> None:
    with pytest.raises(LrfError, match="are the same object"):
        lrf_optuna.finetune(digits_net, digits_net, arrays, **QUIET)


def test_a_loss_is_tried_with_the_labels_that_the_original_gives(
    digits_net: Any, digits: Data, arrays: dict[str, Any]
) -> None:
    images = {name: array for name, array in arrays.items() if name.startswith("x_")}
    with pytest.raises(LrfError, match="cannot be computed from labels"):
        lrf_optuna.finetune(smaller(digits_net, digits), digits_net, images, loss="huber", **QUIET)


def test_a_reason_of_keras_is_told_in_its_own_words() -> None:
    message = "{{node a}} needs one column\n\nArguments received by Loss.call():\n  labels"

    def loss(labels: Any, outputs: Any) -> Any:
        raise ValueError(message)

    with pytest.raises(LrfError, match=r"needs one column\): give another --loss"):
        check_own_losses({"y": loss}, {"y": np.zeros(3)}, {"y": np.zeros((3, 2))})
