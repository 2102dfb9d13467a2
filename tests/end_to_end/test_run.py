"""A run ends in the same way however often it was stopped, chooses as it was asked, and takes every usual input."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from PIL import Image
from support.evaluation import accuracy
from support.norms import reestimate
from typer.testing import CliRunner

from lrf_optuna.cli.app import app
from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.models.batchnorm import training_batches
from lrf_optuna.models.load import load_model
from lrf_optuna.models.surgery import materialize
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.plans.front import pareto_front, size
from lrf_optuna.plans.result import Result
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED, STAGE_LABELS, ChoiceSettings, Contest

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

TRIALS = 8
FAST: dict[str, Any] = {
    "search.trials": TRIALS,
    "search.calibration": 64,
    "search.population": 6,
    "search.methods": ("svd", "tucker2"),
    "search.keep": (0.2, 0.4, 0.7),
    "tune.epochs": 0,
    "tune.rate": 1e-3,
    "tune.calibrate": False,
    "latency.time_at_end": False,
}
ONE_POINT: dict[str, Any] = {"search.targets": {"params": 0.6}}
"""A way to choose that takes the same point whether a fine-tune or a calibration follows or not."""
FILES = {
    "study.db",
    "plan.json",
    "model.keras",
    "models",
    "result.json",
    "report.html",
    "facts.json",
    "README.md",
    "artifacts",
}


class Heard:
    """Progress that keeps what it is told, and stops the run after some steps of the task `stop`."""

    def __init__(self, stop: str = "", after: int = 0) -> None:
        self.stop, self.after = stop, after
        self.labels: list[str] = []
        self.lines: list[str] = []

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        self.labels.append(label)

        def step(n: float, note: str = "") -> None:
            if self.stop and label.startswith(self.stop):
                self.after -= int(n)
                if self.after < 0:
                    raise KeyboardInterrupt

        yield step

    def say(self, text: str) -> None:
        self.lines.append(text)


def arrays(digits: Data) -> dict[str, Any]:
    parts = {"train": digits.train, "val": digits.val, "test": digits.test}
    return {f"x_{n}": p.pixels for n, p in parts.items()} | {f"y_{n}": p.labels for n, p in parts.items()}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, digits_net: Any, digits: Data) -> Path:
    """A folder with net.keras and net.npz, which no test changes."""
    folder = tmp_path_factory.mktemp("desk")
    digits_net.save(folder / "net.keras")
    np.savez(folder / "net.npz", **arrays(digits))
    return folder


@pytest.fixture
def spec(desk: Path) -> StudySpec:
    plain = StudySpec(
        name="net",
        model=ModelSpec(path=str(desk / "net.keras")),
        data=DataSpec(path=str(desk / "net.npz"), divide=16),
    )
    return plain.override(FAST)


def ran(spec: StudySpec, folder: Path, progress: Any = None, **more: Any) -> Result:
    """The result of a run, with other values for some keys (`search_trials=3`)."""
    asked = spec.override({key.replace("_", ".", 1): value for key, value in more.items()})
    work = Run.open(asked, folder, progress=progress or Heard())
    return work.finish(work.search())


def trials(folder: Path, name: str = "net") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder / 'study.db'}").trials


def numbers(folder: Path) -> list[int]:
    return [trial.number for trial in trials(folder)]


def model_of(folder: Path) -> Any:
    return load_model(str(folder / "model.keras"))


def contents(folder: Path) -> dict[str, object]:
    """Every file's bytes; of the database what it holds."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("study.db")]
    files: dict[str, object] = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        return files | {"study.db": list(connection.iterdump())}


def left(folder: Path) -> set[str]:
    """The names of the files, without those that SQLite keeps while a connection is open."""
    return {path.name for path in folder.iterdir()} - {"study.db-wal", "study.db-shm"}


def was_chosen(heard: Heard) -> bool:
    """Whether points were compared by their metric."""
    return any(label.startswith("validation accuracy, ") for label in heard.labels)


