"""Metrics of finished trials are kept as Optuna's attributes, and are forgotten where they are of other images."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from support.studies import finished_trial, opened, url_in

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.public_trials import PublicTrials
from lrf_optuna.storage.study import AS_BUILT, METRIC, TUNED, StudyStore

OF = {"name": "accuracy", "digest": "a", "original": {METRIC: 0.95}}


@pytest.fixture(params=[True, False], ids=["bulk", "public"])
def record(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyStore:
    """A study with three trials, through Optuna's models or through its public calls."""
    if not request.param:
        monkeypatch.setattr("lrf_optuna.storage.bulk_trials.TESTED_REVISION", "v2.0.0.a")
    found = opened(tmp_path)
    assert isinstance(found.trials, PublicTrials) == (not request.param)
    found.append([finished_trial(number) for number in range(3)])
    return found


def test_what_is_not_measured_is_not_there(record: StudyStore) -> None:
    assert (record.metrics(), record.metric_name, record.original_metrics) == ({}, "", {})
    assert record.measurements("a") == {}


def test_metrics_of_finished_trials_are_kept_and_replaced_one_by_one(record: StudyStore, tmp_path: Path) -> None:
    before = record.candidates()
    record.keep_metrics(1, {METRIC: 0.5})
    record.keep_metrics(1, {AS_BUILT: 0.75})
    record.keep_metrics(2, {METRIC: 0.25, TUNED: 0.125})
    record.keep_metrics(1, {METRIC: 0.625})
    wanted = {1: {METRIC: 0.625, AS_BUILT: 0.75}, 2: {METRIC: 0.25, TUNED: 0.125}}
    assert record.metrics() == opened(tmp_path).metrics() == wanted
    assert record.candidates() == before


def test_a_metric_of_no_trial_is_refused_and_none_of_them_is_kept(record: StudyStore) -> None:
    with pytest.raises(LrfError, match="the study has no trial 7"):
        record.keep_metrics(7, {METRIC: 0.5})
    with pytest.raises(LrfError, match="the study has no trial 3"):
        record.keep_measurements(OF, {0: {METRIC: 0.5}, 3: {METRIC: 0.5}}, {})
    assert record.metrics() == {}


def test_what_was_measured_on_other_images_is_forgotten(record: StudyStore) -> None:
    record.keep_measurements(OF, {0: {METRIC: 0.5}}, {})
    record.keep_measurements(OF, {1: {METRIC: 0.25}}, {})
    assert (record.metric_name, record.original_metrics) == ("accuracy", {METRIC: 0.95})
    assert record.metrics() == {0: {METRIC: 0.5}, 1: {METRIC: 0.25}}
    assert record.compared_metric == "accuracy", "as an earlier version kept it"
    record.keep_measurements({**OF, "digest": "b", "compared": "validation accuracy"}, {2: {METRIC: 0.75}}, {})
    assert record.metrics() == {2: {METRIC: 0.75}}
    assert record.compared_metric == "validation accuracy"


def test_attributes_of_the_user_stay(record: StudyStore) -> None:
    record.study.set_user_attr("metric_of_mine", 3)
    record.keep_measurements(OF, {0: {METRIC: 0.5}}, {})
    record.keep_measurements({**OF, "digest": "b"}, {}, {})
    assert record.study.user_attrs["metric_of_mine"] == 3
    assert record.study.trials[0].user_attrs["params"] == 0


def test_plain_optuna_reads_the_metrics_and_whole_measurements_are_no_user_attributes(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.append([finished_trial(0)])
    record.keep_measurements(OF, {0: {METRIC: 0.5}}, {0: {"scored": [0.5, 1.0]}})
    trial = optuna.load_study(study_name="s", storage=url_in(tmp_path)).trials[0]
    assert trial.user_attrs == {**finished_trial(0).user_attrs, METRIC: 0.5}
    assert opened(tmp_path).measurements("a") == {0: {"scored": [0.5, 1.0]}}
    assert record.measurements("b") == {}
    record.keep_measurements({**OF, "digest": "b"}, {}, {})
    assert record.measurements("b") == {}


def test_metrics_of_one_study_are_not_those_of_another(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path, "other")
    for record, metric in ((one, 0.5), (other, 0.25)):
        record.append([finished_trial(0)])
        record.keep_metrics(0, {METRIC: metric})
    other.keep_measurements(OF, {}, {})
    other.keep_measurements({**OF, "digest": "b"}, {}, {})
    assert (one.metrics(), other.metrics()) == ({0: {METRIC: 0.5}}, {})
