"""What is recorded survives a kill, is read by plain Optuna, and is never mixed with another identity."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from support.studies import IDENTITY, OBJECTIVES, SITES, finished_trial, opened, url_in

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.database import sqlite_file
from lrf_optuna.storage.study import IDENTITY as IDENTITY_KEY
from lrf_optuna.storage.study import PLAN, StudyStore, plan_of

RECORDER = """
import sys
sys.path.insert(0, sys.argv[1])
from support.studies import finished_trial, opened
from pathlib import Path
record = opened(Path(sys.argv[2]))
print("ready", flush=True)
for number in range(record.count(), int(sys.argv[3])):
    record.append([finished_trial(number)])
    print(number, flush=True)
"""


def test_a_part_that_an_older_study_lacks_counts_as_empty(tmp_path: Path) -> None:
    opened(tmp_path).append([finished_trial(0)])
    assert opened(tmp_path, identity={**IDENTITY, "rank multiple": ""}).count() == 1
    with pytest.raises(LrfError, match="another rank multiple"):
        opened(tmp_path, identity={**IDENTITY, "rank multiple": "4"})


def test_what_was_said_of_the_set_up_is_there_when_the_study_is_opened_again(tmp_path: Path) -> None:
    record = opened(tmp_path)
    assert record.warnings == []
    record.keep_warnings(["5 test images are too few", "odd pixels"])
    assert opened(tmp_path).warnings == ["5 test images are too few", "odd pixels"]
    record.keep_warnings([])
    assert opened(tmp_path).warnings == []


def recording(folder: Path, trials: int) -> subprocess.Popen[str]:
    """A process that records until there are `trials`, from the moment it starts to record."""
    arguments = [sys.executable, "-c", RECORDER, str(Path(__file__).parents[1]), str(folder), str(trials)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_kill_at_any_moment_leaves_whole_trials_and_a_resumed_study_has_all(tmp_path: Path) -> None:
    rng, total, seen = np.random.default_rng(), 60, 0
    for _ in range(4):
        with recording(tmp_path, 10_000) as process:
            for _ in range(rng.integers(1, 12)):
                process.stdout.readline()  # type: ignore[union-attr]
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        trials = optuna.load_study(study_name="s", storage=url_in(tmp_path)).trials
        assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
        assert [trial.number for trial in trials] == list(range(len(trials)))
        assert len(trials) > seen
        seen = len(trials)
        for number, trial in enumerate(trials):
            wanted = finished_trial(number)
            assert (trial.params, trial.values) == (wanted.params, wanted.values)
            assert (trial.user_attrs, trial.system_attrs) == (wanted.user_attrs, wanted.system_attrs)
    total += seen
    with recording(tmp_path, total) as process:
        assert process.wait(timeout=120) == 0
    assert [one.trial for one in opened(tmp_path).candidates()] == list(range(total))


def test_two_processes_that_record_at_once_give_every_trial_its_own_number(tmp_path: Path) -> None:
    opened(tmp_path)
    with recording(tmp_path, 15) as one, recording(tmp_path, 15) as other:
        assert one.wait(timeout=120) == other.wait(timeout=120) == 0
    numbers = [one.trial for one in opened(tmp_path).candidates()]
    assert numbers == list(range(len(numbers)))
    assert 15 <= len(numbers) <= 30


def test_a_record_is_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    first = opened(tmp_path, spec='{"a": 1}')
    for number in range(3):
        first.append([finished_trial(number)])
    for again in (
        opened(tmp_path, spec='{"a": 1}'),
        StudyStore.read(url_in(tmp_path)),
        StudyStore.read(url_in(tmp_path), "s"),
    ):
        assert (again.name, again.objectives, again.spec) == ("s", OBJECTIVES, '{"a": 1}')
        assert again.candidates() == first.candidates()
        assert [c.trial for c in again.candidates()] == [0, 1, 2]


def test_a_candidate_is_the_plan_and_the_costs_of_its_trial(tmp_path: Path) -> None:
    record, trial = opened(tmp_path), finished_trial(0)
    record.append([trial])
    (found,) = record.candidates()
    assert found.plan == plan_of(trial)
    assert found.costs == dict(zip(OBJECTIVES, trial.values, strict=True))


def test_plain_optuna_reads_names_plans_and_the_identity(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.append([finished_trial(0)])
    study = optuna.load_study(study_name="s", storage=url_in(tmp_path))
    assert study.metric_names == list(OBJECTIVES)
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    plan = plan_of(study.trials[0]).to_dict()
    assert set(plan) == set(SITES)
    assert all(set(row) == {"method", "ranks"} for row in plan.values())
    assert IDENTITY in study.user_attrs.values()


def test_the_database_lets_readers_in_while_it_is_written(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,)
        record.append([finished_trial(0)])
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,), "a reader sees one moment"
    connection.close()
    assert record.count() == 1


@pytest.mark.parametrize("part", IDENTITY)
def test_another_identity_is_refused_by_its_part(tmp_path: Path, part: str) -> None:
    opened(tmp_path).append([finished_trial(0)])
    with pytest.raises(
        LrfError, match=f"'s' has 1 trials with another {part}( or preprocessing)?: give another --name"
    ):
        opened(tmp_path, identity=IDENTITY | {part: "other"})
    with pytest.raises(LrfError, match=f"another {part}"):
        opened(tmp_path, identity={k: v for k, v in IDENTITY.items() if k != part})
    assert opened(tmp_path).count() == 1
    assert opened(tmp_path, "another name", identity={}).candidates() == []


def test_several_differences_are_named_together(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(LrfError, match="another data or preprocessing and another model"):
        opened(tmp_path, identity=IDENTITY | {"model": "x", "data": "x"})


def test_a_study_of_somebody_else_is_refused(tmp_path: Path) -> None:
    theirs = optuna.create_study(study_name="s", storage=url_in(tmp_path), directions=["minimize"] * 3)
    with pytest.raises(LrfError, match="'s' in this database was not made by lrf_optuna"):
        opened(tmp_path)
    theirs.add_trial(optuna.trial.create_trial(values=[1.0, 2.0, 3.0]))
    with pytest.raises(LrfError, match="'s' in this database was not made by lrf_optuna"):
        opened(tmp_path)


def test_a_study_that_was_stopped_in_the_making_is_adopted(tmp_path: Path) -> None:
    optuna.create_study(study_name="s", storage=url_in(tmp_path), directions=["minimize"] * 2)
    record = opened(tmp_path)
    record.append([finished_trial(0)])
    assert [one.trial for one in opened(tmp_path).candidates()] == [0]


def test_a_study_beside_those_of_others_is_kept_apart(tmp_path: Path) -> None:
    theirs = optuna.create_study(study_name="theirs", storage=url_in(tmp_path))
    theirs.add_trial(optuna.trial.create_trial(value=1.0))
    record = opened(tmp_path)
    record.append([finished_trial(0)])
    assert [one.trial for one in record.candidates()] == [0]
    assert len(optuna.load_study(study_name="theirs", storage=url_in(tmp_path)).trials) == 1


def test_reading_what_is_not_there_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"no study .*there is no file .*study\.db"):
        StudyStore.read(url_in(tmp_path / "runs" / "x"), "x")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_is_answered_with_those_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        opened(tmp_path, name)
    with pytest.raises(LrfError, match=r"no study three in .*; there is: one, two"):
        StudyStore.read(url_in(tmp_path), "three")
    with pytest.raises(LrfError, match="there is: one, two"):
        StudyStore.read(url_in(tmp_path))


@pytest.mark.parametrize("url", ["", "study.db", "not a url", "sqlite:/x.db", "runs/my/study.db"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(LrfError, match="not a database URL"):
        StudyStore.open(url, "s", objectives=OBJECTIVES, identity={})
    with pytest.raises(LrfError, match="not a database URL"):
        StudyStore.read(url)


@pytest.mark.parametrize(
    "url", ["nosuch://host/db", "postgresql://user:secret@localhost:1/db", "mysql://user:secret@localhost:1/db"]
)
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(url: str) -> None:
    for act in (
        lambda: StudyStore.open(url, "s", objectives=OBJECTIVES, identity={}),
        lambda: StudyStore.read(url, "s"),
    ):
        with pytest.raises(LrfError, match="the database ") as error:
            act()
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)


def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LrfError, match="cannot be used"):
        opened(tmp_path / "file" / "deeper")
    with pytest.raises(LrfError, match="cannot be used"):
        StudyStore.open(f"sqlite:///{tmp_path}", "s", objectives=OBJECTIVES, identity={})


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("my letters to the editor, all of them, from 1987 to 2003\n" * 50)
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(LrfError, match="cannot be used: file is not a database"):
        opened(tmp_path)
    with pytest.raises(LrfError, match="cannot be used"):
        StudyStore.read(url_in(tmp_path))
    assert (tmp_path / "study.db").read_bytes() == before


def test_the_file_of_a_url_is_known() -> None:
    assert sqlite_file("sqlite:///a/b.db") == Path("a/b.db")
    assert sqlite_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_file("postgresql://host/db") is None


def test_every_process_learns_how_many_searched_before(tmp_path: Path) -> None:
    record = opened(tmp_path)
    assert [record.join(), opened(tmp_path).join(), record.join()] == [0, 1, 2]


CLAIM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lrf_optuna.errors import LrfError
from support.studies import opened
print("ready", flush=True)
sys.stdin.readline()
try:
    opened(Path(sys.argv[2]), identity={"model": sys.argv[3]})
    print("passed")
except LrfError as error:
    print(error)
"""