def same_weights(one: Any, other: Any) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(a.shape == b.shape and np.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_the_model_on_disk_is_the_chosen_point_and_as_good_as_reported(
    spec: StudySpec, tmp_path: Path, digits: Data
) -> None:
    result = ran(spec, tmp_path)
    made = model_of(tmp_path)
    assert result.built is not None
    assert made.count_params() == result.built.params == round(result.chosen.costs["params"] * result.original.params)
    assert result.built.macs == round(result.chosen.costs["macs"] * result.original.macs)
    assert accuracy(made, digits, digits.test) == pytest.approx(result.built.test_metric, abs=1e-9)
    assert accuracy(made, digits, digits.val) == pytest.approx(result.built.val_metric, abs=1e-9)
    assert result.built.params < result.original.params


def test_a_result_is_the_same_after_a_trip_through_its_file(spec: StudySpec, tmp_path: Path) -> None:
    result = ran(spec, tmp_path, search_trials=4, tune_epochs=1)
    assert Result.read(tmp_path / "result.json").to_dict() == result.to_dict()


def test_more_trials_go_on_and_fewer_do_nothing(spec: StudySpec, tmp_path: Path) -> None:
    ran(spec, tmp_path, search_trials=5)
    first = [trial.values for trial in trials(tmp_path)]
    heard = Heard()
    result = ran(spec, tmp_path, heard, search_trials=9)
    assert "trials" in heard.labels
    assert any("5 of 9" in line for line in heard.lines)
    assert (result.trials, numbers(tmp_path)) == (9, list(range(9)))
    assert [trial.values for trial in trials(tmp_path)[:5]] == first
    before = contents(tmp_path)
    heard = Heard()
    assert ran(spec, tmp_path, heard, search_trials=3).trials == 9
    assert (heard.labels, numbers(tmp_path)) == ([], list(range(9)))
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {"study.db"}  # the question it was asked


@pytest.mark.parametrize(
    "stop", ["option table", "trials", "accuracy of the built network", "refit in order", "fine-tuning", "report"]
)
def test_a_run_that_is_stopped_at_any_step_ends_as_an_undisturbed_one(
    spec: StudySpec,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    stop: str,
) -> None:
    monkeypatch.setenv("LRF_OPTUNA_CACHE", str(tmp_path_factory.mktemp("kept")))
    with pytest.raises(KeyboardInterrupt):
        ran(spec, tmp_path, Heard(stop), tune_epochs=1, search_cache=False)
    there = numbers(tmp_path)
    assert there == list(range({"option table": 0, "trials": 1}.get(stop, TRIALS)))
    assert not (tmp_path / "result.json").exists()
    result = ran(spec, tmp_path, tune_epochs=1)
    assert (result.trials, numbers(tmp_path)) == (TRIALS, list(range(TRIALS)))
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials(tmp_path))
    assert left(tmp_path) == FILES | {"tuning.csv"}
    assert result.tuned is not None
    assert model_of(tmp_path).count_params() == result.tuned.params


def test_the_same_run_twice_gives_the_same_front_and_the_same_model(spec: StudySpec, tmp_path: Path) -> None:
    one = ran(spec, tmp_path / "one", tune_epochs=1)
    other = ran(spec, tmp_path / "other", tune_epochs=1)
    assert [t.values for t in trials(tmp_path / "one")] == [t.values for t in trials(tmp_path / "other")]
    assert one.chosen == other.chosen
    assert same_weights(model_of(tmp_path / "one"), model_of(tmp_path / "other"))


def test_a_target_takes_the_least_loss_within_it(spec: StudySpec, tmp_path: Path) -> None:
    asked = spec.override({"search.targets": {"params": 0.6}, "search.by": "loss"})
    work = Run.open(asked, tmp_path)
    points = pareto_front(work.search())
    chosen, why = work.choose(points)
    within = [point for point in points if point.costs["params"] <= 0.6]
    assert chosen.costs["loss"] == min(point.costs["loss"] for point in within)
    assert "params <= 0.6" in why
    assert str(len(within)) in why


def test_a_drop_takes_a_point_that_loses_no_more_on_validation_and_the_smaller_the_more_may_be_lost(
    spec: StudySpec, tmp_path: Path, digits: Data
) -> None:
    work = Run.open(spec, tmp_path)
    points = pareto_front(work.search())
    sizes = []
    for most in (2.0, 10.0, 100.0):
        asked = Run.open(spec.override({"search.max_drop": most}), tmp_path)
        asked.proxy = work.proxy
        chosen, why = asked.choose(points)
        assert Contest(asked.refits).drop(chosen, BUILT) <= most
        assert f"at most {most:g} points of validation accuracy" in why
        sizes.append(size(chosen))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == min(map(size, points)) < sizes[0]


def test_a_drop_is_that_of_the_model_as_it_is_scored_with_its_statistics(
    spec: StudySpec, tmp_path: Path, digits: Data
) -> None:
    work = Run.open(spec, tmp_path)
    for chosen in pareto_front(work.search()):
        kernels = {site: work.proxy.kernels.stages(site, choice) for site, choice in chosen.plan}
        small = materialize(work.model, chosen.plan, kernels)
        unscored = work.calibration[len(work.proxy.scored) :]
        reestimate(
            small,
            training_batches(work.data, unscored, 0),
            work.proxy.scored.images,
            work.proxy.scored.reference["logits"],
        )
        lost = accuracy(work.model, digits, digits.val) - accuracy(small, digits, digits.val)
        assert work.validation.of({}) - work.validation.of(work.proxy.dense_kernels(chosen.plan)) == pytest.approx(
            lost, abs=1e-8
        )


