"""Several processes search on one study: together they make exactly the trials that were asked for, and lose none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.search import OBJECTIVES, store_at
from test_interrupts import Swallowing

from lrf_optuna.errors import LrfError
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.workers import WorkerPool, WorkerTask
from lrf_optuna.storage.study import StudyStore

KEEPS = (0.2, 0.35, 0.5, 0.7)


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return store_at(tmp_path / "s.db")


def task_of(store: StudyStore, cache: Path, **search: Any) -> WorkerTask:
    search = {"trials": 40, "population": 10, "seed": 0, **search}
    return WorkerTask(store.url, "s", str(cache), {"objectives": OBJECTIVES}, KEEPS, search)


@pytest.fixture(scope="module")
def warm(net: Any, images: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that has the fits of the network."""
    cache = tmp_path_factory.mktemp("cache")
    Proxy(net, images, cache=cache).table(KEEPS)
    return cache


def test_two_workers_make_exactly_the_trials_that_were_asked_for_and_no_plan_twice_among_the_first(
    store: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    pool = WorkerPool(2, tmp_path, threads=1)
    pool.search(task_of(store, warm), net, images, store)
    trials = store.finished()
    assert [trial.number for trial in trials] == list(range(40))
    assert store.join() == 2, "both took part"
    assert len({trial.user_attrs["plan"] for trial in trials[:10]}) == 10, "no initial plan was scored twice"
    assert not list(tmp_path.glob(".workers-*"))
    assert max(trial.system_attrs["NSGAIISampler:generation"] for trial in trials) >= 1
    pool.search(task_of(store, warm, trials=50), net, images, store)
    assert [trial.number for trial in store.finished()] == list(range(50))


def test_what_goes_wrong_in_the_workers_is_one_line(
    store: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    task = WorkerTask(store.url, "s", str(warm), {"methods": ["unheard"]}, KEEPS, {"trials": 3})
    with pytest.raises(LrfError, match=r"^unknown method 'unheard'"):
        WorkerPool(2, tmp_path, threads=1).search(task, net, images, store)


SEARCHING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np
from conftest import residual_net
from end_to_end.test_workers import task_of
from support.search import store_at
from lrf_optuna.search.workers import WorkerPool
folder = Path(sys.argv[2])
store = store_at(folder / "s.db")
images = np.load(folder / "images.npy")
try:
    task = task_of(store, Path(sys.argv[3]), trials=100000)
    WorkerPool(2, folder, threads=1).search(task, residual_net(), images, store)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def grown(store: StudyStore, above: int) -> int:
    """How many trials there are, as soon as there are more than that."""
    for _ in range(600):
        if (count := store.count()) > above:
            return count
        time.sleep(0.1)
    raise AssertionError(f"no more than {above} trials")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them_and_leave_whole_trials(
    how: signal.Signals, store: StudyStore, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", SEARCHING, str(Path(__file__).parents[1]), str(tmp_path), str(warm)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        grown(store, 10)
        os.kill(process.pid, how)
        out, _ = process.communicate(timeout=120)
    assert ("interrupted" in out) == (how == signal.SIGINT)
    settled = -1
    for _ in range(60):
        before, settled = settled, store.count()
        if before == settled:
            break
        time.sleep(1.5)
    assert before == settled, "nobody records any more"
    assert [trial.number for trial in store.finished()] == list(range(settled))
    assert len(store.study.trials) == settled, "and none is there by half"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_are_stopped_by_an_interrupt_that_was_thrown_away(
    store: StudyStore, net: Any, images: np.ndarray[Any, Any], warm: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        WorkerPool(1, tmp_path, Swallowing(), threads=1).search(task_of(store, warm, trials=100000), net, images, store)
    assert 0 < store.count() < 100000
