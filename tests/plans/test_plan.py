"""Plans are values: equal, hashable, and the same after a trip through JSON; what is no plan is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan

CHOICES = st.builds(Choice, st.text(min_size=1), st.lists(st.integers(1, 4096), max_size=4).map(tuple))
PLANS = st.dictionaries(st.text(min_size=1), CHOICES).map(Plan.of)


@given(PLANS)
def test_a_plan_is_the_same_after_a_trip_through_json(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert "\n" not in plan.to_json()


@given(PLANS)
def test_a_plan_gives_its_choices_in_their_order(plan: Plan) -> None:
    assert tuple(plan) == plan.choices
    assert all(plan[site] == choice for site, choice in plan)


def test_a_site_without_a_choice_is_intact() -> None:
    plan = Plan.of({"a": Choice("svd", (3,))})
    assert plan["a"] == Choice("svd", (3,))
    assert plan["b"] == INTACT == Choice("intact")


def test_a_choice_reads_as_its_method_and_ranks() -> None:
    assert str(Choice("tucker2", (3, 5))) == "tucker2(3, 5)"
    assert str(INTACT) == "intact"


@pytest.mark.parametrize("value", [Choice("svd", (1,)), Plan(()), Candidate(0, Plan(()), {})])
def test_plans_cannot_be_changed(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '{"a": 1}',
        '{"a": null}',
        '{"a": []}',
        '{"a": {}}',
        '{"a": {"method": "svd"}}',
        '{"a": {"ranks": [1]}}',
        '{"a": {"method": "svd", "ranks": 3}}',
        '{"a": {"method": "svd", "ranks": ["x"]}}',
        '{"a": {"method": "svd", "ranks": [null]}}',
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(LrfError, match=r"^not a plan: .*") as error:
        Plan.from_json(text)
    assert "\n" not in str(error.value)
