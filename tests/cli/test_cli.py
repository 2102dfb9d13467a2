"""The command line as a new user and a careless one meet it: files, exit codes, one-line errors, interruptions."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from support.command_line import (
    DEFAULT,
    FAST,
    LEFT,
    NET,
    SPACE,
    called,
    contents,
    done,
    invoked,
    plain,
    refused,
    started,
    tree,
    wait_for,
)

from lrf_optuna.cli.app import app, main
from lrf_optuna.plans.plan import Plan
from lrf_optuna.selection.contest import ChoiceSettings
from lrf_optuna.storage.study import plan_of

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

COMMANDS = ("run", "layers", "front", "select", "build", "tune", "compare", "dashboard", "cache", "export", "latency")


def left(folder: Path) -> set[str]:
    """The names of the files, without those that SQLite keeps while a connection is open."""
    return {path.name for path in folder.iterdir()} - {"study.db-wal", "study.db-shm"}


def trials(database: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{database}").trials


def finished(database: Path) -> int:
    """How many trials a database has by now; none while it is being made."""
    if not database.exists():
        return 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0])
    return 0


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the default study was run, in a process of its own, with few trials; no test changes it."""
    folder = tmp_path_factory.mktemp("default")
    process = called("run", *DEFAULT, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "Layer by layer" in process.stdout
    assert "tuned" in process.stdout
    return folder


def test_the_default_run_leaves_what_is_documented(default: Path) -> None:
    folder = default / "runs" / "digits"
    assert {path.name for path in folder.iterdir()} == LEFT | {"original.keras", "tuning.csv"}
    assert json.loads((folder / "plan.json").read_text())["study"] == "digits"
    assert "study digits with 0 trials" in (folder / "log.txt").read_text()
    assert (folder / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_result_file_has_the_documented_keys_and_types(default: Path) -> None:
    result = json.loads((default / "runs" / "digits" / "result.json").read_text())
    assert (result["study"], result["trials"], result["calibration"]) == ("digits", 8, 64)
    assert 1 <= result["distinct"] <= 8
    assert set(result["seconds"]) == {
        "load",
        "prepare",
        "search",
        "pick",
        "build",
        "calibrate",
        "measure",
        "tune",
        "latency",
        "report",
    }
    assert all(type(value) is float and value >= 0 for value in result["seconds"].values())
    for part in ("original", "built", "tuned"):
        standing = result[part]
        assert type(standing["params"]) is type(standing["macs"]) is int
        assert standing["params"] > 1000
        assert all(0.5 < standing[name] <= 1 for name in ("val_metric", "test_metric"))
    assert set(result["original"]["milliseconds"]) == set(result["tuned"]["milliseconds"]) == {"litert", "keras"}
    assert "1 thread, 1 image" in result["place"]
    chosen, original = result["chosen"], result["original"]
    assert result["tuned"]["epochs"] == 1
    assert "epochs" not in result["built"]
    assert type(chosen["trial"]) is int
    assert 0 <= chosen["loss"] < 1
    for cost in ("params", "macs"):
        assert result["built"][cost] == result["tuned"][cost] == round(chosen[cost] * original[cost])
        assert 0 < chosen[cost] < 1
    assert set(chosen["plan"]) == {"conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "dense", "dense_1"}
    assert all(set(choice) == {"method", "ranks"} for choice in chosen["plan"].values())


LOADS_ALONE = """
import importlib.util, json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lrf_optuna":
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
try:
    import lrf_optuna
except ImportError:
    pass
else:
    sys.exit("the block does not hold")
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
file = np.load(sys.argv[2])
right = np.asarray(model(file["x"])).argmax(axis=1) == file["y"]
print(json.dumps({"params": model.count_params(), "accuracy": float(right.mean()),
                  "modules": sorted({type(layer).__module__.partition(".")[0] for layer in model.layers})}))
"""


def test_the_model_loads_in_a_process_without_this_package_and_is_as_good_as_reported(
    default: Path, tmp_path: Path, digits: Data
) -> None:
    folder = default / "runs" / "digits"
    np.savez(tmp_path / "test.npz", x=digits.preprocess(digits.test.pixels), y=digits.test.labels)
    process = subprocess.run(
        [sys.executable, "-I", "-c", LOADS_ALONE, str(folder / "model.keras"), str(tmp_path / "test.npz")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    alone, tuned = json.loads(process.stdout), json.loads((folder / "result.json").read_text())["tuned"]
    assert alone["params"] == tuned["params"]
    assert alone["accuracy"] == pytest.approx(tuned["test_metric"], abs=1e-9)
    assert alone["modules"] == ["keras"]


def test_the_same_command_again_repeats_nothing(default: Path, tmp_path: Path) -> None:
    shutil.copytree(default, tmp_path / "copy")
    folder = tmp_path / "copy" / "runs" / "digits"
    kept = ("model.keras", "original.keras", "result.json", "report.html")
    before = {name: (contents(folder)[name], (folder / name).stat().st_mtime_ns) for name in kept}
    process = called("run", *DEFAULT, cwd=tmp_path / "copy")
    assert (process.returncode, process.stderr) == (0, "")
    assert {name: (contents(folder)[name], (folder / name).stat().st_mtime_ns) for name in kept} == before
    assert len(trials(folder / "study.db", "digits")) == 8
    assert "nothing to do" in process.stdout
    assert not [word for word in ("training", "option table", "trials ", "fine-tuning") if word in process.stdout]


def test_the_net_of_a_study_is_kept_where_other_data_are_refused(
    default: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(default, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    with np.load(files / "net.npz") as file:
        np.savez("fewer.npz", **{name: file[name][::2] for name in file})
    before = contents(tmp_path / "copy")
    refused(invoked("run", "digits", *DEFAULT, "--data", "fewer.npz"), "another data")
    after = contents(tmp_path / "copy")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {"runs/digits/log.txt"}
    assert after["runs/digits/log.txt"].startswith(before["runs/digits/log.txt"])


def test_a_search_that_is_killed_three_times_ends_as_an_undisturbed_one(desk: Path) -> None:
    count, database = 2400, desk / "runs" / "net" / "study.db"
    moments = random.SystemRandom()
    killed_at = []
    for _ in range(3):
        there = finished(database)
        wanted, pause = there + moments.randint(1, 30), moments.random() / 50
        process = started("run", *FAST, "--trials", str(count), cwd=desk)
        wait_for(lambda wanted=wanted: finished(database) >= wanted, process)  # type: ignore[misc]
        time.sleep(pause)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
        killed_at.append(finished(database))
        assert there < killed_at[-1] < count, killed_at
    assert called("run", *FAST, "--trials", str(count), cwd=desk).returncode == 0
    found = trials(database, "net")
    assert [trial.number for trial in found] == list(range(count)), killed_at
    assert {trial.state for trial in found} == {optuna.trial.TrialState.COMPLETE}
    assert left(database.parent) == LEFT
    assert json.loads((desk / "runs" / "net" / "result.json").read_text())["trials"] == count


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(desk: Path) -> None:
    database = desk / "runs" / "net" / "study.db"
    process = started("run", *FAST, "--trials", "1500", cwd=desk)
    wait_for(lambda: finished(database) >= 10, process)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    there = trials(database, "net")
    assert process.returncode == 130
    assert stderr.splitlines() == ["stopped: what is finished is kept, and the same command goes on from there"]
    assert 10 <= len(there) < 1500
    printed = done("run", *FAST, "--trials", "1500")
    assert f"{len(there)} of 1500 trials are there" in printed
    found = trials(database, "net")
    assert [trial.number for trial in found] == list(range(1500))
    assert [trial.values for trial in found[: len(there)]] == [trial.values for trial in there]


def test_a_study_file_is_taken_from_its_own_folder_and_options_win_over_it(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk / "mine.toml").write_text(
        """
        name = "of-the-file"
        [model]
        path = "net.keras"
        [data]
        path = "net.npz"
        divide = 16
        [search]
        trials = 9
        calibration = 64
        population = 6
        methods = ["svd"]
        keep = [0.3, 0.6]
        targets = { params = 0.9 }
        [tune]
        epochs = 0
        [latency]
        time_at_end = false
        """
    )
    monkeypatch.chdir(tmp_path)
    printed = done("run", "desk/mine.toml", "--trials", "3", "--knee")
    result = json.loads((tmp_path / "runs" / "of-the-file" / "result.json").read_text())
    assert (result["study"], result["trials"], result["tuned"]) == ("of-the-file", 3, None)
    assert result["chosen"]["why"].startswith("the knee")
    assert "the knee" in printed
    assert {choice["method"] for choice in result["chosen"]["plan"].values()} <= {"svd", "intact"}


def test_a_name_is_made_of_the_models_and_two_studies_stand_side_by_side(desk: Path) -> None:
    shutil.copy("net.keras", "first_net.keras")
    args = ("--data", "net.npz", "--divide", "16", *SPACE, "--no-tune", "--no-timing", "--trials", "2")
    done("run", "--model", "first_net.keras", *args)
    before = contents(desk / "runs" / "first_net")
    done("run", "--model", "first_net.keras", *args, "--name", "second")
    assert contents(desk / "runs" / "first_net") == before
    assert {path.name for path in (desk / "runs").iterdir()} == {"first_net", "second"}


def test_out_stands_in_place_of_the_run_folder(desk: Path) -> None:
    done("run", *FAST, "--trials", "2", "--out", "deep/er")
    assert left(desk / "deep" / "er") == LEFT
    assert not (desk / "runs").exists()
    assert json.loads(done("front", "net", "--out", "deep/er", "--json")) == json.loads(
        done("front", "deep/er", "--json")
    )


def test_a_study_can_be_kept_in_another_database(desk: Path) -> None:
    url = "sqlite:///bases/all.db"
    done("run", *FAST, "--trials", "2", "--storage", url)
    assert left(desk / "runs" / "net") == LEFT - {"study.db"}
    assert len(trials(desk / "bases" / "all.db", "net")) == 2
    assert json.loads(done("front", "net", "--storage", url, "--json"))
    refused(invoked("front", "net"), "no study net here")


def notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("remember the milk")


def study_file(text: str) -> Callable[[Path], None]:
    frame = 'name = "mine"\n[model]\npath = "net.keras"\n[data]\npath = "net.npz"\ndivide = 16\n'
    return lambda folder: (folder / "mine.toml").write_text(frame + text) and None


def plain_file(text: str, name: str = "mine.toml") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def changed_arrays(**changes: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Writes other.npz: the arrays with changes; None leaves one out."""

    def write(folder: Path) -> None:
        with np.load(folder / "net.npz") as file:
            arrays = {name: file[name] for name in file}
        arrays = {name: changes[name](array) if name in changes else array for name, array in arrays.items()}
        np.savez(folder / "other.npz", **{name: array for name, array in arrays.items() if array is not None})

    return write


def random_bytes(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(np.random.default_rng(0).bytes(5000))

    return write


def flat_model(folder: Path) -> None:
    import keras

    keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]).save(folder / "flat.keras")


def nothing(folder: Path) -> None:
    pass


NOT_DIVIDED = (*NET[:4], *NET[6:], *SPACE, "--no-tune")
TIMED = ("--target", "latency=0.5", "--latency-table")
OTHER = (*FAST[:2], "--data", "other.npz", *FAST[4:])
MISTAKES: dict[str, tuple[Callable[[Path], Any], Sequence[str], str]] = {
    "study file missing": (nothing, ("nowhere.toml",), "no such study file: nowhere.toml"),
    "study file no TOML": (plain_file("a = = 1"), ("mine.toml",), "not a TOML file"),
    "study file a folder": (lambda folder: (folder / "mine.toml").mkdir(), ("mine.toml",), "mine.toml"),
    "unknown key": (study_file("[search]\ntrails = 3"), ("mine.toml",), "did you mean 'trials'"),
    "unknown section": (study_file("[serch]\ntrials = 3"), ("mine.toml",), "serch"),
    "section missing": (plain_file('name = "mine"\n[data]\npath = "digits"'), ("mine.toml",), "model is missing"),
    "cache a file": (nothing, (*FAST, "--cache", "net.npz"), "cannot write to"),
    "cache and no cache": (nothing, (*FAST, "--cache", "kept", "--no-cache"), "give one of them"),
    "cache without a name": (study_file('[search]\ncache = ""'), ("mine.toml",), "cache should not be empty"),
    "trials a word": (study_file('[search]\ntrials = "many"'), ("mine.toml",), "'many'"),
    "no trials": (nothing, (*FAST, "--trials", "0"), "--trials"),
    "half an epoch": (study_file("[tune]\nepochs = 0.5"), ("mine.toml",), "[tune] epochs"),
    "model missing": (nothing, (*FAST, "--model", "none.keras"), "no such model file"),
    "model missing in the file": (study_file(""), ("mine.toml", "--model", "lost.keras"), "lost.keras"),
    "model a folder": (lambda folder: (folder / "dir.keras").mkdir(), (*FAST, "--model", "dir.keras"), "dir.keras"),
    "model a text": (notes, (*FAST, "--model", "notes.txt"), "is no Keras file"),
    "model in the place of a study": (nothing, ("net.keras",), "give it as --model net.keras"),
    "data in the place of a study": (nothing, ("net.npz",), "give it as --data net.npz"),
    "model broken": (random_bytes("bad.keras"), (*FAST, "--model", "bad.keras"), "cannot load"),
    "model not of images": (
        flat_model,
        (*FAST, "--model", "flat.keras"),
        "should have the shape (N, 64), but got (1258, 8, 8, 1)",
    ),
    "function missing": (nothing, (*FAST, "--model", "no_such_module:make"), "cannot import no_such_module:make"),
    "latencies missing": (nothing, (*FAST, *TIMED, "none.csv"), "no such file of latencies"),
    "latencies broken": (plain_file("a,b\n", "ms.csv"), (*FAST, *TIMED, "ms.csv"), "should begin with the line layer,"),
    "latencies of another network": (
        plain_file("layer,method,ranks,milliseconds\n,network,,2\n", "ms.csv"),
        (*FAST, *TIMED, "ms.csv"),
        "have no row of the intact layer first",
    ),
    "latencies without a need": (
        plain_file("", "ms.csv"),
        (*FAST, "--latency-table", "ms.csv"),
        "give --target latency=0.5",
    ),
    "zoo name unknown": (nothing, (*SPACE, "--model", "zoo:digit_cnn", "--data", "digits"), "did you mean"),
    "model without data": (nothing, ("--model", "net.keras"), "--model without --data"),
    "data without model": (nothing, ("--data", "net.npz"), "--data without --model"),
    "data missing": (nothing, (*FAST, "--data", "none.npz"), "no such data"),
    "data no npz": (notes, (*FAST, "--data", "notes.txt"), "is not an .npz file"),
    "data an empty folder": (
        lambda folder: (folder / "empty").mkdir(),
        (*FAST, "--data", "empty"),
        "one folder a class",
    ),
    "array missing": (changed_arrays(y_test=lambda y: None), OTHER, "x_test and y_test go together"),
    "training images missing": (changed_arrays(x_train=lambda x: None), OTHER, "lacks x_train; it holds: x_val"),
    "key missing": (nothing, (*FAST, "--key", "x_train=X"), "net.npz lacks X; it holds: x_train"),
    "key no key": (nothing, (*FAST, "--key", "X"), "give NAME=KEY"),
    "arrays of objects": (changed_arrays(y_val=lambda y: np.array([{}] * len(y))), OTHER, "save it as numbers or"),
    "pixels prepared twice": (nothing, (*FAST, "--preprocess", "keras:resnet50"), "--preprocess goes with no divide"),
    "preprocess unknown": (nothing, (*NOT_DIVIDED, "--preprocess", "keras:resnet5"), "did you mean 'resnet50'"),
    "csv missing": (nothing, (*FAST, "--data", "none.csv"), "no such data"),
    "csv of nothing": (plain_file("", "empty.csv"), (*FAST, "--data", "empty.csv"), "empty.csv is empty"),
    "npy broken": (random_bytes("f/x_train.npy"), (*FAST, "--data", "f"), "x_train.npy cannot be read"),
    "images broken": (random_bytes("f/a.png"), (*FAST, "--data", "f"), "1 of 1 files cannot be read, more than 1%"),
    "images of another size": (
        changed_arrays(x_train=lambda x: np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))),
        OTHER,
        "(10, 8, 1)",
    ),
    "fewer labels than images": (changed_arrays(y_train=lambda y: y[:-1]), OTHER, "labels"),
    "labels beyond the outputs": (changed_arrays(y_train=lambda y: y + 1), OTHER, "1..10"),
    "pixels not finite": (changed_arrays(x_train=lambda x: np.where(x > 15, np.nan, x)), OTHER, "NaN"),
    "means of another image": (nothing, (*FAST, "--mean", "1,2,3"), "mean"),
    "std of nothing": (nothing, (*FAST, "--std", "0"), "std"),
    "mean a word": (nothing, (*FAST, "--mean", "some"), "--mean should be a valid number, but got 'some'"),
    "trials in words": (nothing, (*FAST, "--trials", "many"), "--trials should be a valid integer, but got 'many'"),
    "keep with a decimal comma": (nothing, (*FAST, "--keep", "0,1"), "commas separate numbers, as in 0.1,0.2,0.4"),
    "by nonsense": (nothing, (*FAST, "--by", "size"), "--by should be 'metric' or 'loss', but got 'size'"),
    "sampler unknown": (nothing, (*FAST, "--sampler", "nsga"), "unknown sampler 'nsga'"),
    "sampler unknown in the file": (
        study_file('[search]\nsampler = "cmaes"'),
        ("mine.toml",),
        "unknown sampler 'cmaes'",
    ),
    "initial plans a word": (study_file('[search]\ninitial_plans = "no"'), ("mine.toml",), "[search] initial_plans"),
    "flat a number": (study_file("[search]\nstop_when_flat = 2"), ("mine.toml",), "[search] stop_when_flat"),
    "method unknown": (nothing, (*FAST, "--methods", "svd,tuker2"), "did you mean 'tucker2'"),
    "method of a layer unknown": (
        study_file('[layers."deep"]\nmethods = ["tuker2"]'),
        ("mine.toml",),
        "did you mean 'tucker2'",
    ),
    "layer unknown": (nothing, (*FAST, "--exclude", "nothing*"), "--exclude 'nothing*' fits no layer"),
    "methods empty": (nothing, (*FAST, "--methods", ","), "--methods"),
    "objective unknown": (nothing, (*FAST, "--objectives", "loss,speed"), "unknown objective 'speed'"),
    "similarity unknown": (nothing, (*FAST, "--similarity", "cosin"), "did you mean 'cosine'"),
    "keep too large": (nothing, (*FAST, "--keep", "2"), "--keep"),
    "augmentation unknown": (nothing, (*FAST, "--augment", "twirl"), "twirl"),
    "target without share": (nothing, (*FAST, "--target", "params"), "give COST=SHARE"),
    "target a word": (nothing, (*FAST, "--target", "params=small"), "--target should be a valid number"),
    "target too large": (nothing, (*FAST, "--target", "params=2"), "--target"),
    "target unknown": (nothing, (*FAST, "--target", "speed=0.5"), "speed"),
    "target no objective": (nothing, (*FAST, "--objectives", "loss,macs", "--target", "params=0.5"), "objectives"),
    "knee and drop": (nothing, (*FAST, "--knee", "--max-drop", "1"), "--knee goes with neither"),
    "after tuning without a drop": (nothing, (*FAST, "--after-tuning"), "give --max-drop POINTS as well"),
    "after tuning without a fine-tune": (
        nothing,
        (*FAST, "--max-drop", "1", "--after-tuning", "--no-tune"),
        "--after-tuning needs a fine-tune, but there are no epochs: give --epochs, or leave --after-tuning out",
    ),
    "rate without a fine-tune": (
        nothing,
        (*FAST, "--rate", "0.01"),
        "--rate needs a fine-tune, but there are no epochs: give --epochs in the place of --no-tune, or leave",
    ),
    "no cutmix without a fine-tune": (
        nothing,
        (*FAST, "--no-cutmix"),
        "--no-cutmix needs a fine-tune",
    ),
    "drop below none": (nothing, (*FAST, "--max-drop", "-1"), "--max-drop"),
    "rate a word": (
        nothing,
        (*FAST, "--rate", "fast"),
        "--rate should be a valid number or should be 'auto', but got 'fast'",
    ),
    "optimizer unknown": (nothing, (*FAST, "--optimizer", "adam"), "--optimizer"),
    "name a path": (nothing, (*FAST, "--name", "../up"), "--name"),
    "out a file": (notes, (*FAST, "--out", "notes.txt"), "notes.txt is not a folder"),
    "out below a file": (notes, (*FAST, "--out", "notes.txt/deep"), "notes.txt is not a folder"),
    "out below a file, with a net to train": (notes, (*SPACE, "--out", "notes.txt/deep"), "is not a folder"),
    "storage no address": (nothing, (*FAST, "--storage", "study.db"), "not a database URL"),
    "storage below a file": (notes, (*FAST, "--storage", "sqlite:///notes.txt/a.db"), "is not a folder"),
    "database broken": (random_bytes("runs/net/study.db"), FAST, "cannot be used"),
}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("frobnicate",), "error: no such command 'frobnicate'"),
        (("tune", "net", "--trial", "-1"), "error: invalid value for '--trial': "),
        (("tune", "net", "--no-timing"), "error: no such option: --no-timing"),
        (("tune",), "error: missing argument 'NAME' (see lrf-optuna tune -h)"),
        (("run", "--trials"), "error: option '--trials' requires an argument"),
    ],
)
def test_a_command_line_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["lrf-optuna", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(words)


def test_without_a_command_there_is_help_and_the_version_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for args, code, words in (((), 2, "Usage: "), (("--version",), 0, "lrf-optuna ")):
        monkeypatch.setattr(sys, "argv", ["lrf-optuna", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(desk: Path, mistake: str) -> None:
    prepare, args, words = MISTAKES[mistake]
    prepare(desk)
    before = tree(desk)
    refused(invoked("run", *args), words)
    assert tree(desk) == before


@pytest.mark.parametrize("mistake", ["data missing", "images of another size", "database broken"])
def test_a_mistake_in_a_process_of_its_own_is_one_line_too(desk: Path, mistake: str) -> None:
    prepare, args, words = MISTAKES[mistake]
    prepare(desk)
    before = tree(desk)
    process = called("run", *args, cwd=desk)
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert tree(desk) == before


def test_a_target_that_nobody_meets_says_so_and_keeps_everything(study: Path) -> None:
    before = contents(study / "runs" / "net")
    refused(invoked("run", *FAST, "--trials", "16", "--seed", "3", "--target", "params=0.01"), "params=0.01 is out of")
    refused(invoked("select", "net", "--target", "params=0.01"), "params <= 0.01")
    after = contents(study / "runs" / "net")
    assert {name for name in after if after[name] != before[name]} <= {"log.txt"}


@pytest.mark.parametrize(
    "args", [("--seed", "4"), ("--methods", "svd"), ("--divide", "8"), ("--keep", "0.5"), ("--rank-multiple", "2")]
)
def test_another_question_under_the_same_name_changes_no_file(study: Path, args: tuple[str, str]) -> None:
    before = contents(study / "runs")
    line = refused(invoked("run", *FAST, "--trials", "16", "--seed", "3", *args), "16 trials with another")
    assert "give another --name" in line
    after = contents(study / "runs")
    assert {name for name in after if after[name] != before.get(name)} <= {"net/log.txt"}


def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    costs = [(one[cost], other[cost]) for cost in ("loss", "params", "macs")]
    return all(a <= b for a, b in costs) and any(a < b for a, b in costs)


def test_the_front_is_the_same_as_table_json_and_csv(study: Path) -> None:
    points = json.loads(done("front", "net", "--json"))
    found = trials(study / "runs" / "net" / "study.db", "net")
    assert 1 < len(points) <= 16
    assert not [(a, b) for a in points for b in points if beats(a, b)]
    sizes = [point["params"] + point["macs"] for point in points]
    assert sizes == sorted(sizes)
    for point in points:
        trial = found[point["trial"]]
        assert [point[cost] for cost in ("loss", "params", "macs")] == trial.values
        assert Plan.from_dict(point["plan"]) == plan_of(trial)
    rows = list(csv.DictReader(io.StringIO(done("front", "net", "--csv"))))
    assert [(int(row["trial"]), float(row["loss"])) for row in rows] == [(p["trial"], p["loss"]) for p in points]
    assert [Plan.from_json(row["plan"]) for row in rows] == [Plan.from_dict(point["plan"]) for point in points]
    for row, point in zip(rows, points, strict=True):
        assert row["metric"] == ("" if point["metric"] is None else str(point["metric"]))
    lines = [line for line in done("front", "net", "--all").splitlines()[1:] if line.split()[0].isdigit()]
    assert [int(line.split()[0]) for line in lines] == [point["trial"] for point in points]
    some = [line for line in done("front", "net").splitlines()[1:] if line.split()[0].isdigit()]
    assert [int(line.split()[0]) for line in some] == [
        point["trial"] for point in points if point["budget"] or point["name"] or point["chosen"]
    ]
    assert all(point["metric"] is not None for point in points if point["budget"])
    chosen = json.loads((study / "runs" / "net" / "plan.json").read_text())["trial"]
    assert [line.split()[0] for line in lines if "←" in line] == [str(chosen)]


def kept(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "net" / "plan.json").read_text())
    return found


def test_select_takes_the_least_loss_within_a_target_and_says_why(study: Path) -> None:
    points = json.loads(done("front", "net", "--json"))
    most = sorted(point["params"] for point in points)[len(points) // 2]
    printed = done("select", "net", "--target", f"params={most}", "--by", "loss")
    within = [point for point in points if point["params"] <= most]
    best = min(within, key=lambda point: point["loss"])
    assert kept(study)["trial"] == best["trial"]
    assert kept(study)["why"] == f"the least loss of the {len(within)} points within params <= {most:g}"
    assert kept(study)["why"] in printed
    assert kept(study)["plan"] == best["plan"]


def test_select_takes_the_best_within_a_target_and_says_what_it_loses(study: Path) -> None:
    points = json.loads(done("front", "net", "--json"))
    printed = done("select", "net", "--target", "params=0.9")
    within = [point for point in points if point["params"] <= 0.9]
    assert kept(study)["trial"] in {point["trial"] for point in within}
    counts = {min(most, len(within)) for most in (ChoiceSettings().scored, ChoiceSettings().scored_if_broken)}
    assert kept(study)["why"].startswith(tuple(f"the best of {count} points within" for count in counts))
    assert kept(study)["why"] in printed
    assert "points of validation accuracy lost before tuning" in printed


def test_select_by_loss_needs_neither_the_model_nor_the_data_and_by_accuracy_needs_both(desk: Path) -> None:
    done("run", *FAST, "--trials", "4")
    for name in ("net.keras", "net.npz"):
        (desk / name).rename(desk / f"away.{name}")
        done("select", "net", "--by", "loss", "--knee")
        done("select", "net", "--by", "loss", "--target", "params=0.9")
        refused(invoked("select", "net", "--knee"), name)
        (desk / f"away.{name}").rename(desk / name)
    assert kept(desk)["why"].startswith("the least loss of")


def test_select_takes_a_point_by_the_drop_that_is_predicted_after_a_fine_tune(study: Path) -> None:
    printed = done("select", "net", "--max-drop", "100", "--after-tuning")
    assert "is predicted to lose at most 100 points of validation accuracy" in printed
    assert "after the fine-tune" in printed
    assert "with 80 %" in kept(study)["why"]


def test_select_without_a_wish_takes_the_smallest_within_a_point(study: Path) -> None:
    assert "at most 1 point of validation accuracy" in done("select", "net")


def test_select_takes_a_point_by_its_drop_and_by_the_knee(study: Path) -> None:
    printed = done("select", "net", "--max-drop", "100")
    points = json.loads(done("front", "net", "--json"))
    smallest = min(points, key=lambda point: (point["params"] + point["macs"]) / 2)
    assert kept(study)["trial"] == smallest["trial"]
    assert "at most 100 points of validation accuracy" in printed
    assert "the knee" in done("select", "net", "--knee")
    assert kept(study)["why"].startswith("the knee")


def test_build_makes_the_selected_point_and_tune_tunes_it(study: Path) -> None:
    import keras

    folder = study / "runs" / "net"
    most = max(point["params"] for point in json.loads(done("front", "net", "--json")) if point["params"] < 1)
    done("select", "net", "--target", f"params={most}")
    done("build", "net")
    built = json.loads((folder / "result.json").read_text())
    assert built["chosen"]["trial"] == kept(study)["trial"]
    assert built["built"]["params"] == round(kept(study)["costs"]["params"] * built["original"]["params"])
    assert keras.models.load_model(folder / "model.keras").count_params() == built["built"]["params"]
    assert built["tuned"] is None
    done("tune", "net", "--epochs", "1", "--rate", "0.0003")
    tuned = json.loads((folder / "result.json").read_text())
    assert (tuned["chosen"]["trial"], tuned["tuned"]["epochs"]) == (kept(study)["trial"], 1)
    assert tuned["built"] == built["built"]
    assert tuned["tuned"]["val_metric"] >= tuned["built"]["val_metric"]
    assert len(trials(folder / "study.db", "net")) == 16


def test_build_and_select_leave_the_studys_own_question_alone(study: Path) -> None:
    def asked() -> dict[str, Any]:
        database = f"sqlite:///{study / 'runs' / 'net' / 'study.db'}"
        return optuna.load_study(study_name="net", storage=database).user_attrs

    before = asked()
    done("select", "net", "--max-drop", "50")
    done("build", "net")
    assert asked() == before


def test_build_is_refused_where_the_model_has_changed_since(desk: Path) -> None:
    import keras

    done("run", *FAST, "--trials", "3")
    model = keras.models.load_model("net.keras")
    model.layers[-1].bias.assign_add([0.1] * 10)
    model.save("net.keras")
    before = (desk / "runs" / "net" / "model.keras").read_bytes()
    refused(invoked("build", "net"), "another model")
    refused(invoked("select", "net", "--max-drop", "1"), "another model")
    assert (desk / "runs" / "net" / "model.keras").read_bytes() == before


@pytest.mark.parametrize("text", ["", "[]", '{"trial": 1}', '{"trial": 1, "plan": {"a": 1}, "costs": {}, "why": ""}'])
def test_a_broken_choice_is_one_line(study: Path, text: str) -> None:
    (study / "runs" / "net" / "plan.json").write_text(text)
    refused(invoked("build", "net"))


@pytest.mark.parametrize(
    "edit",
    [('"second"', '"other"'), ('"svd"', '"sdv"'), ('"svd"', '"tucker2"'), ('"trial": ', '"trial": 99')],
    ids=" ".join,
)
def test_a_choice_that_is_no_trial_of_the_study_is_one_line(study: Path, edit: tuple[str, str]) -> None:
    folder = study / "runs" / "net"
    text = (folder / "plan.json").read_text()
    assert edit[0] in text
    (folder / "plan.json").write_text(text.replace(*edit))
    before = contents(folder)
    refused(invoked("build", "net"), "choose again with select")
    assert contents(folder) | {"log.txt": b""} == before | {"log.txt": b""}


def test_tune_without_epochs_is_one_line(study: Path) -> None:
    before = contents(study / "runs")
    refused(invoked("tune", "net", "--epochs", "0"), "--epochs should be 1 or more")
    refused(invoked("tune", "net", "--epochs", "-1"), "--epochs")
    refused(invoked("tune", "net", "--rate", "fast"), "--rate")
    assert contents(study / "runs") == before


@pytest.mark.parametrize("command", ["front", "select", "build", "tune", "dashboard"])
def test_a_study_that_is_not_there_is_one_line_and_makes_nothing(desk: Path, command: str) -> None:
    before = tree(desk)
    refused(invoked(command, "nosuch"), "no study nosuch here")
    refused(invoked(command, "nosuch", "--storage", "sqlite:///no.db"), "no.db")
    assert tree(desk) == before


@pytest.mark.parametrize("command", ["front", "select", "build", "tune", "dashboard"])
def test_a_study_of_somebody_else_is_one_line(desk: Path, command: str) -> None:
    optuna.create_study(study_name="theirs", storage="sqlite:///theirs.db").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    refused(invoked(command, "theirs", "--storage", "sqlite:///theirs.db"))
    refused(invoked(command, "ours", "--storage", "sqlite:///theirs.db"), "there is: theirs")


@pytest.fixture
def served(studied: Path) -> Iterator[str]:
    """The address of a dashboard on the study."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = started("dashboard", "net", "--port", str(port), cwd=studied)

    def listens() -> bool:
        with closing(socket.socket()) as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens, process, 60)
        assert process.poll() is None, process.communicate()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_the_dashboard_shows_the_study(served: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(served, timeout=60) as answer:
        assert answer.status == 200
        assert b"<html" in answer.read().lower()
    with opener.open(f"{served}/api/studies", timeout=60) as answer:
        (summary,) = json.load(answer)["study_summaries"]
    assert summary["study_name"] == "net"
    with opener.open(f"{served}/api/studies/{summary['study_id']}", timeout=60) as answer:
        detail = json.load(answer)
    assert detail["objective_names"] == ["loss", "params", "macs"]
    assert len(detail["trials"]) == 16


def test_a_port_that_is_taken_is_one_line(study: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(invoked("dashboard", "net", "--port", str(taken.getsockname()[1])), "give another --port")


def test_layers_says_which_layers_are_left_out(desk: Path, digits_net: Any) -> None:
    table = json.loads(done("layers", "net.keras", "--json", "--exclude", "*"))
    reasons = {row["reason"] for row in table["layers"] if row["params"]}
    assert "left out by --exclude" in reasons
    assert not any(row["methods"] for row in table["layers"])


def test_layers_lists_every_layer_of_a_file(desk: Path, digits_net: Any) -> None:
    table = json.loads(done("layers", "net.keras", "--json"))
    assert [row["layer"] for row in table["layers"]] == [layer.name for layer in digits_net.layers]
    assert sum(row["params"] for row in table["layers"]) == table["params"] == digits_net.count_params()
    assert sum(row["macs"] for row in table["layers"]) == table["macs"] == 8 * 8 * 9 * 12 + 4 * 4 * 9 * 192 + 8192 + 320
    assert sum(row["params_share"] for row in table["layers"]) == pytest.approx(1)
    assert all(bool(row["methods"]) != bool(row["reason"]) for row in table["layers"])
    assert {row["layer"] for row in table["layers"] if row["methods"]} >= {"second", "hidden"}
    printed = done("layers", "net.keras")
    assert all(layer.name in printed for layer in digits_net.layers)
    assert f"{digits_net.count_params():,} parameters" in printed


def test_layers_lists_a_net_of_the_zoo(desk: Path) -> None:
    from lrf_optuna.models.zoo import lenet5

    table = json.loads(done("layers", "zoo:lenet5", "--json"))
    assert table["params"] == sum(row["params"] for row in table["layers"]) == lenet5().count_params() == 431_080


@pytest.mark.parametrize("model", ["none.keras", "zoo:nothing", "keras:Nothing", "net.npz", "sys:nothing"])
def test_layers_of_what_is_no_model_is_one_line(desk: Path, model: str) -> None:
    refused(invoked("layers", model))


def test_layers_of_a_model_with_an_open_size_says_what_to_give(desk: Path) -> None:
    import keras

    inputs = keras.Input((None, None, 3))
    out = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, name="only")(inputs))
    keras.Model(inputs, keras.layers.Dense(2)(out)).save("open.keras")
    refused(invoked("layers", "open.keras"), "--size")
    table = json.loads(done("layers", "open.keras", "--size", "12,10,3", "--json"))
    assert next(row["macs"] for row in table["layers"] if row["layer"] == "only") == 10 * 8 * 9 * 3 * 8


HELP_ALONE = """
import sys
from typer.testing import CliRunner
from lrf_optuna.cli.app import app
for args in [[], *([name] for name in sys.argv[1:])]:
    outcome = CliRunner().invoke(app, [*args, "--help"])
    assert outcome.exit_code == 0, (args, outcome)
print(" ".join(name for name in ("tensorflow", "keras", "optuna", "sklearn", "plotly", "numpy") if name in sys.modules))
"""


WRONG_AT_ONCE = [
    ("--model", "none.keras", "--data", "digits"),
    ("--model", "zoo:lenet5", "--data", "none.npz"),
    ("--model", "zoo:lenet5", "--data", "none.csv"),
    ("--model", "keras:VGG16", "--data", "digits", "--divide", "255", "--preprocess", "keras:vgg16"),
    ("net.keras",),
    ("--trials", "many"),
    ("--target", "params=2"),
    ("--target", "params=0.5", "--objectives", "loss,macs"),
]


@pytest.mark.parametrize("args", WRONG_AT_ONCE, ids=" ".join)
def test_a_wrong_path_or_option_is_refused_before_anything_heavy_is_loaded(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    code = """
import sys
from typer.testing import CliRunner
from lrf_optuna.cli.app import app
assert CliRunner().invoke(app, ["run", *sys.argv[1:]]).exit_code == 2
print(*({"tensorflow", "keras", "optuna", "sklearn", "plotly"} & set(sys.modules)))
"""
    process = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout.strip()) == (0, ""), process.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_pipe_of_another_encoding_gets_plain_characters(study: Path, encoding: str) -> None:
    for command in (("front", "net"), ("build", "net"), ("run", "--help")):
        process = subprocess.run(
            [sys.executable, "-m", "lrf_optuna", *command],
            cwd=study,
            capture_output=True,
            check=False,
            env=plain() | {"PYTHONIOENCODING": encoding},
        )
        assert process.returncode == 0, process.stderr
        text = process.stdout.decode(encoding)
        assert "?" not in text
        assert "->" in text or command[0] != "build"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", HELP_ALONE, *COMMANDS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == ""


def test_looking_at_a_study_imports_no_tensorflow(study: Path) -> None:
    code = """
import sys
from typer.testing import CliRunner
from lrf_optuna.cli.app import app
for args in (["front", "net"], ["select", "net", "--knee", "--by", "loss"]):
    assert CliRunner().invoke(app, args).exit_code == 0
print("tensorflow" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=study, capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "False", process.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_argument_has_help(command: str) -> None:
    import typer

    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert found.help
    assert [param.name for param in found.params if not getattr(param, "help", None)] == []
    assert found.help.splitlines()[0] in " ".join(invoked(command, "--help").stdout.split())


def test_every_command_is_listed_and_none_but_these_are_there() -> None:
    import typer

    assert set(typer.main.get_command(app).commands) == set(COMMANDS)  # type: ignore[attr-defined]


def test_without_arguments_there_is_help(tmp_path: Path) -> None:
    process = called(cwd=tmp_path)
    shown = process.stdout + process.stderr
    assert "Usage" in shown
    assert all(command in shown for command in COMMANDS)
    assert list(tmp_path.iterdir()) == []


def test_the_options_of_the_search_reach_it(desk: Path) -> None:
    done("run", *FAST, "--trials", "8", "--sampler", "random", "--no-seeds", "--by", "loss")
    database = desk / "runs" / "net" / "study.db"
    spec = json.loads(optuna.load_study(study_name="net", storage=f"sqlite:///{database}").user_attrs["lrf:spec"])
    asked = {key: spec["search"][key] for key in ("sampler", "initial_plans", "by", "stop_when_flat")}
    assert asked == {"sampler": "random", "initial_plans": False, "by": "loss", "stop_when_flat": False}
    for trial in trials(database, "net"):
        assert "similarity logits" in trial.user_attrs
        assert 0 <= trial.user_attrs["hypervolume"] <= 1
    printed = done("run", *FAST, "--trials", "300", "--by", "loss", "--stop-when-flat")
    assert "the hypervolume is flat after" in printed
    assert len(trials(database, "net")) < 300


def test_fits_are_kept_where_the_options_say_and_the_next_study_starts_from_them(desk: Path, own_cache: Path) -> None:
    before = contents(own_cache)
    done("run", *FAST, "--trials", "6", "--by", "loss", "--cache", "kept")
    files = {path: path.stat().st_ino for path in (desk / "kept").rglob("*.safetensors")}
    assert len(files) == first_number(done("cache", "--cache", "kept"), "MiB in") > 0
    done("run", *FAST, "--trials", "6", "--by", "loss", "--cache", "kept", "--out", "again")
    assert {path: path.stat().st_ino for path in (desk / "kept").rglob("*.safetensors")} == files
    plans = [[plan_of(t) for t in trials(f, "net")] for f in (desk / "runs/net/study.db", desk / "again/study.db")]
    assert plans[0] == plans[1]
    assert "files removed" in done("cache", "--cache", "kept", "--clear")
    assert not list((desk / "kept").rglob("*.safetensors"))
    done("run", *FAST, "--trials", "6", "--no-cache", "--out", "third")
    assert not list((desk / "kept").rglob("*.safetensors"))
    assert contents(own_cache) == before


def first_number(text: str, after: str) -> int:
    """The whole number that follows some words."""
    return int(text.split(after)[1].split()[0])


def test_the_cache_is_the_environments_where_no_option_says_another(desk: Path, own_cache: Path) -> None:
    assert str(own_cache) in done("cache").replace("\n", "")


@pytest.mark.parametrize("args", [("--by", "size"), ("--by", "")])
def test_select_by_something_else_is_one_line(study: Path, args: tuple[str, str]) -> None:
    before = contents(study / "runs")
    refused(invoked("select", "net", *args), "--by should be 'metric' or 'loss'")
    assert contents(study / "runs") == before
