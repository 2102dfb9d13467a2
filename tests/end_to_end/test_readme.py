"""The README and CONTRIBUTING name only commands, options, keys, files and public names that there are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import typer

import lrf_optuna
from lrf_optuna.cli.app import app
from lrf_optuna.config import SECTIONS, StudySpec
from lrf_optuna.pipeline.stopwatch import PHASES
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GENERATED = ("kinds", "networks")
"""Blocks that benchmarks write."""


def own_text(page: str) -> str:
    """A page without its generated blocks."""
    for name in GENERATED:
        page = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", "", page, flags=re.DOTALL)
    return page


def section(title: str) -> str:
    """The text of the README below a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def options(command: str) -> set[str]:
    """All options of a command."""
    return set(chain.from_iterable(parameter.opts for parameter in COMMANDS[command].params))


def command_lines(page: str) -> Iterator[tuple[str, list[str]]]:
    """The command and the options of every call of the command line on a page."""
    for line in re.findall(r"(?:python -m lrf_optuna|lrf-optuna) ([a-z][^`#\n]*)", page):
        command, *words = line.split()
        yield command.rstrip(".,"), [word.partition("=")[0] for word in words if word.startswith("--")]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_command_line_has_a_command_and_options_that_there_are(page: str) -> None:
    for command, given in command_lines(page):
        assert command in COMMANDS
        assert set(given) <= options(command) | {"--help"}, command


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_an_option_in_the_text_is_an_option_of_some_command(page: str) -> None:
    known = set(chain.from_iterable(map(options, COMMANDS))) | {"--help", "--strict"}  # mypy --strict
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", own_text(page))) <= known


def test_every_command_is_in_the_readme() -> None:
    assert set(COMMANDS) <= {command for command, _ in command_lines(README)}


def test_the_study_file_is_a_study(tmp_path: Path) -> None:
    text = next(block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if "[search]" in block)
    (tmp_path / "study.toml").write_text(text)
    spec = StudySpec.from_toml(tmp_path / "study.toml")
    assert spec.search.sampler == SECTIONS["search"].model_fields["sampler"].default
    written = tomllib.loads(text)
    assert set(written) - {"name"} <= set(SECTIONS)
    assert all(set(written[name]) <= set(model.model_fields) for name, model in SECTIONS.items() if name in written)


def test_a_public_name_in_the_readme_is_public() -> None:
    named = set(re.findall(r"\blrf_optuna\.([A-Za-z_]+)\b(?!\.\w)", own_text(README))) - {"decompositions"}
    assert named <= set(lrf_optuna.__all__)
    assert {"compress", "Proxy", "search_front", "pareto_front", "choose_point", "build"} <= named


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_file_that_a_page_names_is_there(page: str) -> None:
    text = own_text(page)
    for path in re.findall(r"`(?:python )?((?:benchmarks|studies|tests|lrf_optuna)/[a-z0-9_./]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`([a-z_]+/[\w.]+\.(?:py|html))`", text):
        assert (ROOT / "lrf_optuna" / path).exists() or (ROOT / path).exists(), path


def test_the_table_of_folders_has_every_folder_in_the_order_of_imports() -> None:
    listed = re.findall(r"^\| `(\w+)/` \|", section("The house"), re.MULTILINE)
    tests = (ROOT / "tests" / "test_architecture.py").read_text()
    found = re.search(r"FOLDERS = \((.*?)\n\)", tests, re.DOTALL)
    assert found
    assert listed == [name for name in re.findall(r'"(\w*)"', found[1]) if name]


@pytest.mark.parametrize(
    ("name", "module"), re.findall(r"\| `([A-Z]+)` in `(\w+/\w+)\.py` \|", section("The house")), ids=str
)
def test_a_table_to_enter_something_in_is_where_the_readme_says(name: str, module: str) -> None:
    text = (ROOT / "lrf_optuna" / f"{module}.py").read_text()
    assert re.search(rf"^{name}: dict\[", text, re.MULTILINE)


def test_the_keys_of_a_result_and_its_phases_are_listed() -> None:
    whole = Evaluation(2, 2, 1.0, 1.0, 1, epochs=1)
    result = Result("a", 1, 1, 1, {}, whole, Candidate(0, Plan(()), {"loss": 0.0}), built=whole, tuned=whole)
    content = result.to_dict()
    keys = {*content, *content["tuned"], *content["chosen"], *PHASES}
    listed = set(re.findall(r"`(\w+)`", section("What a run leaves")))
    assert keys <= listed


def test_what_a_run_prints_is_one_fenced_block() -> None:
    shown = re.search(r"<!-- run-output -->\n```\n(.*?)\n```\n<!-- /run-output -->", README, re.DOTALL)
    assert shown
    assert "Study digits" in shown[1]