def test_a_target_takes_the_most_accurate_within_it_and_the_search_aims_at_it(spec: StudySpec, tmp_path: Path) -> None:
    heard = Heard()
    work = Run.open(spec.override({"search.targets": {"params": 0.6}, "search.trials": 16}), tmp_path, progress=heard)
    points = pareto_front(work.search())
    chosen, why = work.choose(points)
    inside = sorted((p for p in points if p.costs["params"] <= 0.6), key=lambda p: p.costs["loss"])
    stages = [{plan for plan, at in work.refits.results if at == stage} for stage in (SCORED, SKETCHED, BUILT)]
    settings = ChoiceSettings()
    assert {point.plan for point in inside[: settings.scored]} <= stages[SCORED] <= {point.plan for point in inside}
    assert stages[BUILT] == {chosen.plan} <= stages[SKETCHED] <= stages[SCORED]
    assert len(stages[SKETCHED]) <= settings.sketched_if_broken
    assert why.startswith(f"the best of {len(stages[SCORED])} points")
    assert {f"validation accuracy, {stage}" for stage in STAGE_LABELS} <= set(heard.labels)
    for trial in trials(tmp_path):
        assert trial.constraints["params"] == pytest.approx(trial.values[1] - 0.6)


def test_by_the_loss_no_metric_is_measured(spec: StudySpec, tmp_path: Path) -> None:
    heard = Heard()
    work = Run.open(spec.override({"search.by": "loss"}), tmp_path, progress=heard)
    _, why = work.choose(pareto_front(work.search()))
    assert why.startswith("the knee of")
    assert "lost" not in why
    assert not was_chosen(heard)
    assert "point_metrics" not in vars(work), "the set-up is checked by the original alone"


def test_a_drop_that_is_asked_for_is_a_constraint_of_the_loss(spec: StudySpec, tmp_path: Path) -> None:
    heard = Heard()
    work = Run.open(spec.override({"search.max_drop": 3.0}), tmp_path, progress=heard)
    work.search()
    (most,) = work.loss_limit().values()
    assert 0 < most < 1
    assert any(line.endswith("about that of a drop of 3 points") for line in heard.lines)
    for trial in trials(tmp_path):
        assert trial.constraints["loss"] == pytest.approx(trial.values[0] - most)


def test_a_drop_without_a_loss_among_the_objectives_constrains_nothing(spec: StudySpec, tmp_path: Path) -> None:
    result = ran(spec, tmp_path, search_trials=3, search_objectives=("params", "macs"), search_max_drop=100.0)
    assert set(result.chosen.costs) == {"params", "macs"}
    assert not any(trial.constraints for trial in trials(tmp_path))


def test_a_run_that_is_flat_stops_and_the_same_run_again_adds_nothing(spec: StudySpec, tmp_path: Path) -> None:
    flat = {"search_trials": 300, "search_stop_when_flat": True, "search_by": "loss"}
    heard = Heard()
    result = ran(spec, tmp_path, heard, **flat)
    assert 12 <= result.trials < 300
    assert any("the hypervolume is flat" in line for line in heard.lines)
    heard = Heard()
    assert ran(spec, tmp_path, heard, **flat).trials == result.trials
    assert heard.labels == []


@pytest.mark.parametrize("change", [{"search_sampler": "random"}, {"search_seeded": False}])
def test_a_study_goes_on_with_another_sampler(spec: StudySpec, tmp_path: Path, change: dict[str, Any]) -> None:
    ran(spec, tmp_path, search_trials=4)
    assert ran(spec, tmp_path, search_trials=8, **change).trials == 8


def test_an_unknown_sampler_is_refused_before_anything_is_written(spec: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"unknown sampler 'nsga' .*there is: gp, nsga2, nsga3, random, surrogate, tpe"):
        ran(spec, tmp_path / "new", search_sampler="nsga")
    assert not (tmp_path / "new").exists()


def test_without_a_wish_the_smallest_within_a_point_is_taken_and_the_knee_only_where_it_is_asked_for(
    spec: StudySpec, tmp_path: Path
) -> None:
    result = ran(spec, tmp_path)
    assert "at most 1 point of validation accuracy" in result.why
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert (kept["trial"], kept["why"]) == (result.chosen.trial, result.why)
    assert RunFolder(tmp_path).read_choice() == (result.chosen, result.why)
    assert ran(spec, tmp_path, search_knee=True).why.startswith("the knee")


