"""Points of a study keep their metrics, and their models stand side by side, whatever is chosen or stopped."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from end_to_end.test_run import FAST, Heard, arrays
from support.command_line import done, invoked, refused

from lrf_optuna.config import StudySpec
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.models.load import load_model
from lrf_optuna.pipeline.run import Run
from lrf_optuna.plans.front import budget_points, pareto_front
from lrf_optuna.plans.result import Result
from lrf_optuna.selection.plan_refits import PlanRefits
from lrf_optuna.storage.study import AS_BUILT, METRIC, TUNED, StudyStore

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits_net: Any, digits: Data) -> tuple[StudySpec, Path]:
    """A study whose run has built and tuned its point, and its folder, which no test changes."""
    desk = tmp_path_factory.mktemp("points")
    digits_net.save(desk / "net.keras")
    np.savez(desk / "net.npz", **arrays(digits))
    model, data = ModelSpec(path=str(desk / "net.keras")), DataSpec(path=str(desk / "net.npz"), divide=16)
    spec = StudySpec(name="net", model=model, data=data).override({**FAST, "search.trials": 12, "tune.epochs": 1})
    run_in(spec, desk / "net")
    return spec, desk / "net"


@pytest.fixture
def study(finished: tuple[StudySpec, Path], tmp_path: Path) -> tuple[StudySpec, Path]:
    """The study, and a copy of its folder."""
    return finished[0], Path(shutil.copytree(finished[1], tmp_path / "net"))


def run_in(spec: StudySpec, folder: Path, heard: Heard | None = None, **changes: Any) -> Result:
    asked = spec.override({key.replace("_", ".", 1): value for key, value in changes.items()})
    work = Run.open(asked, folder, progress=heard or Heard())
    return work.finish(work.search())


def store_in(folder: Path) -> StudyStore:
    return StudyStore.read(f"sqlite:///{folder / 'study.db'}", "net")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every measurement of a plan that is made."""
    counts, measure = list[int](), PlanRefits.measured

    def counted(self: PlanRefits, kernels: Any, count: int, *more: Any) -> Any:
        counts.append(count)
        return measure(self, kernels, count, *more)

    monkeypatch.setattr(PlanRefits, "measured", counted)
    return counts


