"""What is put is recorded, whoever else records and however the search ends."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import optuna
import pytest
from support.studies import finished_trial, opened, recorded, url_in

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.storage.background_writer import BackgroundWriter

SEARCH = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.studies import finished_trial, opened
from lrf_optuna.storage.background_writer import BackgroundWriter
folder, most, first = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
record, own, others = opened(folder), 0, []
print("ready", flush=True)
sys.stdin.readline()
with BackgroundWriter(record, most, interval=0.05) as recorder:
    while record.count() < most:
        if record.count() + recorder.pending >= most:
            recorder.flush()
            continue
        recorder.put(finished_trial(first + own))
        own += 1
        others += recorder.news()
        print(own, flush=True)
        time.sleep(0.002)
    recorder.flush()
    others += recorder.news()
print("numbers", *recorder.numbers)
print("others", *(one.trial for one in others))
"""


def ready(folder: Path, most: int, first: int) -> subprocess.Popen[str]:
    """A process that records trials until the study has `most`, as soon as `begin` is called for it."""
    arguments = [sys.executable, "-c", SEARCH, str(Path(__file__).parents[1]), str(folder), str(most), str(first)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    """Let a ready process record trials."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def search(folder: Path, most: int, first: int) -> subprocess.Popen[str]:
    """A process that records trials until the study has `most`."""
    begin(process := ready(folder, most, first))
    return process


def labels(folder: Path, candidates: list[Candidate]) -> list[int]:
    """The arguments of `finished_trial` for some candidates."""
    trials = optuna.load_study(study_name="s", storage=url_in(folder)).trials
    return [trials[one.trial].user_attrs["params"] for one in candidates]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_share_a_study_make_exactly_as_many_trials(tmp_path: Path, processes: int) -> None:
    opened(tmp_path)
    running = [ready(tmp_path, 100, 1000 * place) for place in range(processes)]
    for process in running:
        begin(process)
    said = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0] * processes
    found = recorded(tmp_path)
    assert len(found) == len(set(found)) == 100
    numbers = [[int(number) for number in lines[-2].split()[1:]] for lines in said]
    others = [[int(number) for number in lines[-1].split()[1:]] for lines in said]
    assert sorted(chain(*numbers)) == list(range(100))
    for place in range(processes):
        assert all(found[number] // 1000 == place for number in numbers[place])
        assert sorted(numbers[place] + others[place]) == list(range(100)), "each has seen every trial once"


def test_a_kill_in_the_middle_loses_what_was_put_last_and_harms_nothing(tmp_path: Path) -> None:
    opened(tmp_path)
    with search(tmp_path, 10_000, 0) as killed, search(tmp_path, 10_000, 1000) as other:
        for process in (killed, other):
            while int(process.stdout.readline()) < 60:  # type: ignore[union-attr]
                pass
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        before = Counter(label // 1000 for label in recorded(tmp_path))
        for _ in range(60):
            other.stdout.readline()  # type: ignore[union-attr]
        other.send_signal(signal.SIGKILL)
    after = Counter(label // 1000 for label in recorded(tmp_path))
    assert after[0] == before[0] > 0
    assert after[1] > before[1]
    own = [label for label in recorded(tmp_path) if label < 1000]
    assert own == list(range(len(own)))
    with search(tmp_path, sum(after.values()) + 10, 5000) as again:
        assert again.wait(timeout=60) == 0
    assert len(recorded(tmp_path)) == sum(after.values()) + 10


def test_ctrl_c_records_what_was_put(tmp_path: Path) -> None:
    with search(tmp_path, 10_000, 0) as process:
        while (own := int(process.stdout.readline())) < 40:  # type: ignore[union-attr]
            pass
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0].splitlines()
    put = max([own, *map(int, said)])
    assert process.returncode != 0
    assert recorded(tmp_path) in (list(range(put)), list(range(put + 1))), "one may be put and not yet printed"


def test_leaving_records_all_in_the_order_of_put(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with BackgroundWriter(record, interval=60) as recorder:
        for number in range(30):
            recorder.put(finished_trial(number))
    assert recorded(tmp_path) == list(range(30))
    assert recorder.numbers == list(range(30))
    assert (recorder.pending, recorder.news()) == (0, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exception_goes_through_and_what_was_put_is_recorded(tmp_path: Path, error: type[BaseException]) -> None:
    record = opened(tmp_path)

    def search() -> None:
        with BackgroundWriter(record, interval=60) as recorder:
            for number in range(5):
                recorder.put(finished_trial(number))
            raise error

    with pytest.raises(error):
        search()
    assert recorded(tmp_path) == list(range(5))


def test_flush_waits_for_what_was_put_and_for_nothing_else(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with BackgroundWriter(record, interval=3600) as recorder:
        for number in range(3):
            recorder.put(finished_trial(number))
            recorder.flush()
            assert recorder.numbers == list(range(number + 1))
            assert (record.count(), recorder.pending) == (number + 1, 0)
    recorder.flush()


def test_many_trials_go_in_few_transactions(tmp_path: Path) -> None:
    record = opened(tmp_path)
    batches = []
    append = record.append

    def counted(trials: list[optuna.trial.FrozenTrial], most: int | None = None) -> list[int]:
        batches.append(len(trials))
        return append(trials, most)

    record.append = counted  # type: ignore[assignment, method-assign]
    with BackgroundWriter(record, interval=3600) as recorder:
        for number in range(50):
            recorder.put(finished_trial(number))
        assert recorder.pending == 50
    assert batches == [50]


def test_a_trial_is_recorded_within_a_second_without_a_further_call(tmp_path: Path) -> None:
    with BackgroundWriter(opened(tmp_path)) as recorder:
        recorder.put(finished_trial(0))
        time.sleep(1)
        assert recorder.numbers == [0]
        recorder.put(finished_trial(1))
        time.sleep(1)
        assert recorder.numbers == [0, 1]


def test_trials_of_others_are_news_once(tmp_path: Path) -> None:
    record, other = opened(tmp_path), opened(tmp_path)
    other.append([finished_trial(100), finished_trial(101)])
    with BackgroundWriter(record, known=1) as recorder:
        recorder.put(finished_trial(0))
        recorder.flush()
        assert recorder.news() == record.candidates(1, 2)
        assert recorder.news() == []
        other.append([finished_trial(102)])
        recorder.put(finished_trial(1))
        other.append([finished_trial(103)])
        recorder.flush()
        news = recorder.news()
        assert labels(tmp_path, news) == [102, 103]
        other.append([finished_trial(104)])
        recorder.flush()
        assert labels(tmp_path, recorder.news()) == [104]
        assert recorder.news() == []
    assert record.count() == 7
    assert news == [one for one in record.candidates() if one in news]


@pytest.mark.parametrize("revision", ["v3.2.0.a", "v9.0.0.a"])
def test_trials_of_others_between_own_numbers_are_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    monkeypatch.setattr("lrf_optuna.storage.bulk_trials.TESTED_REVISION", revision)
    record, other = opened(tmp_path), opened(tmp_path)
    append = record.append

    def between(trials: list[optuna.trial.FrozenTrial], most: int | None = None) -> list[int]:
        own = append(trials[:1])
        other.append([finished_trial(100), optuna.trial.create_trial(values=[1.0, 1.0]), finished_trial(101)])
        return own + append(trials[1:], most)

    record.append = between  # type: ignore[assignment, method-assign]
    with BackgroundWriter(record, interval=3600) as recorder:
        record.append([])
        recorder.put(finished_trial(0))
        recorder.flush()
        recorder.put(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED))
        recorder.put(finished_trial(1))
        recorder.flush()
        news = recorder.news()
    assert recorder.numbers == [3, 7, 11]
    assert [one.trial for one in news] == [0, 2, 4, 6, 8, 10], "1, 5 and 9 have no plan"
    assert set(labels(tmp_path, news)) == {100, 101}
    assert record.count() == 8, "the pruned trial and those without a plan do not count"


def test_a_full_study_takes_no_more(tmp_path: Path) -> None:
    record, other = opened(tmp_path), opened(tmp_path)
    other.append([finished_trial(number) for number in range(4)])
    with BackgroundWriter(record, 6, known=4) as recorder:
        for number in range(4, 8):
            recorder.put(finished_trial(number))
        recorder.flush()
        assert (recorder.numbers, recorder.pending) == ([4, 5], 0)
        recorder.put(finished_trial(8))
    assert recorder.numbers == [4, 5]
    assert recorded(tmp_path) == list(range(6))


def test_put_never_waits_for_a_locked_database(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with BackgroundWriter(record) as recorder, sqlite3.connect(tmp_path / "study.db", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        for number in range(100):
            recorder.put(finished_trial(number))
        assert recorder.pending == 100
        lock.execute("ROLLBACK")
        recorder.flush()
        assert record.count() == 100
    lock.close()


def broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> BackgroundWriter:
    """A recorder whose database is locked for longer than it waits; the lock is the study's own file."""
    monkeypatch.setattr("lrf_optuna.storage.database.LOCK_SECONDS", 0.2)
    return BackgroundWriter(opened(folder), interval=0.01)


def locked(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "study.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


@pytest.mark.parametrize("how", ["put", "news", "flush", "leaving"])
def test_an_error_is_raised_by_the_next_call_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    recorder = broken(tmp_path, monkeypatch)

    def search() -> None:
        with recorder:
            recorder.put(finished_trial(0))
            recorder.flush()
            lock = locked(tmp_path)
            recorder.put(finished_trial(1))
            recorder.put(finished_trial(2))
            if how == "flush":
                recorder.flush()
            recorder.thread.join()
            lock.close()
            if how == "put":
                recorder.put(finished_trial(3))
            if how == "news":
                recorder.news()
            assert how == "leaving"

    with pytest.raises(LrfError) as error:
        search()
    lost = 3 if how == "put" else 2
    assert f"({lost} finished trials could not be recorded and are lost)" in str(error.value)
    assert "database is locked; another process keeps it locked" in str(error.value)
    assert "\n" not in str(error.value)
    assert recorded(tmp_path) == [0]
    assert not recorder.thread.is_alive()


def test_an_error_comes_out_over_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = broken(tmp_path, monkeypatch)

    def search() -> None:
        with recorder:
            locked(tmp_path)
            recorder.put(finished_trial(0))
            raise KeyboardInterrupt

    with pytest.raises(LrfError, match=r"locked.*\(1 finished trials") as error:
        search()
    assert isinstance(error.value.__context__, KeyboardInterrupt)


def test_an_error_that_is_not_of_the_database_comes_out_as_it_is(tmp_path: Path) -> None:
    bad = finished_trial(0)
    bad.user_attrs["no JSON"] = object()

    def search() -> None:
        with BackgroundWriter(opened(tmp_path)) as recorder:
            recorder.put(bad)
            recorder.flush()

    with pytest.raises(TypeError, match="JSON"):
        search()
    assert recorded(tmp_path) == []


def test_no_thread_is_left(tmp_path: Path) -> None:
    with BackgroundWriter(opened(tmp_path)):
        assert "recorder" in {thread.name for thread in threading.enumerate()}
    assert "recorder" not in {thread.name for thread in threading.enumerate()}