def test_a_fine_tune_is_predicted_and_the_prediction_stands_beside_its_outcome(spec: StudySpec, tmp_path: Path) -> None:
    heard = Heard()
    way = {"search_max_drop": 20.0, "search_after_tuning": True, "tune_epochs": 1, "tune_rate": 1e-4}
    result = ran(spec, tmp_path, heard, **way)
    kept = json.loads((tmp_path / "result.json").read_text())
    low, high = kept["predicted_interval"]
    assert low <= kept["predicted_drop"] <= high
    assert kept["predicted_drop"] <= 20
    assert kept["tuned_drop"] == pytest.approx(100 * (result.original.val_metric - result.tuned.val_metric))
    assert "is predicted to lose at most 20 points of validation accuracy" in result.why
    assert result.outcome.startswith(f"the last network loses {result.tuned_drop:.2f} points of validation accuracy")
    assert result.outcome in heard.lines
    for file in ("report.html", "README.md"):
        assert result.outcome.removeprefix("the last") in (tmp_path / file).read_text()
    again = Result.read(tmp_path / "result.json")
    assert (again.predicted_drop, again.predicted_interval, again.tuned_drop) == (
        result.predicted_drop,
        result.predicted_interval,
        result.tuned_drop,
    )


def test_a_drop_after_a_fine_tune_is_refused_where_none_comes(spec: StudySpec, tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="--after-tuning needs a fine-tune, but there are no epochs"):
        ran(spec, tmp_path / "new", search_max_drop=1.0, search_after_tuning=True)
    assert not (tmp_path / "new").exists()


def test_a_target_that_no_plan_meets_is_refused_before_the_search(spec: StudySpec, tmp_path: Path) -> None:
    for cost in ("params", "macs"):
        with pytest.raises(
            LrfError, match=rf"the target {cost}=0.001 is out of reach: no plan has less than \d+\.\d+%"
        ):
            ran(spec, tmp_path, search_targets={cost: 0.001})
    assert not (tmp_path / "study.db").exists()
    assert not (tmp_path / "model.keras").exists()
    assert ran(spec, tmp_path, search_targets={"params": 0.9}).chosen.costs["params"] <= 0.9


def test_a_model_that_was_built_is_tuned_without_building_it_again(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT)
    built = ran(spec, tmp_path)
    heard = Heard()
    tuned = ran(spec, tmp_path, heard, tune_epochs=1)
    assert "building" not in heard.labels
    assert "fine-tuning" in heard.labels
    assert tuned.built == built.built
    assert tuned.tuned is not None
    assert tuned.tuned.epochs == 1
    assert tuned.tuned.val_metric >= tuned.built.val_metric


def test_a_tuned_model_stays_where_an_untuned_one_is_asked_for_unless_it_is_forced_to_go(
    spec: StudySpec, tmp_path: Path
) -> None:
    spec = spec.override(ONE_POINT)
    tuned, heard = ran(spec, tmp_path, tune_epochs=1), Heard()
    before = contents(tmp_path)
    assert ran(spec, tmp_path, heard).tuned == tuned.tuned
    assert any("the fine-tuned model of trial" in line and "--force" in line for line in heard.lines)
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {"study.db"}  # the question it was asked
    work = Run.open(spec, tmp_path, progress=Heard())
    work.force = True
    result = work.finish(work.search())
    assert result.tuned is None
    assert Result.read(tmp_path / "result.json").tuned is None
    assert model_of(tmp_path).count_params() == result.built.params  # type: ignore[union-attr]


def test_a_tuned_model_that_an_untuned_one_replaced_comes_back_without_a_fine_tune(
    spec: StudySpec, tmp_path: Path
) -> None:
    spec = spec.override(ONE_POINT)
    tuned = ran(spec, tmp_path, search_trials=3, tune_epochs=1)
    bytes_of_tuned = (tmp_path / "model.keras").read_bytes()
    work = Run.open(spec.override({"search.trials": 3}), tmp_path, progress=Heard())
    work.force = True
    assert work.finish(work.search()).tuned is None
    assert (tmp_path / "model.keras").read_bytes() != bytes_of_tuned
    heard = Heard()
    assert ran(spec, tmp_path, heard, search_trials=3, tune_epochs=1).tuned == tuned.tuned
    assert (tmp_path / "model.keras").read_bytes() == bytes_of_tuned
    assert "fine-tuning" not in heard.labels


def files_of_models(folder: Path) -> dict[str, bytes]:
    """The models and results that a run folder has, and the table of its fine-tune."""
    files = [*folder.glob("models/*.keras"), *folder.glob("models/*[0-9e].json"), folder / "model.keras"]
    return {path.name: path.read_bytes() for path in [*files, folder / "tuning.csv"]}


def test_a_second_fine_tune_that_does_not_help_leaves_all_as_it_is(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT)
    first = ran(spec, tmp_path, search_trials=3, tune_epochs=1)
    assert first.fine_tune
    assert first.fine_tune.kept_epoch == 1
    files = files_of_models(tmp_path)
    for tunes in (True, False):
        heard = Heard()
        again = ran(spec, tmp_path, heard, search_trials=3, tune_epochs=1, tune_rate=3.0)
        assert ("fine-tuning" in heard.labels) == tunes, "the same command does not tune again"
        assert (again.tuned, again.fine_tune) == (first.tuned, first.fine_tune)
        assert any("did not help" in warning for warning in again.warnings) == tunes
        assert any("did not help: trial" in line or "was done before" in line for line in heard.lines)
        assert files_of_models(tmp_path) == files
        assert left(tmp_path) == FILES | {"tuning.csv"}


