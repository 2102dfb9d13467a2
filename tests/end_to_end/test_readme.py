"""The pages name only commands, options, keys, files and public names that there are, and all that users need."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer
from support.pages import (
    BENCHMARKS,
    CONTRIBUTING,
    MOST_WORDS,
    PAGES,
    README,
    ROOT,
    STUDIES,
    anchors,
    links,
    own_text,
    section,
    sentences,
)

import lrf_optuna
from lrf_optuna.cli.app import app
from lrf_optuna.config import OPTIONS, SECTIONS, StudySpec
from lrf_optuna.data.tasks import KINDS
from lrf_optuna.decompositions.registry import BUILT_IN
from lrf_optuna.pipeline.stopwatch import PHASES
from lrf_optuna.plans.plan import INTACT, Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.scoring.objectives import OBJECTIVES
from lrf_optuna.scoring.similarity import SIMILARITIES
from lrf_optuna.search.samplers import SAMPLERS
from lrf_optuna.sections import LayerSpec

GROUP: Any = typer.main.get_command(app)
COMMANDS = GROUP.commands
MOST_LINES, MOST_BYTES = 200, 9_000
"""Limits of the README, which is read on a few screens."""
SCRIPTS = [path for folder in ("quality", "cost", "coverage") for path in (ROOT / "benchmarks" / folder).glob("*.py")]
SECTION_KEYS = {**{name: set(model.model_fields) for name, model in SECTIONS.items() if name}, "": {"name"}}
SECTION_KEYS['layers."PATTERN"'] = set(LayerSpec.model_fields)
"""Section of a study file -> its keys."""
every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def options(command: str) -> set[str]:
    """All options of a command."""
    return set(chain.from_iterable(parameter.opts for parameter in COMMANDS[command].params))


def command_lines(page: str) -> Iterator[tuple[str, list[str]]]:
    """The command and the options of every call of the command line on a page."""
    for line in re.findall(r"(?:python -m lrf_optuna|lrf-optuna) ([a-z][^`#\n]*)", page):
        command, *words = line.split()
        yield command.rstrip(".,"), [word.partition("=")[0] for word in words if word.startswith("--")]


def key_rows(name: str) -> dict[str, str]:
    """Key -> its row in the table of a section of the study file; the empty name is outside the sections."""
    text = section(PAGES[STUDIES], "The study file")
    part = text.partition(f"\n### [{name}]\n" if name else "\nOutside the sections:\n")[2].partition("\n### ")[0]
    return {row[1]: row[0] for row in re.finditer(r"^\| `(\w+)` \|.*$", part, re.MULTILINE)}


@every_page
def test_a_command_line_has_a_command_and_options_that_there_are(page: str) -> None:
    for command, given in command_lines(page):
        assert command in COMMANDS
        assert set(given) <= options(command) | {"--help"}, command


@every_page
def test_an_option_in_the_text_is_an_option_of_some_command(page: str) -> None:
    of_all = chain.from_iterable(parameter.opts for parameter in GROUP.params)
    known = set(chain.from_iterable(map(options, COMMANDS))).union(of_all) | {"--help", "--strict"}  # mypy --strict
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", own_text(page))) <= known


def test_every_command_is_in_the_list_of_commands() -> None:
    assert set(COMMANDS) == {command for command, _ in command_lines(section(PAGES[STUDIES], "Commands"))}


def test_the_study_file_is_a_study(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGES[STUDIES], re.DOTALL)
    text = next(block for block in blocks if "[search]" in block)
    (tmp_path / "study.toml").write_text(text)
    spec = StudySpec.from_toml(tmp_path / "study.toml")
    assert spec.search.sampler == SECTIONS["search"].model_fields["sampler"].default
    written = tomllib.loads(text)
    assert set(written) - {"name"} <= set(SECTIONS)
    assert all(set(written[name]) <= set(model.model_fields) for name, model in SECTIONS.items() if name in written)


@pytest.mark.parametrize("name", SECTION_KEYS)
def test_the_table_of_a_section_has_its_keys_and_no_others(name: str) -> None:
    assert set(key_rows(name)) == SECTION_KEYS[name]


@pytest.mark.parametrize("name", sorted(set(SECTIONS) - {""}))
def test_the_row_of_a_key_has_its_default_and_an_option_of_another_name(name: str) -> None:
    for key, row in key_rows(name).items():
        default, option = SECTIONS[name].model_fields[key].default, OPTIONS[f"{name}.{key}"]
        if isinstance(default, str | int | float):
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            assert row.split("|")[2].strip().strip('`"') == shown, key
        if option.name != f"--{key.replace('_', '-')}":
            assert f"`{option.name}`" in row, key
        flag = option.flag.name.split()[0] if option.flag else option.name
        assert f"`{flag}`" in row or flag == f"--{key.replace('_', '-')}" or flag == option.name, key


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("methods", set(BUILT_IN) - {INTACT.method}),
        ("objectives", set(OBJECTIVES)),
        ("similarity", set(SIMILARITIES)),
        ("sampler", set(SAMPLERS)),
    ],
)
def test_the_row_of_a_key_has_all_names_that_may_be_given(key: str, names: set[str]) -> None:
    assert names <= set(re.findall(r"\w+", key_rows("search")[key]))


def test_every_kind_of_task_is_in_the_table_of_tasks() -> None:
    assert set(KINDS) <= set(re.findall(r"^\| `(\w+)` \|", section(PAGES[STUDIES], "Tasks and outputs"), re.MULTILINE))


def test_a_public_name_on_a_page_is_public() -> None:
    text = "\n".join(map(own_text, PAGES.values()))
    named = set(re.findall(r"\blrf_optuna\.([A-Za-z_]+)\b(?!\.\w)", text)) - {"decompositions"}
    assert named <= set(lrf_optuna.__all__)
    assert {"compress", "Proxy", "search_front", "pareto_front", "choose_point", "build", "export"} <= named


@every_page
def test_a_file_that_a_page_names_is_there(page: str) -> None:
    text = own_text(page)
    for path in re.findall(r"`(?:python )?((?:benchmarks|studies|tests|lrf_optuna)/[a-z0-9_./]*)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`([a-z_]+/[\w.]+\.(?:py|html))`", text):
        assert (ROOT / "lrf_optuna" / path).exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize("name", PAGES)
def test_a_link_of_a_page_leads_to_a_file_and_a_heading_that_there_are(name: str) -> None:
    for link in links(PAGES[name]):
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_leads_to_every_other_page() -> None:
    assert {STUDIES, BENCHMARKS, CONTRIBUTING} <= {link.partition("#")[0] for link in links(PAGES[README])}


def test_the_readme_is_short() -> None:
    assert len(PAGES[README].splitlines()) <= MOST_LINES
    assert len(PAGES[README].encode()) <= MOST_BYTES


@every_page
def test_a_sentence_of_a_page_is_short(page: str) -> None:
    found = sentences(page)
    assert len(found) > 20
    assert [one for one in found if len(one.split()) > MOST_WORDS] == []


def test_sentences_are_those_of_the_prose_alone() -> None:
    prose = "# A title\n\nOne [link](a.md)\ngoes on. Two?\n\n- **Three** of `a.b`.\n- Four\n\n"
    assert sentences(f"{prose}| no |\n\n```\nno.\n```\n<!-- x -->\n") == [
        "One link goes on.",
        "Two?",
        "Three of `a.b`.",
        "Four",
    ]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_is_on_the_page_of_benchmarks(path: Path) -> None:
    assert path.relative_to(ROOT).as_posix() in PAGES[BENCHMARKS]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").iterdir()), ids=lambda path: path.name)
def test_every_result_is_named_on_the_page_of_benchmarks(path: Path) -> None:
    assert re.search(rf"[`\[]{re.escape(path.name)}[`\]]", PAGES[BENCHMARKS])


def test_the_table_of_folders_has_every_folder_in_the_order_of_imports() -> None:
    listed = re.findall(r"^\| `(\w+)/` \|", section(PAGES[CONTRIBUTING], "The house"), re.MULTILINE)
    tests = (ROOT / "tests" / "test_architecture.py").read_text()
    found = re.search(r"FOLDERS = \((.*?)\n\)", tests, re.DOTALL)
    assert found
    assert listed == [name for name in re.findall(r'"(\w*)"', found[1]) if name]


TABLES = re.findall(r"\| `([A-Z]+)` in `(\w+/\w+)\.py` \|", section(PAGES[CONTRIBUTING], "How to add something"))


def test_the_page_says_where_every_table_is() -> None:
    assert {"DECOMPOSITIONS", "SIMILARITIES", "OBJECTIVES", "SAMPLERS", "LAYERS"} <= {name for name, _ in TABLES}


@pytest.mark.parametrize(("name", "module"), TABLES, ids=str)
def test_a_table_to_enter_something_in_is_where_the_page_says(name: str, module: str) -> None:
    text = (ROOT / "lrf_optuna" / f"{module}.py").read_text()
    assert re.search(rf"^{name}: dict\[", text, re.MULTILINE)


def test_the_keys_of_a_result_and_its_phases_are_listed() -> None:
    whole = Evaluation(2, 2, 1.0, 1.0, 1, epochs=1)
    result = Result("a", 1, 1, 1, {}, whole, Candidate(0, Plan(()), {"loss": 0.0}), built=whole, tuned=whole)
    content = result.to_dict()
    keys = {*content, *content["tuned"], *content["chosen"], *PHASES}
    listed = set(re.findall(r"`(\w+)`", section(PAGES[STUDIES], "What a run leaves")))
    assert keys <= listed


def test_what_a_run_prints_is_one_fenced_block() -> None:
    shown = re.search(r"<!-- run-output -->\n```\n(.*?)\n```\n<!-- /run-output -->", PAGES[STUDIES], re.DOTALL)
    assert shown
    assert "Study digits" in shown[1]
