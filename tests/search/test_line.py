"""Trials on their way: a long study is forgotten without harm, and no plan of the first generation is random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf_optuna.plans.front import Front, hypervolume_history
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.line import KEPT, Line
from lrf_optuna.search.loop import search_front
from lrf_optuna.search.state import is_flat
from lrf_optuna.storage.study import StudyStore

GENERATION = "NSGAIISampler:generation"
OBJECTIVES = ("loss", "params", "macs")


def record_at(path: Path) -> StudyStore:
    return StudyStore.open(f"sqlite:///{path}", "s", objectives=OBJECTIVES, question={})


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Studies in memory are begun anew at 40 trials of a population of 10; how long each became."""
    lengths: list[int] = []
    forget = Line.forget

    def watched(line: Line, taken: Any = ()) -> None:
        lengths.append(len(line.study.trials))
        forget(line, taken)
        lengths.append(len(line.study.trials))

    monkeypatch.setattr("lrf_optuna.search.line.MANY", 4)
    monkeypatch.setattr("lrf_optuna.search.line.KEPT", 2)
    monkeypatch.setattr(Line, "forget", watched)
    return lengths


def test_the_study_in_memory_stays_short_and_the_search_as_good(
    forgetful: list[int], proxy: Proxy, table: Any, keeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search_front(proxy, table, trials=160, keeps=keeps, population=10, record=record_at(tmp_path / "s.db"))
    assert len(found) == 160
    assert max(forgetful) <= 4 * 10 + 2
    assert set(forgetful[1::2]) == {2 * 10}
    assert len(forgetful) >= 8
    monkeypatch.setattr("lrf_optuna.search.line.MANY", 1000)
    whole = search_front(proxy, table, trials=160, keeps=keeps, population=10)
    assert Front.of(found).volume > 0.99 * Front.of(whole).volume


def test_a_search_that_forgets_is_the_same_for_the_same_seed(
    forgetful: list[int], proxy: Proxy, table: Any, keeps: Any
) -> None:
    one, other = (search_front(proxy, table, trials=100, keeps=keeps, population=10) for _ in range(2))
    assert [point.plan for point in one] == [point.plan for point in other]
    assert forgetful


def test_a_long_record_is_taken_up_by_its_front_and_its_last_trials(
    forgetful: list[int], proxy: Proxy, table: Any, keeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_front(proxy, table, trials=90, keeps=keeps, population=10, record=record_at(tmp_path / "s.db"))
    joined = Line.join
    lengths = []

    def join(line: Line, trials: Any) -> None:
        joined(line, trials)
        lengths.append(len(line.study.trials))

    monkeypatch.setattr(Line, "join", join)
    found = search_front(proxy, table, trials=100, keeps=keeps, population=10, record=record_at(tmp_path / "s.db"))
    assert lengths[0] == 2 * 10
    assert len(found) == 100
    volumes = hypervolume_history(found)
    assert volumes[-1] >= volumes[89]


def test_many_trials_of_others_at_once_are_taken_in_in_the_middle_of_a_search(
    forgetful: list[int], proxy: Proxy, table: Any, keeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = record_at(tmp_path / "others.db")
    search_front(proxy, table, trials=60, keeps=keeps, population=10, seed=1, record=others)
    record = record_at(tmp_path / "s.db")
    stranger = record_at(tmp_path / "s.db")
    before = Line.finish
    given: list[int] = []

    def finish(line: Line) -> None:
        before(line)
        if len(line.hunt.found) == 15 and not given:
            given.extend(stranger.append(others.finished()))

    monkeypatch.setattr(Line, "finish", finish)
    monkeypatch.setattr("lrf_optuna.search.line.LAST", 1000)
    found = search_front(proxy, table, trials=110, keeps=keeps, population=10, record=record)
    assert given
    assert len(found) == len(record.finished()) == 110
    assert [trial.number for trial in record.finished()] == list(range(110))
    assert 2 * 10 in forgetful, "begun anew with what came"


def test_other_samplers_forget_nothing(forgetful: list[int], proxy: Proxy, table: Any, keeps: Any) -> None:
    assert len(search_front(proxy, table, trials=90, keeps=keeps, population=10, sampler="nsga2")) == 90
    assert not forgetful


def test_what_follows_the_seeds_before_they_are_scored_is_bred_not_random(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    record = record_at(tmp_path / "s.db")
    search_front(proxy, table, trials=30, keeps=keeps, population=10, record=record)
    first = [trial for trial in record.finished() if trial.system_attrs[GENERATION] == 0]
    assert len(first) > 10, "some were asked while the last seeds were being scored"
    assert all("fixed_params" in trial.system_attrs for trial in first)


def test_a_record_says_on_how_many_images_a_trial_was_scored(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    record = record_at(tmp_path / "s.db")
    search_front(proxy, table, trials=20, keeps=keeps, population=10, record=record)
    assert {trial.user_attrs["images"] for trial in record.finished()} == {len(proxy)}


def test_kept_trials_are_a_first_generation() -> None:
    assert KEPT >= 2, "NSGA-II takes a generation of less than the population for one that is not complete"


def test_flat_is_where_a_population_of_trials_gained_little() -> None:
    rising = np.linspace(0, 0.9, 40).tolist()
    assert not is_flat(rising, 10)
    assert is_flat(rising + [0.9] * 10, 10)
