"""What commands write where: results on stdout as tables or one JSON document, and all else as the options say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.command_line import FAST, contents, done, invoked, refused, tree
from typer.testing import CliRunner

from lrf_optuna.cli import app as cli
from lrf_optuna.data.preprocess import KerasPreprocess, NoPreprocess, Preprocess

DOCUMENTS = {
    ("run", *FAST, "--trials", "16", "--seed", "3"): {"study", "chosen", "original", "built", "files"},
    ("run", *FAST, "--trials", "20", "--seed", "3", "--dry-run"): {"layers", "plans", "steps", "seconds", "warnings"},
    ("layers", "net.keras"): {"params", "macs", "layers"},
    ("select", "net", "--knee", "--by", "loss"): {"trial", "loss", "why", "plan"},
    ("build", "net"): {"study", "chosen", "built", "files"},
    ("cache",): {"folder", "bytes", "files", "budget"},
}
"""Call -> keys of the JSON document that it prints; of `front` and others it is a list."""


@pytest.mark.parametrize("args", DOCUMENTS, ids=" ".join)
def test_with_json_stdout_is_one_document(study: Path, args: tuple[str, ...]) -> None:
    outcome = invoked(*args, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    assert DOCUMENTS[args] <= set(json.loads(outcome.stdout))


def test_the_files_in_the_document_of_a_run_are_there(study: Path) -> None:
    files = json.loads(done("build", "net", "--json"))["files"]
    assert set(files) == {"model", "report"}
    assert all(Path(path).exists() for path in files.values())


def test_a_refusal_with_json_leaves_stdout_empty(study: Path) -> None:
    outcome = invoked("select", "net", "--max-drop", "-1", "--json")
    assert outcome.stdout == ""
    refused(outcome, "--max-drop")


def test_with_quiet_a_run_is_one_line_and_its_errors_stay(study: Path) -> None:
    outcome = invoked("run", *FAST, "--trials", "18", "--seed", "3", "--quiet")
    (line,) = outcome.stdout.splitlines()
    assert line.startswith("net, built: ")
    assert "of the parameters" in line
    assert str(Path("runs") / "net" / "model.keras") in line
    assert outcome.stderr == ""
    refused(invoked("run", *FAST, "--trials", "0", "--quiet"), "--trials")


def test_with_quiet_other_commands_print_their_result_alone(study: Path) -> None:
    assert len(done("cache", "--quiet").splitlines()) == 1
    table = done("front", "net", "--quiet")
    assert done("front", "net").startswith(table)
    assert "--all" not in table
    assert "What comes next" not in done("build", "net", "--quiet")


def test_a_file_is_no_cache(desk: Path) -> None:
    before = tree(desk)
    refused(invoked("cache", "--cache", "net.npz", "--clear"), "net.npz is no folder")
    assert tree(desk) == before


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(desk: Path) -> None:
    before = tree(desk)
    printed = done("run", *FAST, "--trials", "7", "--dry-run", "--target", "params=0.5")
    assert tree(desk) == before
    assert "layers can be factorized: at most 10^" in printed
    assert "7 of 7 trials are searched" in printed
    assert "the best within params <= 0.5" in printed
    assert "A forward pass of" in printed
    assert "The original's validation accuracy is 9" in printed
    assert "Warning" not in printed
    assert "Warning: The original's validation accuracy is" in done("run", *FAST, "--dry-run", "--divide", "4000")
    assert "unknown before they are done" in printed
    assert "fine-tuned for" not in printed
    refused(invoked("run", *FAST, "--dry-run", "--target", "params=0.0001"), "out of reach")
    refused(invoked("run", *FAST, "--dry-run", "--model", "none.keras"), "no such model file")
    assert tree(desk) == before


def test_a_dry_run_trains_no_net_and_counts_the_trials_that_are_there(study: Path) -> None:
    before = contents(study)
    assert "zoo:digits_cnn is trained on the data" in done("run", "--dry-run")
    printed = done("run", *FAST, "--trials", "20", "--seed", "3", "--dry-run")
    assert "4 of 20 trials are searched" in printed
    assert "The last run in this folder took" in printed
    assert contents(study) == before


def test_a_dry_run_of_another_question_is_refused_as_the_run_is(study: Path) -> None:
    refused(invoked("run", *FAST, "--trials", "16", "--seed", "4", "--dry-run"), "with another")


def next_lines(printed: str) -> list[str]:
    """The lines below `What comes next`, without their indent."""
    return [line.strip() for line in printed.partition("What comes next:\n")[2].splitlines()]


@pytest.mark.parametrize("place", [(), ("--out", "deep/er"), ("--storage", "sqlite:///bases/all.db")], ids=" ".join)
def test_what_comes_next_is_right_for_this_run(desk: Path, place: tuple[str, ...]) -> None:
    import keras

    lines = next_lines(done("run", *FAST, "--trials", "3", "--by", "loss", *place))
    assert Path(shlex.split(lines[0])[1]).exists()
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("lrf-optuna ")]
    assert [call[0] for call in calls] == ["front", "select"]
    assert done(*calls[0])
    assert invoked(*calls[1]).exit_code in (0, 2)  # two, where no point of three trials is within the drop
    assert "no study" not in invoked(*calls[1]).stderr
    code = lines[lines.index("In Python:") + 1 :]
    assert [line.partition(" ")[0] for line in code] == ["import", "model", "outputs"]
    names: dict[str, Any] = {}
    exec("\n".join(code[:2]), names)
    assert isinstance(names["model"], keras.Model)
    assert code[2] == "outputs = model.predict(x / 16)"


@pytest.mark.parametrize(
    ("preprocess", "text"),
    [
        (Preprocess(), "x"),
        (Preprocess(255.0), "x / 255"),
        (Preprocess(255.0, (0.5, 0.25), (0.2, 0.1)), "(x / 255 - [0.5, 0.25]) / [0.2, 0.1]"),
        (Preprocess(1.0, (127.5,), (127.5,)), "(x - 127.5) / 127.5"),
        (Preprocess(2.0, (0.0,), (0.5,)), "x / 2 / 0.5"),
        (KerasPreprocess("resnet50"), "keras.applications.resnet50.preprocess_input(x)"),
        (NoPreprocess(), "x"),
    ],
    ids=str,
)
def test_the_inputs_in_the_python_lines_are_preprocessed_as_in_the_run(preprocess: Any, text: str) -> None:
    from lrf_optuna.cli.next_steps import inputs_of

    assert inputs_of(preprocess) == text


@pytest.mark.parametrize(
    "args", [("front", "net"), ("layers", "net.keras"), ("build", "net"), ("cache",)], ids=" ".join
)
def test_nothing_is_cut_in_60_columns(study: Path, args: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.app, list(args), env={"COLUMNS": "60", "NO_COLOR": "1"}).stdout
    assert "…" not in shown
    tables = shown[max(shown.find("Layer by layer"), 0) :]  # before them are lines of a log, which are not broken
    assert all(len(line.rstrip()) <= 60 for line in tables.splitlines() if "/" not in line)  # but for paths