def test_of_processes_that_begin_with_different_identities_one_passes(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CLAIM, str(Path(__file__).parents[1]), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*arguments, model], **pipes) for model in "abcd"]  # type: ignore[call-overload]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0] for process in running]
    assert said.count("passed\n") == 1
    assert sum("'s' has 0 trials with another model: give another --name" in text for text in said) == 3


def test_an_identity_is_set_and_checked_in_one_transaction(tmp_path: Path) -> None:
    record = opened(tmp_path)
    late: list[LrfError] = []

    def compete() -> None:
        try:
            opened(tmp_path, "new", identity={"model": "theirs"})
        except LrfError as error:
            late.append(error)

    optuna.create_study(study_name="new", storage=url_in(tmp_path), directions=["minimize"] * 2)
    ours = StudyStore(record.database, "new")
    other = threading.Thread(target=compete)

    def while_the_other_waits(stored: object) -> dict[str, str]:
        assert stored is None
        other.start()
        other.join(0.5)
        assert other.is_alive(), "the other process waits for the transaction"
        return {"model": "ours"}

    ours.trials.change(IDENTITY_KEY, while_the_other_waits)
    other.join()
    assert "another model" in str(late[0])
    assert ours.study.user_attrs[IDENTITY_KEY] == {"model": "ours"}


