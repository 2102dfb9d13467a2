"""One of several processes that search on a study: `python -m lrf_optuna.search.worker FOLDER THREADS`.

It ends when the study has its trials, when it is interrupted, and when the process that started it is gone.
"""

from __future__ import annotations

import _thread
import importlib
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from lrf_optuna.errors import LrfError
from lrf_optuna.processes import quiet
from lrf_optuna.search.workers import IMAGES_FILE, MODEL_FILE, WorkerTask


def work(folder: Path, threads: int) -> None:
    """Search as the folder's task says."""
    with quiet():
        from lrf_optuna.decompositions.registry import load_plugins
        from lrf_optuna.models.forward import limit_threads
        from lrf_optuna.models.load import load_model
        from lrf_optuna.scoring.proxy import Proxy
        from lrf_optuna.search.loop import search_front
        from lrf_optuna.storage.study import StudyStore
    limit_threads(threads)
    load_plugins()
    task = WorkerTask.read(folder)
    if task.module:
        importlib.import_module(task.module)
    proxy = Proxy(
        load_model(str(folder / MODEL_FILE)), np.load(folder / IMAGES_FILE), cache=Path(task.cache), **task.scoring
    )
    table = proxy.table(task.keeps)
    store = StudyStore.read(task.url, task.name)
    search_front(proxy, table, store=store, **task.search)


def end_with_parent() -> None:
    """Interrupt this process when its standard input ends: whoever started it is gone."""
    sys.stdin.read()
    _thread.interrupt_main()


def main() -> None:
    """The module as a program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(Path(sys.argv[1]), int(sys.argv[2]))
    except LrfError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
