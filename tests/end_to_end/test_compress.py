"""The Python API does what the command line does, and the wheel holds what a run needs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

import lrf_optuna
from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

FAST: dict[str, Any] = {
    "trials": 6,
    "methods": ("svd", "tucker2"),
    "keep": (0.2, 0.4, 0.7),
    "calibration": 64,
    "population": 6,
    "preprocess": {"divide": 16},
    "time_at_end": False,
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arrays(digits: Data) -> dict[str, Any]:
    parts = {"train": digits.train, "val": digits.val, "test": digits.test}
    return {f"x_{n}": p.pixels for n, p in parts.items()} | {f"y_{n}": p.labels for n, p in parts.items()}


def test_compress_gives_a_smaller_model_and_its_result_and_leaves_the_files(
    digits_net: Any, digits: Data, arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, config = digits_net.get_weights(), digits_net.to_json()
    small, result = lrf_optuna.compress(digits_net, arrays, target={"params": 0.6}, tune=False, **FAST)
    assert small.count_params() == result.built.params < 0.6 * digits_net.count_params()
    assert result.tuned is None
    assert result.chosen.costs["params"] <= 0.6
    right = np.asarray(small(digits.preprocess(digits.test.pixels))).argmax(axis=1) == digits.test.labels
    assert right.mean() == pytest.approx(result.built.test_metric, abs=1e-9)
    (folder,) = (tmp_path / "runs").iterdir()
    left = {path.name for path in folder.iterdir()}
    assert left >= {"study.db", "plan.json", "model.keras", "result.json", "report.html"}
    assert json.loads((folder / "result.json").read_text()) == json.loads(result.to_json())
    assert digits_net.to_json() == config
    for one, other in zip(digits_net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_later_step_repeats_what_was_said_of_the_set_up(
    digits_net: Any, digits: Data, arrays: dict[str, Any], tmp_path: Path
) -> None:
    few = arrays | {"x_test": digits.test.pixels[:5], "y_test": digits.test.labels[:5]}
    _, first = lrf_optuna.compress(digits_net, few, tune=False, out=tmp_path, **FAST)
    said = "5 test images are too few to tell anything: give 10 or more"
    assert said in first.warnings
    _, other = lrf_optuna.compress(digits_net, few, target={"params": 0.6}, tune=False, out=tmp_path, **FAST)
    assert other.chosen != first.chosen
    assert other.trials == first.trials
    assert said in other.warnings
    assert said in json.loads((tmp_path / "result.json").read_text())["warnings"]


def test_tuning_leaves_the_original_and_what_was_given_as_they_are(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    before, trainable = digits_net.get_weights(), len(digits_net.trainable_variables)
    copies = {name: array.copy() for name, array in arrays.items()}
    small, result = lrf_optuna.compress(digits_net, arrays, tune=1, out=tmp_path / "out", **FAST)
    assert result.tuned.epochs == 1
    assert small.count_params() == result.tuned.params
    assert len(digits_net.trainable_variables) == trainable
    for one, other in zip(digits_net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, copies[name])


def test_compress_again_gives_the_model_that_is_there(digits_net: Any, arrays: dict[str, Any], tmp_path: Path) -> None:
    first, one = lrf_optuna.compress(digits_net, arrays, tune=False, out=tmp_path / "out", **FAST)
    stamp = (tmp_path / "out" / "model.keras").stat().st_mtime_ns
    second, other = lrf_optuna.compress(digits_net, arrays, tune=False, out=tmp_path / "out", **FAST)
    assert (tmp_path / "out" / "model.keras").stat().st_mtime_ns == stamp
    assert one.to_dict() == other.to_dict()
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def custom_net() -> Any:
    """A network with a layer of a class that is not registered."""
    import keras

    class Shift(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + 0.5

    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, activation="tanh"),
        Shift(),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers)


def test_compress_again_gives_a_model_whose_custom_layers_are_not_registered(
    arrays: dict[str, Any], tmp_path: Path
) -> None:
    model = custom_net()
    first, one = lrf_optuna.compress(model, arrays, tune=False, out=tmp_path, **FAST)
    second, other = lrf_optuna.compress(model, arrays, tune=False, out=tmp_path, **FAST)
    assert one.to_dict() == other.to_dict()
    images = arrays["x_test"][:8].astype(np.float32) / 16
    np.testing.assert_allclose(np.asarray(first(images)), np.asarray(second(images)), atol=1e-6)
    tuned, _ = lrf_optuna.compress(model, arrays, tune=1, out=tmp_path, **FAST)  # it begins with the built model
    assert tuned.count_params() == first.count_params()


def test_two_models_in_one_notebook_have_two_run_folders_and_the_same_one_resumes(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.chdir(tmp_path)
    few = FAST | {"trials": 2, "tune": False}
    for model in (digits_net, keras.models.clone_model(digits_net), digits_net):
        lrf_optuna.compress(model, arrays, **few)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    lrf_optuna.compress(digits_net, arrays, seed=1, **few)  # another question has another name
    assert len(list((tmp_path / "runs").iterdir())) == 3
    lrf_optuna.compress(digits_net, arrays, name="mine", **few)
    with pytest.raises(
        LrfError, match=r"another seed: give another name, .*`optuna delete-study --storage .* --study-name "
    ):
        lrf_optuna.compress(digits_net, arrays, name="mine", seed=1, **few)


def test_baselines_are_compared_with_what_compress_wrote(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lrf_optuna.compress(digits_net, arrays, name="mine", tune=False, **FAST)
    for study in ("mine", Path("runs") / "mine"):
        found = lrf_optuna.compare_baselines(study, [0.6], model=digits_net, data=arrays)
    assert lrf_optuna.Comparison.read(Path("runs/mine"), "mine") == found
    assert found.blocks[0].row("ours").fitted is not None
    assert "lagrangian" in (tmp_path / "runs" / "mine" / "report.html").read_text()
    with pytest.raises(LrfError, match="the model of this study was a Python object: give model"):
        lrf_optuna.compare_baselines("mine", [0.6])
    with pytest.raises(LrfError, match="the data of this study were a Python object: give data"):
        lrf_optuna.compare_baselines("mine", [0.6], model=digits_net)
    with pytest.raises(LrfError, match="no study nothing here"):
        lrf_optuna.compare_baselines("nothing", [0.6])


@pytest.mark.parametrize("kind", [str, Path])
def test_files_and_arrays_give_the_same(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, kind: type[str] | type[Path]
) -> None:
    digits_net.save(tmp_path / "net.keras")
    np.savez(tmp_path / "net.npz", **arrays)
    files = kind(tmp_path / "net.keras"), kind(tmp_path / "net.npz")
    _, named = lrf_optuna.compress(*files, tune=False, out=kind(tmp_path / "a"), **(FAST | {"trials": 3}))
    _, given = lrf_optuna.compress(digits_net, arrays, tune=False, out=tmp_path / "b", **(FAST | {"trials": 3}))
    assert (named.chosen, named.original.params, named.built.val_metric) == (
        given.chosen,
        given.original.params,
        given.built.val_metric,
    )


def without(arrays: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: array for key, array in arrays.items() if key != name}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "../up"}, "name should"),
    "trials": ({"trials": 0}, "trials should"),
    "target": ({"target": {"params": 3}}, "target"),
    "unknown target": ({"target": {"speed": 0.5}}, "speed"),
    "tune": ({"tune": -1}, "tune should"),
    "max_drop": ({"max_drop": -1.0}, "max_drop should"),
    "preprocess": ({"preprocess": {"divide": 0}}, "preprocess: divide should"),
    "unknown preprocess": ({"preprocess": {"devide": 16}}, "did you mean 'divide'"),
    "unknown keyword": ({"trails": 3}, "did you mean 'trials'"),
    "keywords listed": ({"speed": 3}, "batch, by, cache"),
    "tune and epochs": ({"epochs": 3}, "tune and epochs are the same setting"),
    "layer": ({"exclude": ["nothing*"]}, "exclude 'nothing*' fits no layer"),
    "limits": ({"layers": {"nothing": {"keep": (0.5, 1)}}}, "fits no layer that can be factorized"),
    "sampler": ({"sampler": "nsga"}, "unknown sampler 'nsga'"),
    "method": ({"methods": ("tuker2",)}, "did you mean 'tucker2'"),
    "model": ({"model": None}, "model"),
    "model file": ({"model": "none.keras"}, "no such model file"),
    "data file": ({"data": "none.npz"}, "no such data"),
    "no array": ({"data": {}}, "lack x_train"),
    "array name": ({"data": {"x_train": [], "y_train": [], "x_test": [], "y_test": [], "z": []}}, "unknown name 'z'"),
    "zoo": ({"model": "zoo:nothing"}, "unknown net of the zoo"),
    "out": ({"out": Path(__file__)}, "is not a folder"),
    "loss of another shape": ({"loss": "huber", "tune": 1}, "cannot be computed from labels"),
    "unknown loss": ({"loss": "nothing", "tune": 1}, "unknown loss 'nothing'"),
    "no loss": ({"loss": 5, "tune": 1}, "a loss should be a function of (labels, outputs)"),
    "loss of text": ({"loss": lambda labels, outputs: "no number", "tune": 1}, "cannot be computed"),
    "loss of nothing": ({"loss": lambda labels, outputs: outputs * float("nan"), "tune": 1}, "a finite number"),
    "rate": ({"rate": 1e300}, "rate should"),
    "distil": ({"distil": 1e300}, "distil should"),
    "callbacks without a fine-tune": ({"callbacks": [keras.callbacks.History()]}, "callbacks need a fine-tune"),
    "rate without a fine-tune": (
        {"rate": 0.01},
        "rate needs a fine-tune, but there are no epochs: give tune in the place",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_an_error_of_one_line_and_nothing_is_written(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    change, words = WRONG[what]
    asked: dict[str, Any] = {"model": digits_net, "data": arrays, "tune": False} | FAST | change
    with pytest.raises(LrfError) as caught:
        lrf_optuna.compress(asked.pop("model"), asked.pop("data"), **asked)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_anything_to_train_is_refused_before_the_search(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    import keras

    frozen = keras.models.clone_model(digits_net)
    frozen.set_weights(digits_net.get_weights())
    frozen.trainable = False
    for wish in ({}, {"tune": False, "calibrate": "always"}):
        with pytest.raises(LrfError, match=r"every layer is frozen: .*tune=False"):
            lrf_optuna.compress(frozen, arrays, out=tmp_path / "run", **(FAST | wish))
    assert not (tmp_path / "run" / "study.db").exists()


def test_layers_are_left_out_and_limited_from_python(digits_net: Any, arrays: dict[str, Any], tmp_path: Path) -> None:
    dense = [layer.name for layer in digits_net.layers if type(layer).__name__ == "Dense"]
    settings: dict[str, Any] = {"tune": False, "exclude": [dense[-1]], "rank_multiple": 2, "out": tmp_path, **FAST}
    settings["layers"] = {dense[0]: {"keep": (0.5, 1), "methods": ["svd"]}}
    _, result = lrf_optuna.compress(digits_net, arrays, **settings)
    rows = {row.name: row for row in result.layers}
    assert (rows[dense[-1]].method, rows[dense[-1]].reason) == ("intact", "left out by --exclude")
    assert rows[dense[0]].method in ("svd", "intact")
    assert all(rank % 2 == 0 for row in result.layers for rank in row.ranks if rank > 1)
    with pytest.raises(LrfError, match="another rank multiple"):
        lrf_optuna.compress(digits_net, arrays, **settings | {"rank_multiple": 4})
    with pytest.raises(LrfError, match="another set of limits of layers"):
        lrf_optuna.compress(digits_net, arrays, **settings | {"layers": {}})
    again = lrf_optuna.compress(digits_net, arrays, **settings)[1]
    assert again.chosen == result.chosen


def test_images_and_labels_that_do_not_fit_the_model_are_refused(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "takes": arrays | {"x_train": arrays["x_train"][:, 1:]},
        "outputs": arrays | {"y_val": arrays["y_val"] + 5},
        "lack x_train": without(arrays, "x_train"),
        "go together": without(arrays, "y_val"),
    }
    for words, data in wrong.items():
        with pytest.raises(LrfError, match=words):
            lrf_optuna.compress(digits_net, data, tune=False, out=tmp_path / "out", **FAST)
    assert not (tmp_path / "out").exists()


def test_another_model_under_the_same_name_is_refused(digits_net: Any, arrays: dict[str, Any], tmp_path: Path) -> None:
    import keras

    lrf_optuna.compress(digits_net, arrays, tune=False, out=tmp_path, **(FAST | {"trials": 2}))
    other = keras.models.clone_model(digits_net)
    with pytest.raises(LrfError, match="2 trials with another model"):
        lrf_optuna.compress(other, arrays, tune=False, out=tmp_path, **(FAST | {"trials": 2}))


@pytest.mark.parametrize("name", lrf_optuna.__all__)
def test_a_public_name_stays_what_it_is_and_is_documented(name: str) -> None:
    import lrf_optuna.pipeline.run  # it loads every room, some of the same name as what they hold

    found = getattr(lrf_optuna, name)
    assert found is getattr(lrf_optuna, name)
    assert name == "DECOMPOSITIONS" or (callable(found) and found.__module__.startswith("lrf_optuna."))
    assert (found["svd"] if name == "DECOMPOSITIONS" else found).__doc__.strip()


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lrf_optuna.nothing


def test_the_pieces_do_what_compress_does(digits_net: Any, digits: Data, tmp_path: Path) -> None:
    from lrf_optuna import Proxy, choose_point, find_sites, pareto_front, search_front
    from lrf_optuna.models.surgery import materialize

    calibration = digits.preprocess(digits.calibration(64, 0).pixels)
    proxy = Proxy(digits_net, calibration, methods=("svd", "tucker2"))
    keeps = (0.2, 0.4, 0.7)
    points = pareto_front(search_front(proxy, proxy.table(keeps), trials=6, population=6))
    chosen, why = choose_point(points, targets={"params": 0.6})
    kernels = {site: proxy.kernels.stages(site, choice) for site, choice in chosen.plan}
    small = materialize(digits_net, chosen.plan, kernels)
    assert small.count_params() == round(chosen.costs["params"] * find_sites(digits_net).params)
    assert "params <= 0.6" in why


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The package as a wheel, built in a copy so that nothing is left in the source."""
    import shutil

    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("lrf_optuna", "studies"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--quiet", "-w", str(made)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode and "hatchling" in process.stderr:
        pytest.skip("no registry is reachable for the build backend")
    assert process.returncode == 0, process.stderr
    (path,) = made.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_studies_the_types_and_every_room(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"lrf_optuna/studies/{path.name}" for path in (ROOT / "studies").glob("*.toml")} <= names
    assert "lrf_optuna/studies/digits.toml" in names
    assert {"lrf_optuna/py.typed", "lrf_optuna/report/page.html", "lrf_optuna/report/table.html"} <= names
    assert {
        f"lrf_optuna/{path.relative_to(ROOT / 'lrf_optuna')}" for path in (ROOT / "lrf_optuna").rglob("*.py")
    } <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"lrf_optuna"}


def test_the_wheel_gives_the_console_script(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "lrf-optuna = lrf_optuna.cli.app:main" in wheel.read(entry).decode()