def last_version(folder: Path, **attributes: Any) -> optuna.Study:
    """A study with the attributes that the last version wrote, by plain Optuna."""
    folder.mkdir(exist_ok=True)
    study = optuna.create_study(study_name="s", storage=url_in(folder), directions=["minimize"] * 2)
    study.set_metric_names(list(OBJECTIVES))
    for key, value in ({"lrf:question": IDENTITY, "lrf:spec": "{}", "lrf:processes": 1} | attributes).items():
        study.set_user_attr(key, value)
    for number in range(3):
        study.add_trial(finished_trial(number))
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_of_the_last_version_opens_or_is_refused_by_what_differs(tmp_path: Path) -> None:
    last_version(tmp_path, **{"lrf:space": {"layer0": ["svd"]}})
    for record in (opened(tmp_path), StudyStore.read(url_in(tmp_path))):
        assert [candidate.trial for candidate in record.candidates()] == [0, 1, 2]
    assert opened(tmp_path).join() == 1
    assert opened(tmp_path).append([finished_trial(3)], most=4) == [3]
    changed = IDENTITY | {"space": "of a later version"}
    remedy = "give another --name, or start again after `optuna delete-study --storage sqlite:///.* --study-name s`"
    for refused in (
        lambda: opened(tmp_path, identity=changed),
        lambda: StudyStore.check(url_in(tmp_path), "s", changed),
    ):
        with pytest.raises(LrfError, match=f"'s' has 4 trials with another space: {remedy}") as error:
            refused()
        assert "\n" not in str(error.value)


def test_optunas_verbosity_stays_as_the_user_set_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import optuna, lrf_optuna.storage.study\nprint(optuna.logging.get_verbosity() == optuna.logging.INFO)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "True\n"
    before = optuna.logging.get_verbosity()
    for verbosity in (optuna.logging.DEBUG, optuna.logging.ERROR):
        optuna.logging.set_verbosity(verbosity)
        opened(tmp_path, f"at {verbosity}")
        assert optuna.logging.get_verbosity() == verbosity
    optuna.logging.set_verbosity(before)
    assert "A new study created" not in capsys.readouterr().err


def test_a_plan_is_short_for_dashboards_and_trials_of_earlier_versions_are_candidates_still(tmp_path: Path) -> None:
    record, plan = opened(tmp_path), plan_of(finished_trial(0))
    earlier = optuna.trial.create_trial(values=[0.5, 0.5], user_attrs={PLAN: plan.to_json()})
    record.study.add_trial(earlier)
    record.append([earlier])
    assert [candidate.plan for candidate in record.candidates()] == [plan, plan]
    assert record.count() == 2
    attributes = [trial.user_attrs[PLAN] for trial in record.study.trials]
    assert attributes == [plan.to_json(), f"{len(SITES)} svd"]
