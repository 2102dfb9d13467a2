"""A PostgreSQL server holds the same rows under the same numbers, and may go away and come back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from support.studies import IDENTITY, OBJECTIVES, finished_trial, odd_trials

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.background_writer import BackgroundWriter
from lrf_optuna.storage.bulk_trials import BulkTrials
from lrf_optuna.storage.study import AS_BUILT, METRIC, PLAN, StudyStore

pytest.importorskip("psycopg", reason="PostgreSQL needs the package psycopg: pip install 'lrf-optuna[postgres]'")
SEARCH = """
import sys
sys.path.insert(0, sys.argv[1])
from end_to_end.test_postgres import opened
from support.studies import finished_trial
from lrf_optuna.storage.background_writer import BackgroundWriter
first, others = int(sys.argv[4]), []
store = opened(sys.argv[2], sys.argv[3])
with BackgroundWriter(store, 100, interval=0.05) as recorder:
    while store.count() < 100:
        recorder.put(finished_trial(first))
        first += 1
        if store.count() + recorder.pending >= 100 or first % 7 == 0:
            recorder.flush()
    recorder.flush()
    others = recorder.news()
print(*recorder.numbers)
print(*(one.trial for one in others))
"""


@dataclass
class Server:
    """A PostgreSQL server of our own, reached by a socket in its folder."""

    binaries: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs, as a user that it accepts: it refuses root."""
        options = {"user": "postgres"} if os.getuid() == 0 else {}
        command = [str(self.binaries / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **options)  # type: ignore[call-overload]

    def start(self) -> None:
        self.run("pg_ctl", "start", "-w", "-l", "log", "-o", f"-F -k {self.folder} -c listen_addresses=''")

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = shutil.which("pg_ctl") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))), None)
    if found is None:
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp())
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    server = Server(Path(found).parent, folder)
    server.run("initdb", "-U", "postgres", "-A", "trust", "-N")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def opened(url: str, name: str) -> StudyStore:
    return StudyStore.open(url, name, objectives=OBJECTIVES, identity=IDENTITY)


def parts(trial: optuna.trial.FrozenTrial) -> list[str]:
    """All of a trial, its dictionaries in the order of their keys: a server gives rows in any order."""
    return [repr(sorted(part.items()) if isinstance(part, dict) else part) for part in vars(trial).values()]


def test_what_is_appended_is_what_optuna_writes(server: Server) -> None:
    trials = odd_trials()
    ours, theirs = opened(server.url, "ours"), opened(server.url, "theirs")
    assert isinstance(ours.trials, BulkTrials)
    assert ours.append(trials[:5]) + ours.append(trials[5:]) == list(range(len(trials)))
    theirs.study.add_trials(trials)
    for mine, wanted in zip(ours.study.trials, theirs.study.trials, strict=True):
        mine._trial_id = wanted._trial_id
        assert parts(mine) == parts(wanted)
    complete = theirs.study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    wanted = [(trial.number, trial.values) for trial in complete if PLAN in trial.user_attrs]
    assert [(one.trial, [*one.costs.values()]) for one in theirs.candidates()] == wanted
    assert [one.trial for one in ours.candidates(2, 5)] == [2, 3, 4]
    assert ours.candidates() == theirs.candidates()
    assert ours.distributions(0) == theirs.study.trials[0].distributions


def test_metrics_of_finished_trials_are_kept_and_forgotten(server: Server) -> None:
    record = opened(server.url, "measured")
    record.append([finished_trial(0), finished_trial(1)])
    of = {"name": "accuracy", "digest": "a", "original": {METRIC: 0.95}}
    record.keep_measurements(of, {0: {METRIC: 0.5}, 1: {METRIC: 0.25}}, {1: {"scored": [0.25]}})
    record.keep_metrics(1, {METRIC: 0.125, AS_BUILT: 0.75})
    again = opened(server.url, "measured")
    assert again.metrics() == {0: {METRIC: 0.5}, 1: {METRIC: 0.125, AS_BUILT: 0.75}}
    assert (again.metric_name, again.measurements("a")) == ("accuracy", {1: {"scored": [0.25]}})
    record.keep_measurements({**of, "digest": "b"}, {0: {METRIC: 0.625}}, {})
    assert (again.metrics(), record.measurements("b")) == ({0: {METRIC: 0.625}}, {})


def test_processes_that_share_a_study_make_exactly_as_many_trials(server: Server) -> None:
    arguments = [sys.executable, "-c", SEARCH, str(Path(__file__).parents[1]), server.url, "shared"]
    running = [
        subprocess.Popen([*arguments, str(1000 * place)], stdout=subprocess.PIPE, text=True) for place in range(3)
    ]
    said = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    own, others = ([[int(word) for word in lines[i].split()] for lines in said] for i in (0, 1))
    assert sorted(number for numbers in own for number in numbers) == list(range(100))
    assert all(sorted(mine + theirs) == list(range(100)) for mine, theirs in zip(own, others, strict=True))
    trials = opened(server.url, "shared").study.trials
    assert [trial.number for trial in trials] == list(range(100))
    assert len({trial.user_attrs["params"] for trial in trials}) == 100


def test_numbers_are_right_beside_another_client_of_optuna(server: Server) -> None:
    record = opened(server.url, "beside")
    code = "import optuna, sys; optuna.load_study(study_name='beside', storage=sys.argv[1], sampler="
    code += "optuna.samplers.RandomSampler()).optimize(lambda trial: (trial.suggest_float('x', 0, 1), 1), n_trials=40)"
    with subprocess.Popen([sys.executable, "-c", code, server.url]) as other:
        while other.poll() is None:
            record.append([finished_trial(0), finished_trial(1)])
    assert other.returncode == 0
    trials = record.study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum("x" in trial.params for trial in trials) == 40
    assert len(trials) > 42


def test_a_server_that_goes_away_is_said_and_one_that_is_back_is_used_again(server: Server) -> None:
    record = opened(server.url, "away")

    def search() -> None:
        with BackgroundWriter(record) as recorder:
            recorder.put(finished_trial(0))
            recorder.flush()
            server.stop()
            recorder.put(finished_trial(1))

    with pytest.raises(LrfError) as error:
        search()
    said = str(error.value)
    server.start()
    assert "; see that the server runs and can be reached, then the same command goes on" in said
    assert said.endswith("(1 finished trials could not be recorded and are lost)")
    assert "\n" not in said
    assert record.append([finished_trial(1)]) == [1]
    assert opened(server.url, "away").count() == 2


def test_a_server_that_goes_away_in_a_transaction_leaves_nothing_half_there(server: Server) -> None:
    record = opened(server.url, "half")

    def cut() -> None:
        with record.database.writing() as session:
            session.connection().exec_driver_sql("UPDATE studies SET study_name = 'x' WHERE study_name = 'half'")
            server.stop()

    with pytest.raises(LrfError, match="see that the server runs") as error:
        cut()
    server.start()
    assert "\n" not in str(error.value)
    assert opened(server.url, "half").append([finished_trial(0)]) == [0]
