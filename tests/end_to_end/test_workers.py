"""Several processes search on one study: together they make exactly the trials asked for, and lose none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_interrupts import Swallowing

from lrf_optuna.errors import LrfError
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.initial_plans import turned
from lrf_optuna.search.loop import search_front
from lrf_optuna.search.workers import WorkerPool, WorkerTask
from lrf_optuna.storage.study import StudyStore

OBJECTIVES = ("loss", "params", "macs")
KEEPS = (0.2, 0.35, 0.5, 0.7)


@pytest.fixture
def record(tmp_path: Path) -> StudyStore:
    return StudyStore.open(f"sqlite:///{tmp_path / 's.db'}", "s", objectives=OBJECTIVES, identity={})


def task_of(record: StudyStore, cache: Path, **searching: Any) -> WorkerTask:
    asked = {"trials": 40, "keeps": KEEPS, "population": 10, "seed": 0, **searching}
    return WorkerTask(record.url, "s", str(cache), {"objectives": OBJECTIVES}, asked)


@pytest.fixture(scope="module")
def warm(net: Any, images: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the fits of the network."""
    cache = tmp_path_factory.mktemp("cache")
    Proxy(net, images, cache=cache).table(KEEPS)
    return cache


def test_two_workers_make_exactly_the_trials_and_breed_from_each_others(
    record: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    team = WorkerPool(2, tmp_path, threads=1)
    team.search(task_of(record, warm), net, images, record)
    trials = record.finished()
    assert [trial.number for trial in trials] == list(range(40))
    assert record.join() == 2, "both took part"
    assert len({trial.user_attrs["plan"] for trial in trials[:10]}) == 10, "no seed was scored twice"
    assert not list(tmp_path.glob(".workers-*"))
    assert max(trial.system_attrs["NSGAIISampler:generation"] for trial in trials) >= 2
    team.search(task_of(record, warm, trials=50), net, images, record)
    assert [trial.number for trial in record.finished()] == list(range(50))


def test_what_goes_wrong_in_the_workers_is_one_line(
    record: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    task = WorkerTask(record.url, "s", str(warm), {"methods": ["unheard"]}, {"trials": 3, "keeps": KEEPS})
    with pytest.raises(LrfError, match=r"^unknown method 'unheard'"):
        WorkerPool(2, tmp_path, threads=1).search(task, net, images, record)


SEARCHING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from conftest import residual_net
from end_to_end.test_workers import task_of, OBJECTIVES
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.search.workers import WorkerPool
folder = Path(sys.argv[2])
record = StudyStore.open(f"sqlite:///{folder / 's.db'}", "s", objectives=OBJECTIVES, identity={})
images = np.load(folder / "images.npy")
try:
    WorkerPool(2, folder, threads=1).search(task_of(record, Path(sys.argv[3]), trials=100000), residual_net(), images, record)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def grown(record: StudyStore, above: int) -> int:
    """How many trials there are, as soon as there are more than that."""
    for _ in range(600):
        if (count := record.count()) > above:
            return count
        time.sleep(0.1)
    raise AssertionError(f"no more than {above} trials")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them_and_leave_whole_trials(
    how: signal.Signals, record: StudyStore, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", SEARCHING, str(Path(__file__).parents[1]), str(tmp_path), str(warm)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        grown(record, 10)
        os.kill(process.pid, how)
        out, _ = process.communicate(timeout=120)
    assert ("interrupted" in out) == (how == signal.SIGINT)
    settled = -1
    for _ in range(60):
        before, settled = settled, record.count()
        if before == settled:
            break
        time.sleep(1.5)
    assert before == settled, "nobody records any more"
    assert [trial.number for trial in record.finished()] == list(range(settled))
    assert len(record.study.trials) == settled, "and none is there by half"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_are_stopped_by_an_interrupt_that_was_thrown_away(
    record: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        WorkerPool(1, tmp_path, Swallowing(), threads=1).search(
            task_of(record, warm, trials=100000), net, images, record
        )
    assert 0 < record.count() < 100000


@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_every_rank_takes_all_seeds_and_the_first_two_meet_in_the_middle(count: int) -> None:
    plans: list[Any] = [{"site": i} for i in range(count)]
    for rank in range(6):
        assert sorted(plan["site"] for plan in turned(plans, rank)) == list(range(count))
    assert turned(plans, 0) == plans
    assert turned(plans, 1) == plans[::-1]


def test_trials_of_another_process_are_taken_in_while_searching(
    proxy: Proxy, table: Any, keeps: Any, record: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrf_optuna.search.line import Line

    stranger = StudyStore.read(record.url, "s")
    made = search_front(proxy, table, trials=6, population=10)
    before: Callable[..., None] = Line.finish
    given = []

    def finish(line: Line) -> None:
        before(line)
        if len(line.hunt.found) == 12 and not given:
            trial = line.study.get_trials(deepcopy=True)[0]
            trial.user_attrs["plan"] = made[-1].plan.to_json()
            given.extend(stranger.append([trial]))

    monkeypatch.setattr(Line, "finish", finish)
    found = search_front(proxy, table, trials=60, population=10, store=record)
    assert len(found) == len(record.finished()) == 60
    assert given, "another process recorded a trial in the middle"
