"""What is known of points comes from the study and from their models; what is not known is said to be unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.results import ORIGINAL, result_of
from support.studies import finished_trial, opened, url_in

from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.pipeline.front_facts import ESTIMATED, FrontFacts
from lrf_optuna.pipeline.point_choice import make_chosen, point_of
from lrf_optuna.pipeline.run_folder import ExistingStudy, RunFolder
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT
from lrf_optuna.storage.study import AS_BUILT, METRIC, TUNED, StudyStore

SPEC = StudySpec(name="s", model=ModelSpec(path="zoo:digits"), data=DataSpec(path="digits"))
OF = {"name": "accuracy", "digest": "a", "original": {METRIC: 0.96, AS_BUILT: 0.95}}


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    """A study of 40 trials."""
    found = opened(tmp_path, spec=SPEC.model_dump_json())
    found.append([finished_trial(number) for number in range(40)])
    return found


def facts_of(store: StudyStore, folder: Path) -> FrontFacts:
    return FrontFacts.of(store, RunFolder(folder), ORIGINAL.milliseconds)


def test_the_metric_of_a_point_is_that_of_its_last_state_that_was_measured(store: StudyStore, tmp_path: Path) -> None:
    store.keep_measurements(OF, {1: {METRIC: 0.9}, 2: {METRIC: 0.8, AS_BUILT: 0.9, TUNED: 0.94}}, {})
    facts = facts_of(store, tmp_path)
    assert [facts.metric(trial) for trial in (0, 1, 2)] == [None, (0.9, "as scored"), (0.94, "tuned")]
    assert facts.drops() == pytest.approx({1: 6, 2: 5}), "before a fine-tune, as built where that is known"


def test_milliseconds_are_measured_or_predicted_or_not_known(store: StudyStore, tmp_path: Path) -> None:
    facts, made = facts_of(store, tmp_path), store.candidates()[3]
    assert facts.milliseconds(made) == (None, False)
    predicted = Candidate(90, Plan(()), {"loss": 0.1, "latency": 0.25})
    assert facts.milliseconds(predicted) == (0.5, False)
    result = result_of(made, 0.9, 0.93)
    facts.folder.models.path.mkdir()
    facts.folder.models.model(3).touch()
    facts.folder.models.write_result(result, {})
    assert facts.milliseconds(made) == (1.0, True)


def test_named_points_say_whether_their_metric_was_measured(store: StudyStore, tmp_path: Path) -> None:
    points = pareto_front(store.candidates())
    assert facts_of(store, tmp_path).alternatives(points) == [], "no drop is known"
    ends = [min(points, key=lambda p: p.costs["loss"]), max(points, key=lambda p: p.costs["loss"])]
    store.keep_measurements(OF, {p.trial: {METRIC: 0.959 - 0.05 * i} for i, p in enumerate(ends)}, {})
    found = facts_of(store, tmp_path).alternatives(points)
    assert found
    for one in found:
        assert (one.state == ESTIMATED) == (one.trial not in {p.trial for p in ends})
        assert one.predicted, "a fine-tune comes"
        assert one.milliseconds is None


def test_the_command_names_what_is_not_in_its_usual_place(
    store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    point = store.candidates()[3]
    assert facts_of(store, tmp_path).command(point) == f"python -m lrf_optuna tune s --trial 3 --out {tmp_path}"
    plain = RunFolder(Path("runs/s"))
    facts = FrontFacts.of(store, plain, {})
    assert facts.command(point) == f"python -m lrf_optuna tune s --trial 3 --storage {url_in(tmp_path)}"
    untuned = opened(tmp_path, spec=SPEC.override({"tune.epochs": 0}).model_dump_json())
    assert FrontFacts.of(untuned, plain, {}).command(point).startswith("python -m lrf_optuna build s --trial 3")


def test_the_command_of_a_model_that_is_there_selects_it(store: StudyStore, tmp_path: Path) -> None:
    point, facts = store.candidates()[3], facts_of(store, tmp_path)
    for tuned, command in ((None, "tune"), (0.94, "select")):
        facts.folder.models.model(3).parent.mkdir(exist_ok=True)
        facts.folder.models.model(3).write_text("a model")
        facts.folder.models.write_result(result_of(point, 0.9, tuned), {})
        assert facts.command(point) == f"python -m lrf_optuna {command} s --trial 3 --out {tmp_path}"


def test_rows_are_the_points_of_round_budgets_the_chosen_one_or_all(store: StudyStore, tmp_path: Path) -> None:
    points, facts = pareto_front(store.candidates()), facts_of(store, tmp_path)
    chosen = points[len(points) // 2].trial
    some, every = facts.rows(points, chosen), facts.rows(points, chosen, every=True)
    assert [row.point for row in every] == points
    assert [row for row in every if row.budget or row.chosen] == some
    assert [row.point.trial for row in some if row.chosen] == [chosen]
    assert all(row.point.costs["params"] <= row.budget for row in some if row.budget)


def test_a_trial_that_is_not_there_is_refused_with_the_last_one(store: StudyStore) -> None:
    assert point_of(store.candidates(), 7)[0].trial == 7
    with pytest.raises(LrfError, match="trial 40 is no finished trial of this study, the last one is 39"):
        point_of(store.candidates(), 40)
    with pytest.raises(LrfError, match="there is none yet"):
        point_of([], 0)


def test_a_choice_without_a_model_leaves_the_model_of_before(store: StudyStore, tmp_path: Path) -> None:
    folder, candidates = RunFolder(tmp_path), store.candidates()
    folder.model.write_text("of trial 3")
    folder.write_result(result_of(candidates[3], 0.9))
    found = ExistingStudy(store, folder, SPEC)
    assert not make_chosen(found, (candidates[5], "by hand"), candidates, SILENT)
    assert folder.read_choice() == (candidates[5], "by hand")
    assert folder.model.read_text() == "of trial 3"
    assert folder.models.model(3).read_text() == "of trial 3"