def test_a_fine_tune_that_was_replaced_is_not_done_again(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT | {"search.trials": 3, "tune.epochs": 1})
    first = ran(spec, tmp_path, tune_rate=1e-5)
    better = ran(spec, tmp_path, tune_rate=1e-3)
    assert better.final.val_metric > first.final.val_metric
    heard = Heard()
    assert ran(spec, tmp_path, heard, tune_rate=1e-5).final == better.final
    assert "fine-tuning" not in heard.labels
    assert any("was done before" in line for line in heard.lines)


def test_a_choice_leaves_an_interrupted_fine_tune_which_then_goes_on(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT | {"search.trials": 3, "tune.batch": 600, "tune.rate": 1e-3, "tune.epochs": 1})
    trial = ran(spec, tmp_path).chosen.trial
    heard = Heard(stop="fine-tuning", after=4)
    with pytest.raises(KeyboardInterrupt):
        ran(spec, tmp_path, heard, tune_epochs=3)
    assert (tmp_path / "best-so-far.keras").exists()
    chosen = CliRunner().invoke(app, ["select", str(tmp_path), "--trial", str(trial)], env={"COLUMNS": "300"})
    assert chosen.exit_code == 0, chosen.stderr or chosen.exception
    assert (tmp_path / "tuning.npz").exists()
    heard = Heard()
    ran(spec, tmp_path, heard, tune_epochs=3)
    assert any("the fine-tune goes on after epoch" in line for line in heard.lines)
    assert left(tmp_path) == FILES | {"tuning.csv"}


def test_an_interrupted_fine_tune_is_given_up_for_another_with_a_word(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT | {"search.trials": 3, "tune.batch": 600, "tune.epochs": 3, "tune.rate": 1e-3})
    with pytest.raises(KeyboardInterrupt):
        ran(spec, tmp_path, Heard(stop="fine-tuning", after=4))
    heard = Heard()
    ran(spec, tmp_path, heard, tune_rate=3e-3)
    assert any("another fine-tune, which was interrupted after epoch" in line for line in heard.lines)


def test_build_after_run_keeps_the_tuned_model_and_says_what_to_do(spec: StudySpec, tmp_path: Path) -> None:
    ran(spec, tmp_path, search_trials=3, tune_epochs=1)
    tuned, written = (tmp_path / "model.keras").read_bytes(), (tmp_path / "model.keras").stat().st_mtime_ns
    kept = CliRunner().invoke(app, ["build", str(tmp_path)], env={"COLUMNS": "300"})
    assert kept.exit_code == 0, kept.stderr or kept.exception
    assert "--force" in kept.stdout
    assert (tmp_path / "model.keras").read_bytes() == tuned
    forced = CliRunner().invoke(app, ["build", str(tmp_path), "--force"], env={"COLUMNS": "300"})
    assert forced.exit_code == 0, forced.stderr or forced.exception
    assert str(tmp_path / "model.keras") in forced.stdout
    assert (tmp_path / "model.keras").stat().st_mtime_ns > written
    assert Result.read(tmp_path / "result.json").tuned is None
    trial = Result.read(tmp_path / "result.json").chosen.trial
    assert (tmp_path / "models" / f"{trial}-before.keras").read_bytes() == tuned


def test_a_fine_tune_that_is_stopped_leaves_the_tuned_model_of_before(spec: StudySpec, tmp_path: Path) -> None:
    ran(spec, tmp_path, search_trials=3, tune_epochs=1)
    before = {name: (tmp_path / name).read_bytes() for name in ("model.keras", "result.json")}
    with pytest.raises(KeyboardInterrupt):
        ran(spec, tmp_path, Heard("fine-tuning"), search_trials=3, tune_epochs=2)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_fine_tune_that_is_stopped_goes_on_at_its_epoch_and_ends_as_an_undisturbed_one(
    spec: StudySpec, tmp_path: Path
) -> None:
    place, undisturbed, heard = tmp_path / "stopped", tmp_path / "undisturbed", Heard("fine-tuning", after=2)
    whole = ran(spec, undisturbed, tune_epochs=2, tune_batch=600)
    with pytest.raises(KeyboardInterrupt):
        ran(spec, place, heard, tune_epochs=2, tune_batch=600)
    assert heard.lines[-1].startswith(f"the model so far is {place / 'best-so-far.keras'}")
    assert load_model(str(place / "best-so-far.keras")).count_params() == whole.tuned.params  # type: ignore[union-attr]
    heard = Heard()
    ran(spec, place, heard, tune_epochs=2, tune_batch=600)
    assert "building" not in heard.labels
    assert left(place) == FILES | {"tuning.csv"}
    assert same_weights(model_of(place), model_of(undisturbed))
    assert (place / "tuning.csv").read_text().splitlines()[0] == "epoch,seconds,loss,validation_metric,kept"


