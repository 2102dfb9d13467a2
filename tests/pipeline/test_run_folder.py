"""A run folder keeps the choice and the comparison whole; a study is found by name, folder and database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.points import candidate
from support.results import result_of

from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.pipeline.run_folder import RunFolder, locate
from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.storage.study import StudyStore

CHOSEN = Candidate(17, Plan.of({"a": Choice("tucker2", (3, 5)), "b": Choice("intact")}), {"loss": 0.01, "params": 0.4})
SPEC = StudySpec(name="digits", model=ModelSpec(path="zoo:digits"), data=DataSpec(path="digits"))


def study_in(folder: Path, name: str = "digits", spec: StudySpec = SPEC) -> StudyStore:
    return StudyStore.open(
        RunFolder(folder).url, name, objectives=("loss", "params"), identity={}, spec=spec.model_dump_json()
    )


def test_a_choice_is_the_same_after_a_trip_through_the_disk(tmp_path: Path) -> None:
    RunFolder(tmp_path / "new folder").write_choice("digits", (CHOSEN, "the knee"))
    assert RunFolder(tmp_path / "new folder").read_choice() == (CHOSEN, "the knee")
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["plan.json"]
    assert json.loads((tmp_path / "new folder" / "plan.json").read_text())["study"] == "digits"


def test_no_choice_is_none(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).read_choice() is None


WHOLE = {"study": "s", "trial": 1, "costs": {"loss": 0.5}, "why": "w", "plan": {}}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", "{}", "\udcff"]
    + [json.dumps({k: v for k, v in WHOLE.items() if k != gone}) for gone in ("trial", "costs", "why", "plan")]
    + [json.dumps(WHOLE | {"trial": "x"}), json.dumps(WHOLE | {"costs": 3}), json.dumps(WHOLE | {"plan": [1]})],
)
def test_a_broken_choice_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(LrfError, match=r"is not a choice of lrf_optuna|not a plan") as error:
        RunFolder(tmp_path).read_choice()
    assert "\n" not in str(error.value)


def test_a_study_is_found_by_its_name_by_its_folder_and_by_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study_in(Path("runs/digits"))
    study_in(Path("elsewhere"), "other", SPEC.model_copy(update={"name": "other"}))
    url = RunFolder(Path("elsewhere")).url
    cases = [
        (locate("digits"), "digits", "runs/digits"),
        (locate("runs/digits"), "digits", "runs/digits"),
        (locate("elsewhere"), "other", "elsewhere"),
        (locate("other", out=Path("elsewhere")), "other", "elsewhere"),
        (locate("other", storage=url), "other", "runs/other"),
    ]
    for found, name, folder in cases:
        assert (found.record.name, found.spec.name, found.folder.path) == (name, name, Path(folder))
    assert cases[-1][0].spec.search.storage == url
    assert cases[0][0].spec == SPEC


def test_a_missing_study_is_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LrfError, match=r"no study nowhere .*run it first"):
        locate("nowhere")
    assert list(tmp_path.iterdir()) == []
    study_in(Path("runs/digits"))
    with pytest.raises(LrfError, match=r"no study nowhere in .*; there is: digits"):
        locate("nowhere", out=Path("runs/digits"))


def test_a_choice_by_hand_keeps_the_request_of_the_last_run(tmp_path: Path) -> None:
    folder, other = RunFolder(tmp_path), Candidate(3, CHOSEN.plan, {"loss": 0.2, "params": 0.1})
    folder.write_choice("digits", (CHOSEN, "the knee"), "request")
    folder.write_choice("digits", (other, "by hand"))
    assert folder.read_choice() == (other, "by hand")
    assert folder.choice_for("request", [other, CHOSEN]) == (CHOSEN, "the knee")
    assert folder.choice_for("another request", [other, CHOSEN]) is None
    assert folder.choice_for("request", [other]) is None


def test_the_model_of_another_point_than_the_selected_one_is_refused(tmp_path: Path) -> None:
    folder, first, second = RunFolder(tmp_path), candidate(1, 0.1, 0.5), candidate(2, 0.2, 0.4)
    with pytest.raises(LrfError, match="no model in"):
        folder.chosen_result()
    folder.model.write_text("a model")
    folder.write_result(result_of(first, 0.9))
    folder.write_choice("net", (first, "the first"))
    assert folder.chosen_result().chosen == first
    folder.write_choice("net", (second, "by hand"))
    with pytest.raises(LrfError, match=r"is of trial 1, but trial 2 is selected: tune or build that one first"):
        folder.chosen_result()
