"""The options of a command are those of the settings' model, with its defaults, and their text becomes its values."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from lrf_optuna.cli.app import app
from lrf_optuna.cli.options import in_words, value_of
from lrf_optuna.cli.studies import study_of
from lrf_optuna.config import OPTIONS, SECTIONS
from lrf_optuna.errors import LrfError

TEXTS: dict[str, tuple[Any, Any]] = {
    "search.trials": ("7", 7),
    "search.max_drop": ("1", 1.0),
    "search.keep": ("0.2, 0.1,", (0.1, 0.2)),
    "search.methods": ("svd,cp", ("svd", "cp")),
    "search.targets": (["params=0.4", "macs = 0.5"], {"params": 0.4, "macs": 0.5}),
    "search.by": ("loss", "loss"),
    "search.storage": ("7", "7"),
    "search.exclude": (["head*,b", "a"], ("head*", "b", "a")),
    "search.rank_multiple": ("4", 4),
    "tune.rate": ("auto", "auto"),
    "tune.rate ": ("1e-3", 0.001),
}
OWN_OF_RUN = {"study", "--out", "--force", "--export", "--dry-run"}
"""Arguments and options of `run` that are no settings of a study."""


def options_of(command: str) -> dict[str, Any]:
    """Name of every option of a command -> the parameter as typer made it."""
    found = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {name: param for param in found for name in param.opts}


def test_every_setting_of_a_study_is_an_option_of_run() -> None:
    wanted = {f"{section}.{key}".lstrip(".") for section, model in SECTIONS.items() for key in model.model_fields}
    assert set(OPTIONS) == wanted - set(SECTIONS) - {"layers"}  # sections, whose names are patterns
    shown = {option.name for option in OPTIONS.values() if not option.flag or option.flag.help}
    flags = {name for option in OPTIONS.values() if option.flag for name in option.flag.name.split()}
    assert set(options_of("run")) == shown | flags | OWN_OF_RUN | {"--json", "--quiet", "-q"}


def test_the_defaults_that_help_shows_are_those_of_a_study() -> None:
    plain = study_of(None, {"model.path": "zoo:lenet5", "data.path": "digits"})
    found = options_of("run")
    for key, option in OPTIONS.items():
        section, _, name = key.rpartition(".")
        if section and not option.shown and not (option.flag and not option.flag.help):
            value = getattr(getattr(plain, section), name)
            expected = "" if key in ("model.path", "data.path") else in_words(value)
            shown = f"the study's, or {expected}" if expected else ""
            assert (found[option.name].show_default or "") == shown, key


@pytest.mark.parametrize("key", TEXTS)
def test_the_text_of_an_option_becomes_a_value_of_its_setting(key: str) -> None:
    text, value = TEXTS[key]
    section, _, name = key.strip().partition(".")
    plain = study_of(None, {"model.path": "zoo:lenet5", "data.path": "digits"})
    found = getattr(getattr(plain.override({key.strip(): value_of(key.strip(), [text])}), section), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("key", ["search.trials", "search.methods"])
def test_a_text_that_is_no_value_is_refused_under_the_name_of_its_option(key: str) -> None:
    spec = study_of(None, {"model.path": "zoo:lenet5", "data.path": "digits"})
    with pytest.raises(LrfError, match=f"{OPTIONS[key].name} should .*, but got"):
        spec.override({key: value_of(key, [","])})


def test_an_option_and_its_flag_are_refused_together() -> None:
    assert value_of("tune.epochs", [None, True]) == 0
    with pytest.raises(LrfError, match="--no-tune and --epochs exclude each other: give one of them"):
        value_of("tune.epochs", ["3", True])
