"""Public functions show every keyword with its type and its default."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, TypedDict, Unpack, get_type_hints

import pytest

import lrf_optuna
from lrf_optuna.search.loop import SearchKeywords, SearchOptions
from lrf_optuna.signatures import names_keywords

FUNCTIONS = [name for name in lrf_optuna.__all__ if inspect.isfunction(getattr(lrf_optuna, name))]


class Two(TypedDict, total=False):
    first: int
    second: str


def test_a_signature_names_the_keywords_after_the_functions_own() -> None:
    @names_keywords(Two, {"first": 1, "second": "b"}, {"first": "The first of two."})
    def example(path: str, **settings: Unpack[Two]) -> None:
        """An example."""

    assert str(inspect.signature(example)) == "(path: str, *, first: int = 1, second: str = 'b') -> None"
    assert (example.__doc__ or "").endswith("Keywords:\n\n- `first`: The first of two.\n")


def test_a_keyword_without_a_default_is_no_keyword() -> None:
    with pytest.raises(KeyError, match="second"):
        names_keywords(Two, {"first": 1})(lambda **settings: None)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_hides_no_keyword(name: str) -> None:
    found = inspect.signature(getattr(lrf_optuna, name)).parameters.values()
    assert not [p for p in found if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert not [p.name for p in found if p.annotation is p.empty]


def test_the_keywords_of_search_front_are_the_fields_of_its_options() -> None:
    assert set(get_type_hints(SearchKeywords)) == {option.name for option in fields(SearchOptions)}
    shown: Any = inspect.signature(lrf_optuna.search_front).parameters
    assert all(shown[option.name].default == getattr(SearchOptions(), option.name) for option in fields(SearchOptions))
