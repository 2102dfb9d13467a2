"""Processors, and silence while libraries load."""

from __future__ import annotations

import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of libraries for linear algebra."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor of this machine in words, and how many of its cores may be used."""
    count = "1 core" if cores() == 1 else f"{cores()} cores"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return f"{names[0]}, {count}"
    return f"{platform.processor() or platform.machine()}, {count}"


@contextmanager
def quiet() -> Iterator[None]:
    """A block in which libraries write nothing to stderr while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """A block that imports libraries for Python: TensorFlow greets nobody, and tqdm does not ask for widgets.

    Optuna imports tqdm, which warns in a notebook without widgets. Where TensorFlow is loaded, stderr is as usual.
    """
    if "IPython" in sys.modules and "tqdm.auto" not in sys.modules:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")
            with suppress(ImportError):
                import_module("tqdm.auto")
    with nullcontext() if "tensorflow" in sys.modules else quiet():
        yield