def without_metrics(folder: Path) -> None:
    """Make a study one of an earlier version, which kept no metric and one model."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        connection.execute("DELETE FROM trial_user_attributes WHERE key LIKE 'metric%'")
        connection.execute("DELETE FROM trial_system_attributes WHERE key = 'lrf:measured'")
        connection.execute("DELETE FROM study_user_attributes WHERE key = 'lrf:metric'")
        connection.commit()
    shutil.rmtree(folder / "models")
    result = json.loads((folder / "result.json").read_text())
    del result["alternatives"]
    (folder / "result.json").write_text(json.dumps(result))


def test_points_at_round_budgets_have_their_metric_and_the_chosen_one_has_those_of_its_networks(
    finished: tuple[StudySpec, Path],
) -> None:
    store, result = store_in(finished[1]), Result.read(finished[1] / "result.json")
    metrics, points = store.metrics(), pareto_front(store.candidates())
    assert all(METRIC in metrics[point.trial] for point in budget_points(points, "params").values())
    assert result.built
    assert result.tuned
    own = metrics[result.chosen.trial]
    assert (own[AS_BUILT], own[TUNED]) == pytest.approx((result.built.val_metric, result.tuned.val_metric), abs=1e-9)
    assert store.metric_name == "accuracy"
    assert store.original_metrics[AS_BUILT] == pytest.approx(result.original.val_metric, abs=1e-9)
    assert store.study.trials[result.chosen.trial].user_attrs[TUNED] == own[TUNED]


def test_the_same_study_is_chosen_from_again_without_measuring_again(
    study: tuple[StudySpec, Path], measured: list[int]
) -> None:
    spec, folder = study
    before = Result.read(folder / "result.json")
    (folder / "plan.json").unlink()
    heard = Heard()
    again = run_in(spec, folder, heard)
    assert (again.chosen, again.tuned) == (before.chosen, before.tuned)
    assert any(label.startswith("validation accuracy") for label in heard.labels)
    assert measured == []
    assert "fine-tuning" not in heard.labels


def test_a_study_of_an_earlier_version_shows_dashes_until_it_is_run_again(study: tuple[StudySpec, Path]) -> None:
    spec, folder = study
    without_metrics(folder)
    tuned = (folder / "model.keras").read_bytes()
    shown = done("front", str(folder))
    assert "no metric was measured: run the study again" in shown
    assert all(point[METRIC] is None for point in json.loads(done("front", str(folder), "--json")))
    heard = Heard()
    result = run_in(spec, folder, heard)
    assert not {"refit in order of layers", "fine-tuning"} & set(heard.labels)
    assert store_in(folder).metrics()[result.chosen.trial][TUNED] == result.tuned.val_metric  # type: ignore[union-attr]
    assert "no metric" not in done("front", str(folder))
    assert (folder / "model.keras").read_bytes() == tuned
    assert (folder / "models" / f"{result.chosen.trial}.keras").read_bytes() == tuned


def test_another_point_is_built_beside_the_tuned_one_which_comes_back_without_building(
    study: tuple[StudySpec, Path],
) -> None:
    _, folder = study
    first = Result.read(folder / "result.json")
    tuned, report = (folder / "model.keras").read_bytes(), (folder / "report.html").read_text()
    points = json.loads(done("front", str(folder), "--json"))
    other = next(p["trial"] for p in points if p["trial"] != first.chosen.trial and p["params"] < 1)
    said = done("build", str(folder), "--trial", str(other))
    assert f"trial {other}: chosen by its number" in said
    built = Result.read(folder / "result.json")
    assert (built.chosen.trial, built.tuned) == (other, None)
    assert load_model(str(folder / "model.keras")).count_params() == built.built.params  # type: ignore[union-attr]
    assert (folder / "models" / f"{first.chosen.trial}.keras").read_bytes() == tuned
    said = done("select", str(folder), "--trial", str(first.chosen.trial))
    assert "the tuned model of this point is there" in said
    assert (folder / "model.keras").read_bytes() == tuned
    again = Result.read(folder / "result.json")
    assert (again.chosen, again.tuned) == (first.chosen, first.tuned)
    assert (folder / "report.html").read_text() != report, "it shows the other point's metric, too"


def test_named_points_have_commands_that_make_them(
    finished: tuple[StudySpec, Path], study: tuple[StudySpec, Path]
) -> None:
    place, folder = str(finished[1]), str(study[1])
    result = Result.read(study[1] / "result.json")
    assert result.alternatives
    assert {one.name for one in result.alternatives} <= {"safe", "balanced", "small"}
    assert [one.command for one in result.alternatives] == [
        f"python -m lrf_optuna {'select' if one.state == 'tuned' else 'tune'} net --trial {one.trial} --out {place}"
        for one in result.alternatives
    ]
    other = next((one for one in result.alternatives if one.trial != result.chosen.trial), None)
    assert other, "the chosen point is one of them"
    command = other.command.replace(place, folder).split()[3:]
    done(*command, "--epochs", "1")
    assert Result.read(study[1] / "result.json").chosen.trial == other.trial


@pytest.mark.parametrize("command", ["build", "tune", "select"])
def test_a_trial_that_is_not_there_is_one_line_and_changes_nothing(
    finished: tuple[StudySpec, Path], command: str
) -> None:
    folder = finished[1]
    of_others = "log.txt", "study.db-shm"  # the latter is SQLite's own, while a connection is open
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in of_others}
    refused(invoked(command, str(folder), "--trial", "99"), "trial 99 is no finished trial of this study, the last")
    assert [p for p in before if p.read_bytes() != before[p]] == []


def test_a_trial_together_with_a_way_to_choose_is_refused(finished: tuple[StudySpec, Path]) -> None:
    refused(invoked("select", str(finished[1]), "--trial", "3", "--knee"), "--trial names a point already")


@pytest.mark.parametrize("stop", ["accuracy of the tuned", "report"])
def test_an_interrupt_between_a_model_and_its_result_leaves_the_model_of_before_and_loses_no_other(
    study: tuple[StudySpec, Path], stop: str
) -> None:
    spec, folder = study
    first, tuned = Result.read(folder / "result.json"), (folder / "model.keras").read_bytes()
    other = next(p for p in pareto_front(store_in(folder).candidates()) if p != first.chosen and p.plan.changed)

    def chosen_by_hand(heard: Heard) -> Callable[[], Result]:
        work = Run.open(spec, folder, progress=heard)
        return lambda: work.finish(work.search(), (other, "by hand"))

    with pytest.raises(KeyboardInterrupt):
        chosen_by_hand(Heard(stop))()
    assert (folder / "models" / f"{first.chosen.trial}.keras").read_bytes() == tuned
    if (folder / "result.json").exists():
        assert (Result.read(folder / "result.json").chosen, (folder / "model.keras").read_bytes()) == (
            first.chosen,
            tuned,
        )
    heard = Heard()
    assert chosen_by_hand(heard)().chosen == other
    assert ("fine-tuning" in heard.labels) == (stop != "report")
    assert Result.read(folder / "result.json").chosen == other
