"""Whole runs on data in the forms that people have."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import lrf_optuna
from lrf_optuna.cli.app import app
from lrf_optuna.data.load_data import load_data
from lrf_optuna.input_sections import DataSpec
from lrf_optuna.models.load import load_model
from tests.support.data_files import write_image

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

SPACE: dict[str, Any] = {
    "trials": 6,
    "methods": ("svd",),
    "keep": (0.2, 0.5),
    "calibration": 64,
    "population": 6,
    "time_at_end": False,
}
OPTIONS = (
    *("--methods", "svd", "--keep", "0.2,0.5", "--calibration", "64", "--population", "6", "--trials", "6"),
    "--no-timing",
)
PIXELS = ("--divide", "240")  # a digit's pixels of 0..16 are written as 0..240, and the network takes 0..1


@pytest.fixture
def desk(digits_net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.keras."""
    digits_net.save(tmp_path / "net.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(pixels: Any) -> Any:
    return (15 * pixels[..., 0]).astype(np.uint8)


def run(*args: str) -> tuple[str, dict[str, Any]]:
    """What a run says, and its result.json."""
    command = ["run", "--model", "net.keras", "--name", "x", "--no-tune", *OPTIONS, *args]
    outcome = CliRunner().invoke(app, command, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert outcome.exit_code == 0, outcome.stderr or outcome.exception
    return outcome.stdout, json.loads(Path("runs/x/result.json").read_text(encoding="utf-8"))


def test_a_csv_file_of_pictures_runs(desk: Path, digits: Data) -> None:
    rows = []
    for part, images in (("train", digits.train), ("test", digits.test)):
        for i, (pixels, label) in enumerate(zip(images.pixels[:400], images.labels[:400], strict=True)):
            write_image(desk / "pictures" / part / f"{i}.png", picture(pixels))
            rows.append({"file": f"pictures/{part}/{i}.png", "digit": int(label), "split": part})
    with (desk / "digits.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "digit", "split"])
        writer.writeheader()
        writer.writerows(rows)
    said, result = run("--data", "digits.csv", *PIXELS)
    assert "Columns of the CSV file: 'file' has the images; 'digit' has the labels; 'split' has the parts." in said
    assert result["original"]["test_metric"] > 0.9


def test_loose_pictures_of_16_bits_run_without_labels(desk: Path, digits: Data) -> None:
    for i, pixels in enumerate(digits.train.pixels[:300]):
        write_image(desk / "pictures" / f"{i}.png", picture(pixels).astype("uint16") * 257)
    said, result = run("--data", "pictures", *PIXELS)
    assert "There are no labels: the outputs of the original stand for them" in said
    assert "300 of 300 images have 16 bits; their values are scaled to 0..255." in said
    assert result["original"]["test_metric"] == 1


def test_npy_files_of_other_names_run_from_a_study_file(desk: Path, digits: Data) -> None:
    (desk / "arrays").mkdir()
    for name, array in {"X": digits.train.pixels, "y": digits.train.labels}.items():
        np.save(desk / "arrays" / f"{name}.npy", array)
    text = (
        '[model]\npath = "net.keras"\n[data]\npath = "arrays"\ndivide = 16\n[data.keys]\nx_train = "X"\ny_train = "y"\n'
    )
    (desk / "mine.toml").write_text(f'name = "x"\n{text}', encoding="utf-8")
    args = ["run", "mine.toml", "--no-tune", *OPTIONS]
    outcome = CliRunner().invoke(app, args, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert outcome.exit_code == 0, outcome.stderr or outcome.exception
    assert json.loads(Path("runs/x/result.json").read_text(encoding="utf-8"))["original"]["test_metric"] > 0.9


def test_compress_takes_datasets_of_tensorflow(digits_net: Any, digits: Data, tmp_path: Path) -> None:
    parts = {
        part: tf.data.Dataset.from_tensor_slices((images.pixels, images.labels)).batch(32)
        for part, images in (("train", digits.train), ("test", digits.test))
    }
    small, result = lrf_optuna.compress(
        digits_net, parts, tune=1, out=tmp_path / "out", preprocess={"divide": 16}, **SPACE
    )
    right = np.asarray(small(digits.preprocess(digits.test.pixels))).argmax(axis=1) == digits.test.labels
    assert right.mean() == pytest.approx(result.tuned.test_metric, abs=1e-9)


def test_compress_takes_a_pair_of_arrays_without_labels_too(digits_net: Any, digits: Data, tmp_path: Path) -> None:
    given = {"preprocess": {"divide": 16}, "tune": False, **SPACE}
    _, labeled = lrf_optuna.compress(
        digits_net, (digits.train.pixels, digits.train.labels), out=tmp_path / "a", **given
    )
    _, unlabeled = lrf_optuna.compress(digits_net, digits.train.pixels, out=tmp_path / "b", **given)
    assert labeled.original.test_metric < unlabeled.original.test_metric == 1


def test_a_net_of_the_zoo_is_trained_on_npy_files(digits: Data, tmp_path: Path) -> None:
    np.save(tmp_path / "x_train.npy", digits.train.pixels[:200])
    np.save(tmp_path / "y_train.npy", digits.train.labels[:200])
    data = load_data(DataSpec(path=str(tmp_path), divide=16), 0)
    assert load_model("zoo:digits_cnn", data=data).output_shape == (None, 10)
