"""What a report says beside the result is true of the run, and its code gives what the run has measured."""

from __future__ import annotations

import base64
import io
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from support.report import facts

from lrf_optuna.data.load_data import data_from_arrays
from lrf_optuna.data.preprocess import KerasPreprocess, NoPreprocess, Preprocess
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.pipeline.report_facts import (
    MOST_EXAMPLES,
    changed_decisions,
    command_line,
    hugging_face_task,
    image_uses,
    png_of,
    prepare_code,
    sensitivity_of,
    usage_of,
)
from lrf_optuna.report.facts import Facts
from lrf_optuna.report.loading import loading_code

if TYPE_CHECKING:
    from pathlib import Path

    from lrf_optuna.data.dataset import Data


def test_the_code_to_copy_gives_what_the_run_has_measured(tmp_path: Path, digits: Data, digits_net: Any) -> None:
    file = tmp_path / "model.keras"
    digits_net.save(file)
    code = loading_code(facts(recipe=usage_of(digits_net, digits)), str(file))
    scope: dict[str, Any] = {"pixels": digits.test.pixels}
    exec(code, scope)
    outputs = Evaluator(digits_net, digits.preprocess).outputs(digits.test.pixels)
    assert np.allclose(scope["outputs"], outputs["logits"], atol=1e-4)
    assert np.mean(scope["classes"] == digits.test.labels) > 0.9


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(255.0),
        Preprocess(255.0, (0.5,), (0.25,)),
        Preprocess(1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        Preprocess(1.0, (0.0,), (2.0,)),
        KerasPreprocess("resnet"),
        NoPreprocess(),
    ],
    ids=str,
)
def test_the_code_of_a_preprocessing_does_what_it_does(preprocess: Any, digits: Data) -> None:
    import keras

    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    code = prepare_code(replace(digits, preprocess=preprocess), ["x"])
    scope: dict[str, Any] = {"pixels": pixels, "np": np, "keras": keras}
    exec(code, scope)
    assert np.allclose(scope["x"], preprocess(pixels), atol=1e-4)


def test_several_inputs_are_prepared_by_name(digits: Data) -> None:
    scope: dict[str, Any] = {"pixels": {"a": np.ones((2, 3)), "b": np.zeros((2, 1))}}
    exec(prepare_code(digits, ["a", "b"]), scope)
    assert scope["x"]["a"].max() == 1 / 16


def test_what_images_are_used_for_is_true_of_this_run(digits: Data) -> None:
    whole = image_uses(digits, 64)
    assert {name: use.count for name, use in whole.items()} == {
        "calibration": 64,
        "training": len(digits.train),
        "validation": len(digits.val),
        "test": len(digits.test),
    }
    assert whole["validation"].source == "given as a part of the data"
    arrays = {"x_train": digits.train.pixels, "y_train": digits.train.labels}
    split = data_from_arrays(arrays, classes=10)
    uses = image_uses(split, 64)
    assert uses["test"].source == "split off the training images"
    assert uses["validation"].source.startswith("split off the training images; as they are few, training images join")


def test_changed_decisions_are_counted_by_what_was_right(digits: Data) -> None:
    labels = digits.test.labels
    before, after = np.eye(10)[labels], np.eye(10)[labels]
    before[:3] = np.eye(10)[(labels[:3] + 1) % 10]
    after[3:23] = np.eye(10)[(labels[3:23] + 1) % 10]
    found = changed_decisions(digits, {"logits": before}, {"logits": after})
    assert found
    assert (found.images, found.changed, found.now_wrong, found.now_right) == (len(labels), 23, 20, 3)
    assert len(found.examples) == MOST_EXAMPLES + 3
    first = found.examples[0]
    assert (first.label, first.before) == (str(labels[3]), str(labels[3]))
    assert first.after == str((labels[3] + 1) % 10)
    with Image.open(io.BytesIO(base64.b64decode(first.png))) as image:
        assert image.size == (8, 8)


def test_only_classifiers_have_changed_decisions_and_a_task_of_hugging_face(digits: Data) -> None:
    assert hugging_face_task(digits) == "image-classification"
    ((name, task),) = digits.tasks.items()
    numbers = replace(digits, tasks={name: replace(task, kind="numbers")})
    assert changed_decisions(numbers, {}, {}) is None
    assert hugging_face_task(numbers) == ""


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (np.zeros((2, 300, 200, 3), np.uint8), True),
        (np.full((2, 5, 5, 1), 0.5, np.float32), True),
        (np.zeros((2, 5, 5, 7), np.float32), False),
        (np.zeros((2, 5)), False),
        ({"a": np.zeros((2, 5, 5, 1))}, False),
    ],
)
def test_only_pictures_are_shown_and_small(pixels: Any, shown: bool) -> None:
    text = png_of(pixels, 1)
    assert bool(text) == shown
    if shown:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            assert max(image.size) <= 96


def test_the_command_has_no_password_and_python_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["/somewhere/lrf_optuna/__main__.py", "run", "--storage", "postgresql://me:secret@host/db"]
    monkeypatch.setattr(sys, "argv", given)
    assert command_line() == "lrf-optuna run --storage postgresql://me:***@host/db"
    monkeypatch.setattr(sys, "argv", ["notebook.py", "run"])
    assert command_line() == "from Python"


def test_the_sensitivity_of_every_layer_is_that_of_the_option_table(table: Any) -> None:
    found = sensitivity_of(table)
    assert set(found) == set(table)
    for site, pairs in found.items():
        for keep, loss in pairs:
            assert loss == min(o.loss for o in table[site] if o.keep == keep and o.choice.ranks)


def test_facts_are_read_as_they_were_written(tmp_path: Path) -> None:
    facts().write(tmp_path / "facts.json")
    assert Facts.read(tmp_path / "facts.json") == facts()
    (tmp_path / "facts.json").write_text("{}")
    assert Facts.read(tmp_path / "facts.json") is None
    assert Facts.read(tmp_path / "missing.json") is None
