"""What `--help` says: examples that work, panels by use, short sentences; and it answers at once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from support.command_line import invoked
from support.pages import MOST_WORDS, sentences

from lrf_optuna.cli.app import app
from lrf_optuna.cli.examples import EXAMPLES
from lrf_optuna.cli.options import ALWAYS, OFTEN, RARELY
from lrf_optuna.version import VERSION

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
every_command = pytest.mark.parametrize("name", COMMANDS)
HEAVY = ("tensorflow", "keras", "optuna", "sklearn", "plotly", "numpy", "pandas")
CALLED = f"""
import json, sys
from typer.testing import CliRunner
from lrf_optuna.cli.app import app
for args in json.loads(sys.argv[1]):
    code = CliRunner().invoke(app, args).exit_code
    print(code, *[name for name in {HEAVY!r} if name in sys.modules])
"""
"""Prints for each call its exit code, and the heavy modules that are loaded by then."""


def options_of(name: str) -> dict[str, Any]:
    """Name of each option of a command -> the parameter."""
    return {option: param for param in COMMANDS[name].params for option in param.opts if option.startswith("-")}


def calls(*each: tuple[str, ...], folder: Path) -> list[str]:
    """What the calls of commands print of themselves, all in one process of its own."""
    import json

    command = [sys.executable, "-c", CALLED, json.dumps(each)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@every_command
def test_every_command_has_json_and_quiet(name: str) -> None:
    assert {"--json", "--quiet"} <= set(options_of(name))


@every_command
def test_the_examples_of_a_command_are_in_its_help_and_parse(name: str) -> None:
    shown = " ".join(invoked(name, "--help").stdout.split())
    for example in EXAMPLES[name]:
        assert example in shown
        program, command, *words = shlex.split(example)
        assert (program, command) == ("lrf-optuna", name)
        COMMANDS[name].make_context(name, words)


@every_command
def test_the_options_of_a_command_are_in_panels_by_use(name: str) -> None:
    panels = {getattr(param, "rich_help_panel", None) for param in options_of(name).values()}
    assert {panel for panel in panels if panel not in (OFTEN, ALWAYS)} <= {
        f"{RARELY}{group}"
        for group in ("study", "data", "outputs", "search", "layers", "choice", "latency", "fine-tuning")
    }
    shown = invoked(name, "--help").stdout
    titles = [line.strip("╭╮─ ") for line in shown.splitlines() if line.startswith("╭")]
    assert titles[-1] == ALWAYS
    assert [title for title in titles if title.startswith("Rarely")] == [
        *(title for title in titles[-1 - sum(t.startswith("Rarely") for t in titles) : -1])
    ]


@every_command
def test_a_sentence_of_the_help_is_short(name: str) -> None:
    texts = [COMMANDS[name].help, *(param.help for param in COMMANDS[name].params)]
    assert [one for text in texts for one in sentences(text or "") if len(one.split()) > MOST_WORDS] == []


@every_command
def test_nothing_of_the_help_is_cut_in_60_columns(name: str) -> None:
    shown = typer.testing.CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "60", "NO_COLOR": "1"}).stdout
    assert "…" not in shown
    assert all(len(line.rstrip()) <= 60 for line in shown.splitlines())
    assert set(options_of(name)) - {"--no-seeds"} <= set(re.findall(r"--?[a-z][\w-]*", shown))


def test_the_version_is_that_of_the_package() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'\nversion = "{VERSION}"\n' in text
    assert invoked("--version").stdout == f"lrf-optuna {VERSION}\n"


def test_help_and_version_and_wrong_options_load_nothing_heavy(tmp_path: Path) -> None:
    asked = [("--help",), ("--version",), *((name, "--help") for name in COMMANDS)]
    wrong = [(name, "--no-such-option") for name in COMMANDS]
    study = [("front", "nosuch"), ("select", "nosuch"), ("build", "nosuch"), ("tune", "nosuch"), ("export", "nosuch")]
    values = [("select", "net", "--max-drop", "-1"), ("tune", "net", "--rate", "fast"), ("layers", "none.keras")]
    right = calls(*asked, folder=tmp_path)
    assert right == ["0"] * len(asked)
    lines = calls(*wrong, *study, *values, folder=tmp_path)
    assert lines == ["2"] * (len(wrong) + len(study) + len(values))
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_and_folders_do_not_wait_for_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    names = [("run", f"--{key}", "sdv") for key in ("methods", "objectives", "similarity", "sampler")]
    for line in calls(*names, ("run", "--out", "notes.txt"), folder=tmp_path):
        assert line.split()[0] == "2"
        assert not {"tensorflow", "keras", "sklearn", "plotly"} & set(line.split())


def test_names_of_studies_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net", "nest", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "study.db").touch()
    (tmp_path / "mine.toml").touch()
    from lrf_optuna.cli.options import known_names, known_studies

    assert known_names("ne") == ["nest", "net"]
    assert known_studies("mi") == ["mine.toml"]
    assert "digits" in known_studies("")