def test_a_network_is_not_calibrated_on_a_handful_of_images(spec: StudySpec, digits: Data, tmp_path: Path) -> None:
    heard, few = Heard(), replace(digits, train=digits.train.take(slice(90)))
    asked = spec.override({"tune.calibrate": True, "search.targets": {"params": 0.5}})
    result = Run.open(asked, tmp_path, data=few, progress=heard)
    assert result.finish(result.search()).calibrated is None
    assert any("90 training images are too few to calibrate on: the built weights stay" in line for line in heard.lines)


def test_a_calibrated_network_stands_between_the_built_and_the_tuned_one(
    spec: StudySpec, tmp_path: Path, digits: Data
) -> None:
    asked = spec.override({"tune.calibrate": True, "search.targets": {"params": 0.5}})
    result = ran(asked, tmp_path)
    assert result.built is not None
    assert result.calibrated is not None
    assert result.calibrated.params == result.built.params
    assert result.seconds["calibrate"] > 0
    made = model_of(tmp_path)
    assert accuracy(made, digits, digits.test) == pytest.approx(result.calibrated.test_metric, abs=1e-9)
    tuned = ran(asked, tmp_path, tune_epochs=1)
    assert (tuned.built, tuned.calibrated) == (result.built, result.calibrated)
    assert tuned.tuned is not None
    assert ran(asked, tmp_path / "plain", tune_calibrate=False).calibrated is None


def test_a_model_that_was_built_is_calibrated_without_building_it_again(spec: StudySpec, tmp_path: Path) -> None:
    spec = spec.override(ONE_POINT)
    built, heard = ran(spec, tmp_path), Heard()
    calibrated = ran(spec, tmp_path, heard, tune_calibrate=True)
    assert calibrated.built == built.built
    assert "calibrating" in heard.labels
    assert "accuracy of the built network" not in heard.labels
    assert calibrated.seconds["build"] == 0


def test_a_calibration_that_is_stopped_leaves_the_built_model(spec: StudySpec, tmp_path: Path, digits: Data) -> None:
    spec = spec.override(ONE_POINT)
    with pytest.raises(KeyboardInterrupt):
        ran(spec, tmp_path, Heard("calibrating"), tune_calibrate=True)
    assert not (tmp_path / "result.json").exists()
    built = ran(spec, tmp_path / "built")
    (file,) = (tmp_path / "models").glob("*.keras")
    assert same_weights(load_model(str(file)), model_of(tmp_path / "built"))
    assert built.calibrated is None


@pytest.mark.parametrize("change", [{"tune_epochs": 2}, {"tune_distil": 0.0}])
def test_another_recipe_tunes_again(spec: StudySpec, tmp_path: Path, change: dict[str, Any]) -> None:
    ran(spec, tmp_path, tune_epochs=1)
    heard = Heard()
    result = ran(spec, tmp_path, heard, **({"tune_epochs": 1} | change))
    assert "fine-tuning" in heard.labels
    assert result.tuned is not None
    assert result.tuned.epochs == change.get("tune_epochs", 1)
    heard = Heard()
    ran(spec, tmp_path, heard, **({"tune_epochs": 1} | change))
    assert heard.labels == []


def test_a_model_without_its_result_is_made_again(spec: StudySpec, tmp_path: Path) -> None:
    first = ran(spec, tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "model.keras").write_bytes(b"half a model")
    heard = Heard()
    assert ran(spec, tmp_path, heard).built.test_metric == first.built.test_metric  # type: ignore[union-attr]
    assert "trials" not in heard.labels
    assert model_of(tmp_path).count_params() == first.built.params  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["{", '{"study": "net"}', '{"chosen": 3}'])
def test_a_broken_result_file_is_made_again(spec: StudySpec, tmp_path: Path, text: str) -> None:
    first = ran(spec, tmp_path, search_trials=3).to_dict()
    (tmp_path / "result.json").write_text(text)
    ran(spec, tmp_path, search_trials=3)
    again = Result.read(tmp_path / "result.json").to_dict()
    assert [again[part] for part in ("chosen", "layers", "model_digest")] == [
        first[part] for part in ("chosen", "layers", "model_digest")
    ]


def test_two_studies_of_one_database_stay_apart(spec: StudySpec, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'base' / 'all.db'}"
    ran(spec, tmp_path / "one", search_trials=3, search_storage=url)
    ran(spec.override({"name": "two"}), tmp_path / "two", search_trials=5, search_storage=url)
    counts = {name: len(optuna.load_study(study_name=name, storage=url).trials) for name in ("net", "two")}
    assert counts == {"net": 3, "two": 5}
    assert not (tmp_path / "one" / "study.db").exists()
    assert (tmp_path / "one" / "model.keras").exists()


