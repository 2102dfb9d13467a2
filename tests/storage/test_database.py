"""Trouble with the database is one line that says what to do, and the study stays whole and can be gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import pytest
from sqlalchemy import event
from storage.test_background_writer import search
from support.studies import finished_trial, opened, recorded, url_in

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.background_writer import BackgroundWriter

TESTS = Path(__file__).parents[1]
NOBODY = 65534
APPENDING = """
import gc, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lrf_optuna.errors import LrfError
from support.studies import finished_trial, opened
record = opened(Path(sys.argv[2]))
first = record.count()
gc.collect()
print("ready", flush=True)
try:
    for number in range(first, 100_000, 50):
        record.append([finished_trial(i) for i in range(number, number + 50)])
        print(number, flush=True)
except LrfError as error:
    print(error, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
"""Appends batches of 50 trials. Optuna's migrations leave classes behind, whose collection calls code where Python
ignores Ctrl-C; so they are collected first."""


def appending(folder: Path, code: str = APPENDING, **options: object) -> subprocess.Popen[str]:
    """A process that appends batches of 50 trials, from the moment it begins."""
    arguments = [sys.executable, "-c", code, str(TESTS), str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process  # type: ignore[no-any-return]


def whole(folder: Path) -> int:
    """How many trials there are: their first ones, each whole."""
    found = recorded(folder)
    assert found == list(range(len(found)))
    return len(found)


def one_line(error: pytest.ExceptionInfo[LrfError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def goes_on(folder: Path) -> None:
    """The same command takes up where the trials end."""
    there = whole(folder)
    with BackgroundWriter(opened(folder), there + 7) as recorder:
        for number in range(there, there + 9):
            recorder.put(finished_trial(number))
    assert whole(folder) == there + 7


def test_a_full_disk_is_said_and_room_lets_the_study_go_on(tmp_path: Path) -> None:
    record = opened(tmp_path)
    record.append([finished_trial(0)])

    @event.listens_for(record.database.storage.engine, "checkout")
    def small(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count=60")

    put = 1

    def run() -> None:
        nonlocal put
        with BackgroundWriter(record, interval=0.01) as recorder:
            for number in range(1, 300):
                put += 1
                recorder.put(finished_trial(number))
            recorder.flush()

    with pytest.raises(LrfError) as error:
        run()
    said = one_line(error)
    assert "database or disk is full; free some space, then the same command goes on" in said
    there = whole(tmp_path)
    assert f"({put - there} finished trials could not be recorded and are lost)" in said
    goes_on(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True)
    if made.returncode:
        pytest.skip("no permission to mount a small disk")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    with appending(small_disk) as process:
        *_, said = process.communicate(timeout=60)[0].splitlines()
    assert "cannot be used: database or disk is full; free some space, then the same command goes on" in said
    shutil.copytree(small_disk, copy := Path(tempfile.mkdtemp()), dirs_exist_ok=True)
    assert whole(copy) > 0
    goes_on(copy)
    shutil.rmtree(copy)


def test_a_file_that_may_not_grow_is_said(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n" + APPENDING
    with appending(tmp_path, limited) as process:
        *_, said = process.communicate(timeout=60)[0].splitlines()
    assert "; see whether its disk is full or gone, then the same command goes on" in said
    goes_on(tmp_path)


def test_a_database_that_is_locked_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf_optuna.storage.database.LOCK_SECONDS", 0.2)
    record = opened(tmp_path)
    holder = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[2] + '/study.db', isolation_level=None)\n"
    holder += "c.execute('BEGIN EXCLUSIVE')\nprint('ready', flush=True)\nsys.stdin.read()"
    with appending(tmp_path, holder, stdin=subprocess.PIPE) as process:
        with pytest.raises(LrfError) as error:
            record.append([finished_trial(0)])
        assert "database is locked; another process keeps it locked: let it end or stop it" in one_line(error)
        assert record.count() == 0, "readers need no lock"
        process.communicate("", timeout=60)
    goes_on(tmp_path)


@pytest.mark.parametrize("how", ["deleted", "all deleted", "replaced"])
def test_a_file_that_is_taken_away_is_noticed(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"
    record = opened(folder)
    record.append([finished_trial(0)])
    shutil.copytree(folder, tmp_path / "spare")
    word = "replaced by another" if how == "replaced" else "deleted"

    def run() -> None:
        with BackgroundWriter(record) as recorder:
            for file in [folder / "study.db"] if how == "deleted" else sorted(folder.iterdir()):
                file.unlink()
            if how == "replaced":
                opened(folder)
            recorder.put(finished_trial(1))

    with pytest.raises(LrfError, match=rf"{word} while .*\(1 finished trials could not be recorded") as error:
        run()
    one_line(error)
    before = sorted(folder.iterdir())
    for act in (record.candidates, record.count, lambda: record.append([finished_trial(1)])):
        with pytest.raises(LrfError, match=rf"the database file .*study\.db was {word} while it was in use: put it"):
            act()
    assert sorted(folder.iterdir()) == before, "nothing is made"
    assert whole(tmp_path / "spare") == 1


def test_a_file_that_is_taken_away_during_a_transaction_is_noticed(tmp_path: Path) -> None:
    record = opened(tmp_path)
    with pytest.raises(LrfError, match="was deleted while it was in use"), record.database.writing():
        (tmp_path / "study.db").unlink()


def test_a_study_that_is_deleted_is_noticed(tmp_path: Path) -> None:
    record = opened(tmp_path)
    optuna.delete_study(study_name="s", storage=url_in(tmp_path))
    with pytest.raises(LrfError, match="the study was deleted from the database while it was in use"):
        record.append([finished_trial(0)])


def test_ctrl_c_during_an_append_leaves_whole_batches(tmp_path: Path) -> None:
    rng, there = np.random.default_rng(), 0
    for _ in range(4):
        with appending(tmp_path) as process:
            process.stdout.readline()  # type: ignore[union-attr]
            time.sleep(rng.uniform(0, 0.1))
            process.send_signal(signal.SIGINT)
            *_, said = process.communicate(timeout=60)[0].splitlines()
        assert said == "interrupted"
        assert whole(tmp_path) % 50 == 0
        assert whole(tmp_path) > there
        there = whole(tmp_path)
    goes_on(tmp_path)


def test_processes_may_make_the_study_at_the_same_moment(tmp_path: Path) -> None:
    code = APPENDING.replace("record = opened", "print('ready', flush=True)\nsys.stdin.read(1)\nrecord = opened")
    code = code.split("first =")[0] + "print(record.append([finished_trial(0)]))"
    running = [appending(tmp_path, code, stdin=subprocess.PIPE) for _ in range(6)]
    for process in running:
        process.stdin.write("g")  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
    said = [process.stdout.read() for process in running]  # type: ignore[union-attr]
    assert [process.wait(timeout=60) for process in running] == [0] * 6
    assert sorted(said) == [f"[{number}]\n" for number in range(6)]


@contextmanager
def without_privileges(*places: Path) -> Iterator[None]:
    """Root may write everywhere: be nobody for a while, whom these places belong to."""
    if os.getuid():
        yield
        return
    for place in places:
        os.chown(place, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_written_is_said(what: str) -> None:
    folder = Path(tempfile.mkdtemp())  # outside pytest's own, which are root's
    record = opened(folder)
    record.append([finished_trial(0)])
    record.database.storage.engine.dispose()
    folder.chmod(0o500 if what == "folder" else 0o700)
    (folder / "study.db").chmod(0o600 if what == "folder" else 0o400)
    with without_privileges(folder, *folder.iterdir()), pytest.raises(LrfError) as error:
        opened(folder).append([finished_trial(1)])
    assert (
        "cannot be used: attempt to write a readonly database; make the file, those beside it and its folder"
        in one_line(error)
    )
    folder.chmod(0o700)
    for file in folder.iterdir():
        file.chmod(0o600)
    with search(folder, 5, 1) as again:
        assert again.wait(timeout=60) == 0
    assert whole(folder) == 5
    shutil.rmtree(folder)


def test_a_folder_that_is_made_read_only_under_a_search_harms_nothing() -> None:
    folder = Path(tempfile.mkdtemp())
    record = opened(folder)
    with without_privileges(folder, *folder.iterdir()), BackgroundWriter(record) as recorder:
        folder.chmod(0o500)
        recorder.put(finished_trial(0))
    folder.chmod(0o700)
    assert whole(folder) == 1
    shutil.rmtree(folder)
