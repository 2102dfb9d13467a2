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
from support.search import store_at

from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.storage.study import StudyStore

SEARCHING = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
import numpy as np
from conftest import KEEPS, residual_net
from support.search import store_at
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import search_front
folder = Path(sys.argv[2])
proxy = Proxy(residual_net(), np.load(folder / "images.npy"), cache=folder / "cache")
try:
    search_front(proxy, proxy.table(KEEPS), trials=int(sys.argv[3]), population=10, store=store_at(folder / "s.db"))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def folder(net: Any, images: np.ndarray[Any, Any], keeps: tuple[float, ...], tmp_path: Path) -> Path:
    """A folder with the images, a cache that has the fits, and a study."""
    np.save(tmp_path / "images.npy", images)
    Proxy(net, images, cache=tmp_path / "cache").table(keeps)
    store_at(tmp_path / "s.db")
    return tmp_path


def started(folder: Path, trials: int) -> subprocess.Popen[str]:
    """A process that searches on the folder's study."""
    command = [sys.executable, "-c", SEARCHING, str(Path(__file__).parents[1]), str(folder), str(trials)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_trials(store: StudyStore, count: int) -> None:
    """Wait until the study has more trials than this."""
    for _ in range(1200):
        if store.count() > count:
            return
        time.sleep(0.1)
    raise AssertionError(f"no more than {count} trials")


def test_two_processes_make_exactly_the_trials_that_were_asked_for(folder: Path) -> None:
    processes = [started(folder, 60), started(folder, 60)]
    assert [process.wait(300) for process in processes] == [0, 0]
    store = store_at(folder / "s.db")
    trials = store.study.trials
    assert [one.trial for one in store.candidates()] == list(range(60))
    assert store.join() == 2, "both took part"
    assert max(trial.system_attrs["NSGAIISampler:generation"] for trial in trials) >= 1
    assert started(folder, 70).wait(300) == 0
    assert [one.trial for one in store.candidates()] == list(range(70)), "a third one goes on from there"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_whole_trials_and_the_other_goes_on(how: signal.Signals, folder: Path) -> None:
    store = store_at(folder / "s.db")
    with started(folder, 100_000) as stopped, started(folder, 100_000) as other:
        wait_for_trials(store, 20)
        os.kill(stopped.pid, how)
        out, _ = stopped.communicate(timeout=120)
        assert ("interrupted" in out) == (how == signal.SIGINT)
        wait_for_trials(store, store.count() + 20)
        os.kill(other.pid, signal.SIGINT)
        other.communicate(timeout=120)
    count = store.count()
    assert [one.trial for one in store.candidates()] == list(range(count))
    assert len(store.study.trials) == count, "none is there by half"
