"""Trials in batches are row by row what Optuna itself writes, and candidates are read as Optuna reads them."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session
from support.studies import IDENTITY, OBJECTIVES, finished_trial, odd_trial, odd_trials, opened, url_in

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.storage.bulk_trials import BulkTrials
from lrf_optuna.storage.public_trials import PublicTrials
from lrf_optuna.storage.study import PLAN, StudyStore, plan_of


def rows_of(folder: Path) -> dict[str, list[Any]]:
    """Every row of every table."""
    connection = sqlite3.connect(folder / "study.db")
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}
    connection.close()
    return found


def two(tmp_path: Path) -> tuple[StudyStore, StudyStore]:
    """The same new study in two databases."""
    return opened(tmp_path / "ours"), opened(tmp_path / "theirs")


def by_public_calls(monkeypatch: pytest.MonkeyPatch, folder: Path) -> StudyStore:
    """A study whose schema has another revision than the tested one."""
    monkeypatch.setattr("lrf_optuna.storage.bulk_trials.TESTED_REVISION", "v2.0.0.a")
    record = opened(folder)
    monkeypatch.undo()
    assert isinstance(record.trials, PublicTrials)
    return record


def candidates_of(trials: list[FrozenTrial]) -> list[Candidate]:
    """The candidates among trials that Optuna read."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and PLAN in trial.user_attrs]
    plans = [plan_of(trial) for trial in complete]
    costs = [dict(zip(OBJECTIVES, trial.values, strict=True)) for trial in complete]
    return [Candidate(trial.number, *parts) for trial, *parts in zip(complete, plans, costs, strict=True)]


def test_what_is_appended_is_row_by_row_what_optuna_writes(tmp_path: Path) -> None:
    ours, theirs = two(tmp_path)
    assert isinstance(ours.trials, BulkTrials)
    trials = odd_trials()
    assert ours.append(trials[:5]) == [0, 1, 2, 3, 4]
    assert ours.append(trials[5:]) == [5, 6, 7, 8, 9, 10, 11]
    theirs.study.add_trials(trials)
    mine, wanted = rows_of(tmp_path / "ours"), rows_of(tmp_path / "theirs")
    assert set(mine) == set(wanted)
    for name in wanted:
        assert mine[name] == wanted[name], name
    assert all(len(wanted[name]) >= 12 for name in wanted if name.startswith("trial") and "heartbeats" not in name)


def test_optuna_reads_what_is_appended_and_we_read_what_optuna_wrote(tmp_path: Path) -> None:
    trials = odd_trials()
    ours, theirs = two(tmp_path)
    ours.append(trials)
    theirs.study.add_trials(trials)
    assert repr(ours.study.trials) == repr(optuna.load_study(study_name="s", storage=url_in(tmp_path / "ours")).trials)
    for mine, wanted in zip(ours.study.trials, theirs.study.trials, strict=True):
        given = trials[wanted.number]
        assert list(mine.params.items()) == list(wanted.params.items()) == list(given.params.items())
        assert mine.distributions == wanted.distributions
        assert (mine.number, mine.values, mine.user_attrs) == (wanted.number, wanted.values, wanted.user_attrs)
        assert (mine.system_attrs, mine.state) == (wanted.system_attrs, wanted.state)
        assert repr(mine.intermediate_values) == repr(wanted.intermediate_values)
        assert (mine.datetime_start, mine.datetime_complete) == (given.datetime_start, given.datetime_complete)
        assert mine.duration == given.duration
    assert ours.candidates() == theirs.candidates() == candidates_of(theirs.study.trials)


def test_the_cache_of_an_open_study_sees_what_is_appended(tmp_path: Path) -> None:
    record = opened(tmp_path)
    other = optuna.load_study(study_name="s", storage=url_in(tmp_path))
    for number in range(3):
        record.append([finished_trial(number)])
        assert len(record.study.trials) == len(other.trials) == number + 1
    other.add_trial(finished_trial(3))
    assert record.append([finished_trial(4)]) == [4]
    assert [trial.number for trial in other.trials] == [0, 1, 2, 3, 4]