def other_model(spec: StudySpec, folder: Path) -> dict[str, Any]:
    model = load_model(spec.model.path)
    model.layers[-1].bias.assign_add([0.1] * 10)
    model.save(folder / "other.keras")
    return {"model_path": str(folder / "other.keras")}


def other_data(spec: StudySpec, folder: Path) -> dict[str, Any]:
    with np.load(spec.data.path) as file:
        changed = {name: file[name] for name in file}
    changed["x_train"] = changed["x_train"][:, ::-1]
    np.savez(folder / "other.npz", **changed)
    return {"data_path": str(folder / "other.npz")}


REFUSED: dict[str, tuple[Callable[[StudySpec, Path], dict[str, Any]], str]] = {
    "model": (other_model, "model"),
    "data": (other_data, "data"),
    "divide": (lambda *_: {"data_divide": 8.0}, "data"),
    "methods": (lambda *_: {"search_methods": ("svd",)}, "set of methods"),
    "keep": (lambda *_: {"search_keep": (0.2, 0.4)}, "keep grid"),
    "objectives": (lambda *_: {"search_objectives": ("loss", "params")}, "set of objectives"),
    "similarity": (lambda *_: {"search_similarity": "cka"}, "similarity"),
    "seed": (lambda *_: {"search_seed": 1}, "seed"),
    "calibration": (lambda *_: {"search_calibration": 32}, "calibration"),
}


