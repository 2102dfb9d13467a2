"""The keywords of `compress` are the settings of a study."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

import lrf_optuna
from lrf_optuna.config import SECTIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.keywords import (
    KEYWORD_SECTIONS,
    Keywords,
    epochs_of,
    homes,
    keyword_defaults,
    keyword_texts,
    names_of_objects,
    settings_of,
)

OTHER_PLACES = {"trials", "seed", "targets", "max_drop", "epochs"}
"""Settings that are arguments of `compress` itself, some under another name."""


def test_every_setting_of_a_study_is_a_keyword() -> None:
    settings = {key for section in KEYWORD_SECTIONS for key in SECTIONS[section].model_fields} | {"layers"}
    assert set(get_type_hints(Keywords)) == settings - OTHER_PLACES


def test_the_signature_of_compress_has_the_defaults_of_a_study() -> None:
    shown = inspect.signature(lrf_optuna.compress).parameters
    for key in get_type_hints(Keywords):
        assert shown[key].default == keyword_defaults()[key]
    assert (shown["trials"].default, shown["seed"].default) == (300, 0)


def test_help_says_what_every_keyword_is() -> None:
    assert set(get_type_hints(Keywords)) <= set(keyword_texts())
    assert "- `time_at_end`: False: measure no milliseconds" in (lrf_optuna.compress.__doc__ or "")
    assert not [text for text in keyword_texts().values() if "--" in text or "commas" in text]


def test_a_keyword_is_a_setting_of_its_section() -> None:
    assert settings_of({"batch": 4, "layers": {}}, {}, ()) == {"tune.batch": 4, "layers": {}}
    assert homes()["population"] == "search.population"


@pytest.mark.parametrize(("key", "argument"), [("targets", "target"), ("epochs", "tune")])
def test_one_setting_is_not_given_twice(key: str, argument: str) -> None:
    with pytest.raises(LrfError, match=f"{argument} and {key} are the same setting"):
        settings_of({key: 1}, {"target": True, "tune": True}, ())
    assert settings_of({key: 1}, {"target": False, "tune": False}, ())


def test_an_unknown_keyword_names_the_one_that_was_meant() -> None:
    with pytest.raises(LrfError, match="did you mean 'trials'"):
        settings_of({"trails": 1}, {}, ("trials",))


def test_functions_get_names_and_names_stay() -> None:
    def share(labels: object, outputs: object) -> float:
        return 1.0

    assert names_of_objects({"a": share, "b": "f1"}) == {"a": "python:share", "b": "f1"}
    assert names_of_objects(None) is None


def test_tune_is_yes_or_no_or_a_number() -> None:
    assert [epochs_of(tune) for tune in (True, False, None, 3)] == [None, 0, 0, 3]
