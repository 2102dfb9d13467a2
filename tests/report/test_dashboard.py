"""The dashboard has the figures, notes and files of the last run, and keeps what users write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from plotly.io import from_json
from support.report import OBJECTIVES, content_of

from lrf_optuna.report.dashboard import ARTIFACTS, IS_CHOSEN, OURS, WAS_CHOSEN, NotedTrial, save_to_study
from lrf_optuna.report.figures import run_figures
from lrf_optuna.storage.study import PLAN, StudyStore

if TYPE_CHECKING:
    from pathlib import Path

    from lrf_optuna.report.content import ReportContent


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    """A study with 41 trials of random plans."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    found = StudyStore.open(url, "digits", objectives=OBJECTIVES, identity={"model": "one"})
    found.append(
        [
            optuna.trial.create_trial(values=[*c.costs.values()], user_attrs={PLAN: c.plan.to_json()})
            for c in content_of().candidates
        ]
    )
    return found


def saved(store: StudyStore) -> dict[str, Any]:
    """The figures that the dashboard finds in a study."""
    attributes = store.study._storage.get_study_system_attrs(store.study._study_id)
    return {name: from_json(text) for name, text in get_plotly_graph_objects(attributes).items()}


def trial_text(store: StudyStore, number: int) -> str:
    """The note on a trial."""
    storage = store.study._storage
    trial_id = storage.get_trial_id_from_study_id_trial_number(store.study._study_id, number)
    noted: Any = NotedTrial(storage, store.study, trial_id)
    return get_note(noted)


def test_figures_are_found_in_the_study_and_saving_again_replaces_them(store: StudyStore, tmp_path: Path) -> None:
    for options in ({}, {"number": 30, "layers": 60}):
        content = content_of(**options)
        save_to_study(store, content, tmp_path, [])
        found = saved(store)
        assert set(found) == set(run_figures(content))
        trials = next(trace for trace in found["front-2d"].data if trace.name == "trials")
        assert list(trials.x) == [c.costs["params"] for c in content.candidates]
        assert found["layers"].layout.height is None
        assert found["layers"].layout.dragmode == ("pan" if options else None)


def test_the_study_and_the_chosen_trial_have_notes(store: StudyStore, tmp_path: Path) -> None:
    content = content_of()
    save_to_study(store, content, tmp_path, [])
    note, chosen = get_note(store.study), content.result.chosen
    assert f"**Trial {chosen.trial}** is the chosen point: the knee." in note
    assert 'keras.saving.load_model("model.keras")' in note
    text = trial_text(store, chosen.trial)
    for site, choice in chosen.plan.changed.items():
        assert f"| {site} | {choice} |" in text
    assert trial_text(store, chosen.trial + 1) == ""


def test_the_note_of_a_trial_that_was_chosen_before_says_so(store: StudyStore, tmp_path: Path) -> None:
    content = content_of()
    first, later = content.points[3], content.points[5]
    for chosen in (first, later):
        save_to_study(store, replace(content, result=replace(content.result, chosen=chosen)), tmp_path, [])
    assert IS_CHOSEN in trial_text(store, later.trial)
    assert IS_CHOSEN not in trial_text(store, first.trial)
    assert WAS_CHOSEN in trial_text(store, first.trial)


def test_what_a_user_writes_into_a_note_stays(store: StudyStore, tmp_path: Path) -> None:
    content = content_of()
    save_note(store.study, "My own words.")
    for study in ("digits", "later"):
        save_to_study(store, replace(content, result=replace(content.result, study=study)), tmp_path, [])
    note = get_note(store.study)
    assert note.startswith(f"My own words.\n\n{OURS}")
    assert note.count(OURS) == 1


def test_files_are_artifacts_and_are_replaced(store: StudyStore, tmp_path: Path) -> None:
    content: ReportContent = content_of()
    for text in ("one", "two"):
        (tmp_path / "report.html").write_text(text)
        save_to_study(store, content, tmp_path, [tmp_path / "report.html", tmp_path / "missing"])
    (meta,) = get_all_artifact_meta(store.study)
    assert (meta.filename, meta.mimetype) == ("report.html", "text/html")
    with FileSystemArtifactStore(tmp_path / ARTIFACTS).open_reader(meta.artifact_id) as file:
        assert file.read() == b"two"