@pytest.fixture(scope="module")
def searched(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of few trials, which no test changes."""
    folder = tmp_path_factory.mktemp("searched")
    spec = StudySpec(
        name="net",
        model=ModelSpec(path=str(desk / "net.keras")),
        data=DataSpec(path=str(desk / "net.npz"), divide=16),
    )
    ran(spec.override(FAST), folder, search_trials=3)
    return folder


@pytest.mark.parametrize("what", REFUSED)
def test_a_study_about_something_else_is_refused_with_the_reason_and_nothing_changes(
    spec: StudySpec, searched: Path, tmp_path: Path, what: str
) -> None:
    change, word = REFUSED[what]
    before = contents(searched)
    with pytest.raises(
        LrfError, match=rf"the study 'net' has 3 trials with another (.* and another )?{word}\b.*--name"
    ):
        ran(spec, searched, **change(spec, tmp_path))
    assert contents(searched) == before


def test_a_function_of_a_module_in_the_current_folder_is_a_model(
    spec: StudySpec, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets").mkdir()
    text = f"import keras\ndef digits():\n    return keras.models.load_model({str(desk / 'net.keras')!r})\n"
    (tmp_path / "my_nets" / "small.py").write_text(text)
    result = ran(spec, tmp_path / "out", search_trials=3, model_path="my_nets.small:digits")
    assert result.original.test_metric > 0.9
    assert model_of(tmp_path / "out").count_params() == result.built.params  # type: ignore[union-attr]


def test_a_folder_of_class_folders_is_data(spec: StudySpec, tmp_path: Path, digits: Data) -> None:
    for part, images in (("train", digits.train.take(slice(300))), ("test", digits.test)):
        for i, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
            path = tmp_path / "data" / part / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0].astype(np.uint8)).save(path)
    heard = Heard()
    result = ran(spec, tmp_path / "out", heard, search_trials=3, data_path=str(tmp_path / "data"))
    assert result.original.test_metric > 0.9
    assert result.calibration == 64
    assert any("looks better on them than it is" in line for line in heard.lines)


def test_an_h5_file_is_a_model(spec: StudySpec, tmp_path: Path, digits_net: Any) -> None:
    digits_net.save(tmp_path / "net.h5")
    result = ran(spec, tmp_path / "out", search_trials=3, model_path=str(tmp_path / "net.h5"))
    assert result.original.params == digits_net.count_params()
    assert result.original.test_metric > 0.9
    assert model_of(tmp_path / "out").count_params() == result.built.params  # type: ignore[union-attr]


@pytest.mark.parametrize("labels", ["integers", "one-hot"])
def test_a_network_that_ends_in_softmax_is_compressed_and_tuned_and_still_gives_probabilities(
    spec: StudySpec, tmp_path: Path, digits_net: Any, digits: Data, labels: str
) -> None:
    import keras

    model = keras.models.clone_model(digits_net)
    model.set_weights(digits_net.get_weights())
    model.layers[-1].activation = keras.activations.softmax
    model.save(tmp_path / "soft.keras")
    given = arrays(digits)
    if labels == "one-hot":
        given |= {name: np.eye(10)[given[name]] for name in ("y_train", "y_val", "y_test")}
    np.savez(tmp_path / "soft.npz", **given)
    paths = {"model_path": str(tmp_path / "soft.keras"), "data_path": str(tmp_path / "soft.npz")}
    result = ran(spec, tmp_path / "out", search_trials=4, tune_epochs=1, **paths)
    assert result.tuned is not None
    assert result.tuned.val_metric >= result.built.val_metric  # type: ignore[union-attr]
    given_out = np.asarray(model_of(tmp_path / "out")(digits.preprocess(digits.test.pixels)))
    np.testing.assert_allclose(given_out.sum(axis=1), 1, atol=1e-5)
    assert given_out.min() >= 0


def test_images_without_a_channel_axis_are_data(spec: StudySpec, tmp_path: Path, digits: Data) -> None:
    flat = {name: array[..., 0] if name.startswith("x") else array for name, array in arrays(digits).items()}
    np.savez(tmp_path / "flat.npz", **flat)
    result = ran(spec, tmp_path / "out", search_trials=3, data_path=str(tmp_path / "flat.npz"))
    same = ran(spec, tmp_path / "same", search_trials=3)
    assert (result.original, result.built, result.chosen) == (same.original, same.built, same.chosen)


def test_what_is_left_out_of_the_objectives_is_no_cost(spec: StudySpec, tmp_path: Path) -> None:
    result = ran(spec, tmp_path, search_trials=3, search_objectives=("loss", "macs"))
    assert set(result.chosen.costs) == {"loss", "macs"}
    with pytest.raises(LrfError, match="needs it among the objectives"):
        ran(spec, tmp_path / "other", search_objectives=("loss", "macs"), search_targets={"params": 0.5})
    assert not (tmp_path / "other").exists()


def test_the_study_tells_a_reader_without_this_package_what_it_holds(spec: StudySpec, searched: Path) -> None:
    study = optuna.load_study(study_name="net", storage=f"sqlite:///{searched / 'study.db'}")
    result = Result.read(searched / "result.json")
    assert study.metric_names == ["loss", "params", "macs"]
    for trial in study.trials:
        plan = json.loads(trial.system_attrs["lrf:plan"])
        assert {f"{layer}.{word}" for layer in plan for word in ("method", "keep")} == set(trial.params)
        assert trial.user_attrs["params"] == round(trial.values[1] * result.original.params)
        assert trial.user_attrs["macs"] == round(trial.values[2] * result.original.macs)
        assert any(name.startswith("similarity ") for name in trial.user_attrs)


def test_a_point_is_chosen_again_only_where_something_else_is_asked(spec: StudySpec, tmp_path: Path) -> None:
    ran(spec, tmp_path, search_trials=6)
    (tmp_path / "result.json").unlink()
    measured = []
    for change in ({}, {"search_by": "loss"}, {}, {"search_targets": {"params": 0.9}}, {"search_trials": 7}):
        heard = Heard()
        ran(spec, tmp_path, heard, **({"search_trials": 6} | change))
        measured.append(was_chosen(heard))
    assert measured == [False, False, True, True, True]


def test_a_point_that_was_selected_in_between_does_not_make_a_run_measure_again(
    spec: StudySpec, tmp_path: Path
) -> None:
    first = ran(spec, tmp_path, search_trials=6)
    work = Run.open(spec.override({"search.trials": 6}), tmp_path)
    other = next(point for point in pareto_front(work.search()) if point != first.chosen)
    RunFolder(tmp_path).write_choice("net", (other, "by hand"))
    assert RunFolder(tmp_path).read_choice() == (other, "by hand")
    heard = Heard()
    again = ran(spec, tmp_path, heard, search_trials=6)
    assert not was_chosen(heard)
    assert (again.chosen, again.why) == (first.chosen, first.why)
    assert RunFolder(tmp_path).read_choice() == (first.chosen, first.why)


@pytest.mark.parametrize("change", [{"trial": 10**6}, {"costs": {}}, {"costs": 3}, {"trial": "x"}, {"request": "y"}])
def test_what_a_run_chose_of_another_study_is_not_taken_over(
    spec: StudySpec, tmp_path: Path, change: dict[str, Any]
) -> None:
    first = ran(spec, tmp_path, search_trials=6)
    kept = json.loads((tmp_path / "plan.json").read_text())
    kept["run"] |= change
    (tmp_path / "plan.json").write_text(json.dumps(kept))
    heard = Heard()
    assert ran(spec, tmp_path, heard, search_trials=6).chosen == first.chosen
    assert was_chosen(heard)


@pytest.mark.parametrize("text", ["{", "[]", '{"run": 1}', '{"run": {"request": 1}}'])
def test_a_broken_choice_is_made_again_by_a_run(spec: StudySpec, tmp_path: Path, text: str) -> None:
    first = ran(spec, tmp_path, search_trials=4)
    (tmp_path / "plan.json").write_text(text)
    assert ran(spec, tmp_path, search_trials=4).chosen == first.chosen