def test_a_range_of_the_candidates_is_read(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.append([finished_trial(number) for number in range(9)])
    assert [one.trial for one in record.candidates()] == list(range(9))
    assert [one.trial for one in record.candidates(3)] == [3, 4, 5, 6, 7, 8]
    assert record.candidates(9) == []
    assert record.candidates(3, 5) == candidates_of(record.study.trials[3:5])


def test_candidates_are_read_whole_while_another_process_adds_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, other = opened(tmp_path), opened(tmp_path)
    record.append([finished_trial(0)])
    execute, calls = Session.execute, list[int]()

    def then_append(session: Session, *args: Any, **options: Any) -> Any:
        found = execute(session, *args, **options)
        if not calls:
            calls.append(1)
            other.append([finished_trial(1)])
        return found

    wanted = record.trials.marks(0, None)
    monkeypatch.setattr(Session, "execute", then_append)
    assert record.trials.marks(0, None) == wanted
    assert record.count() == 2


@pytest.mark.parametrize("fast", [True, False])
def test_the_distributions_of_a_trial_are_those_that_optuna_reads(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = opened(tmp_path) if fast else by_public_calls(monkeypatch, tmp_path)
    record.append(odd_trials())
    assert [record.distributions(number) for number in (0, 11)] == [
        record.study.trials[number].distributions for number in (0, 11)
    ]
    optuna.delete_study(study_name="s", storage=url_in(tmp_path))
    with pytest.raises(LrfError, match="the study was deleted from the database while it was in use"):
        record.distributions(0)


@pytest.mark.parametrize("fast", [True, False])
def test_no_more_are_recorded_than_the_study_shall_have(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = opened(tmp_path) if fast else by_public_calls(monkeypatch, tmp_path)
    trials = [finished_trial(number) for number in range(5)]
    assert record.append(trials, most=7) == [0, 1, 2, 3, 4]
    assert record.append(trials, most=7) == [5, 6]
    assert record.append(trials, most=7) == record.append(trials, most=3) == record.append([]) == []
    assert record.append(trials[:1]) == [7]
    assert record.count() == len(record.study.trials) == 8


def test_trials_that_did_not_complete_keep_their_numbers_and_do_not_count(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.append([odd_trial(0, state=TrialState.FAIL, values=None)])
    running = record.study.ask()
    assert record.append([finished_trial(i) for i in range(3)], most=2) == [2, 3]
    assert record.count() == 2
    assert running.number == 1
    assert [one.trial for one in record.candidates()] == [2, 3]


def test_another_revision_of_the_schema_is_left_to_public_calls_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = by_public_calls(monkeypatch, tmp_path / "plain")
    assert "schema v3.2.0.a, but v2.0.0.a was tested: trials are recorded one by one" in caplog.messages[0]
    fast, trials = opened(tmp_path / "fast"), odd_trials()
    assert plain.append(trials) == fast.append(trials) == list(range(len(trials)))
    one, other = rows_of(tmp_path / "plain"), rows_of(tmp_path / "fast")
    for name in ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes"):
        assert one[name] == other[name], name
    for number, before in ((0, None), (2, 5)):
        assert plain.trials.marks(number, before) == fast.trials.marks(number, before)
    assert plain.trials.counts() == fast.trials.counts()


def test_no_table_is_touched_by_models_of_another_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path).append([finished_trial(0)])
    monkeypatch.setattr("lrf_optuna.storage.bulk_trials.models", None)
    record = opened(tmp_path)
    assert (record.join(), record.join()) == (0, 1)
    assert record.append([finished_trial(1)]) == [1]
    assert len(record.candidates()) == record.count() == 2
    with pytest.raises(LrfError, match="another model"):
        opened(tmp_path, identity=IDENTITY | {"model": "x"})
    monkeypatch.undo()
    assert (opened(tmp_path).join(), opened(tmp_path).count()) == (2, 2)
    optuna.delete_study(study_name="s", storage=url_in(tmp_path))
    with pytest.raises(LrfError, match="the study was deleted from the database while it was in use"):
        record.append([finished_trial(2)])


def test_a_batch_with_a_bad_trial_is_not_recorded_at_all(tmp_path: Path) -> None:
    record = opened(tmp_path)
    bad = finished_trial(1)
    bad.user_attrs["no JSON"] = object()
    with pytest.raises(TypeError):
        record.append([finished_trial(0), bad])
    assert record.count() == len(record.study.trials) == 0
    assert record.append([finished_trial(2)]) == [0]


def test_a_parameter_keeps_its_range_through_the_study(tmp_path: Path) -> None:
    name = "layer0.keep"
    other = optuna.trial.create_trial(
        params={name: 0.2}, distributions={name: CategoricalDistribution((0.2, 0.9))}, values=[1.0, 1.0]
    )
    with pytest.raises(LrfError, match=r"the study draws layer0\.keep from .*0\.6.*, and a trial comes with .*0\.9"):
        opened(tmp_path).append([finished_trial(0), other])
    opened(tmp_path).append([finished_trial(0)])
    for record in (opened(tmp_path), opened(tmp_path)):
        with pytest.raises(LrfError, match="dynamic value space"):
            record.append([finished_trial(1), other])
        assert record.append([finished_trial(1)]) in ([1], [2])
    assert opened(tmp_path).count() == 3
    opened(tmp_path, "another study").append([other])


def test_a_number_may_have_another_span_as_in_optuna(tmp_path: Path) -> None:
    def of(high: int) -> FrozenTrial:
        return optuna.trial.create_trial(
            params={"n": 3}, distributions={"n": IntDistribution(1, high)}, values=[1.0, 1.0]
        )

    record = opened(tmp_path)
    record.append([of(5), of(9)])
    assert [trial.distributions["n"].high for trial in record.study.trials] == [5, 9]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fast", [True, False])
def test_only_complete_trials_with_a_plan_count(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = opened(tmp_path) if fast else by_public_calls(monkeypatch, tmp_path)
    caplog.clear()
    record.study.enqueue_trial({"layer0.keep": 0.2})
    record.study.add_trial(optuna.trial.create_trial(values=[1.0, 2.0]))
    record.append([finished_trial(0)])
    states = TrialState.PRUNED, TrialState.FAIL
    others = [odd_trial(place, state=state, values=None) for place, state in enumerate(states)]
    assert record.append([others[0], finished_trial(1), others[1], finished_trial(2)], most=2) == [3, 4]
    assert (record.count(), record.trials.counts()) == (2, (5, 3, 2))
    for _ in range(2):
        assert [one.trial for one in record.candidates()] == [2, 4]
    assert caplog.messages == ["1 trials of the study s were not made by lrf_optuna and are ignored: they have no plan"]
    assert record.study.trials[0].state == TrialState.WAITING, "an enqueued trial is the user's"


def test_the_dashboard_reads_what_is_appended(tmp_path: Path) -> None:
    from optuna_dashboard import wsgi

    record = opened(tmp_path)
    record.append([finished_trial(number) for number in range(3)])
    app = wsgi(optuna.storages.RDBStorage(url_in(tmp_path)))
    path = f"/api/studies/{record.study._study_id}"
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "after=0", "wsgi.input": io.BytesIO()}
    statuses: list[str] = []
    body = b"".join(app(asked, lambda status, headers, info=None: statuses.append(status)))
    assert statuses == ["200 OK"]
    shown = json.loads(body)["trials"]
    assert [trial["number"] for trial in shown] == [0, 1, 2]
    assert {p["name"] for p in shown[0]["params"]} == set(finished_trial(0).params)
