"""The result of `compress` in Python: its front, figures and report, another point of it, other runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lrf_optuna
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.result import Result

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

FAST: dict[str, Any] = {
    "trials": 8,
    "methods": ("svd", "tucker2"),
    "keep": (0.2, 0.4, 0.7),
    "calibration": 64,
    "population": 6,
    "preprocess": {"divide": 16},
    "time_at_end": False,
    "progress": None,
}
DATA_NAMES = ("train", "val", "test")


@pytest.fixture(scope="module")
def arrays(digits: Data) -> dict[str, Any]:
    parts = {name: getattr(digits, name) for name in DATA_NAMES}
    return {f"x_{n}": p.pixels for n, p in parts.items()} | {f"y_{n}": p.labels for n, p in parts.items()}


@pytest.fixture
def found(digits_net: Any, arrays: dict[str, Any], tmp_path: Path) -> Any:
    _, result = lrf_optuna.compress(digits_net, arrays, tune=False, out=tmp_path / "run", **FAST)
    return result


def test_a_result_is_shown_in_one_short_line_and_as_a_table_in_a_notebook(found: Any) -> None:
    assert isinstance(found, Result)
    assert len(repr(found)) < 200
    assert "\n" not in repr(found)
    assert "of the parameters" in repr(found)
    html = found._repr_html_()
    assert html.count("<tr") >= 5
    assert "test accuracy" in html
    assert "report.html" in html


def test_the_front_has_a_row_for_every_point_with_its_costs_and_its_metric(found: Any) -> None:
    rows = found.front
    assert [row["trial"] for row in rows] == [point.trial for point in found.points]
    names = ["trial", "metric", "state", "loss", "params", "macs", "milliseconds", "name", "chosen"]
    assert all(list(row) == names for row in rows)
    known = [row for row in rows if row["metric"] is not None]
    assert all(0 < row["metric"] <= 1 and row["state"] for row in known)
    assert any(row["chosen"] for row in known)
    assert len({tuple(row) for row in rows}) == 1
    assert [row["trial"] for row in rows if row["chosen"]] == [found.chosen.trial]
    json.dumps(rows)


def test_figures_and_the_report_are_there_by_name(found: Any) -> None:
    assert {"front-2d", "hypervolume", "layers"} <= set(found.figures)
    assert all(hasattr(figure, "show") for figure in found.figures.values())
    assert found.report.exists()
    assert found.report.parent == found.folder


def test_another_point_is_chosen_without_another_search(found: Any, digits_net: Any) -> None:
    small, other = found.choose(target={"params": 0.5})
    assert other.chosen.costs["params"] <= 0.5
    assert small.count_params() == other.final.params < 0.5 * digits_net.count_params()
    assert (other.trials, other.tuned) == (found.trials, None)
    largest = found.front[-1]["trial"]
    model, by_number = other.choose(largest)
    assert by_number.chosen.trial == largest
    assert model.count_params() == by_number.final.params
    _, tuned = found.choose(largest, tune=1)
    assert tuned.tuned is not None
    assert tuned.tuned.epochs == 1


def test_a_choice_that_does_not_fit_is_an_error_in_the_words_of_python(found: Any) -> None:
    with pytest.raises(LrfError, match="trial 99 is no finished trial of this study"):
        found.choose(99)
    with pytest.raises(LrfError, match="unknown point 'smal'"):
        found.choose("smal")
    with pytest.raises(LrfError, match="point=1 is a point already"):
        found.choose(1, max_drop=2)
    with pytest.raises(LrfError, match="max_drop should"):
        found.choose(max_drop=-1)
    with pytest.raises(LrfError, match=r"no point of the front meets params <= 0\.001"):
        found.choose(target={"params": 0.001})


def test_the_model_of_a_result_is_exported_and_compared_on_its_own_images(found: Any, tmp_path: Path) -> None:
    row = found.export(tmp_path / "small.tflite")
    assert (tmp_path / "small.tflite").stat().st_size == row.file_bytes
    assert row.real_images
    assert row.metric == pytest.approx(found.final.test_metric, abs=0.02)


def test_the_same_data_as_a_dataset_goes_on_and_other_data_have_their_own_study(
    digits_net: Any, digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    few = FAST | {"trials": 2, "tune": False}
    for count in (600, 600, 500):
        train = digits.train.pixels[:count], digits.train.labels[:count]
        batches = tf.data.Dataset.from_tensor_slices(train).batch(50)
        test = digits.test.pixels, digits.test.labels
        lrf_optuna.compress(digits_net, {"train": batches, "test": test}, **few)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_another_question_about_the_same_files_has_its_own_study(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    digits_net.save("net.keras")
    np.savez("images.npz", **arrays)
    for seed in (0, 0, 1):
        lrf_optuna.compress("net.keras", "images.npz", seed=seed, **FAST | {"trials": 2, "tune": False})
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names[0] == "images-net"  # as on the command line
    assert len(names) == 2


def test_progress_is_shown_on_stderr_unless_it_is_turned_off(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    few = FAST | {"trials": 2, "tune": False}
    lrf_optuna.compress(digits_net, arrays, out=tmp_path / "silent", **few)
    assert "trials" not in capfd.readouterr().err
    lrf_optuna.compress(digits_net, arrays, out=tmp_path / "shown", **few | {"progress": True})
    shown = capfd.readouterr()
    assert "trials" in shown.err
    assert "trials" not in shown.out
    assert "--" not in shown.err.replace("--:--", "")
