"""Work in a child process: conversions leak memory and print pages, and TensorFlow's threads are set once a process.

A child runs one function on an object of JSON, and its answer is an object of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lrf_optuna.errors import LrfError

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
"""The environment of a child: TensorFlow is silent, and leaves graphics cards alone."""
LAST_LINES = 3
"""Lines of a child's last words that an error has."""


def in_child(function: str, job: dict[str, Any]) -> dict[str, Any]:
    """The answer of a function of this package, `package.module:function`, for a job, from a new process.

    Raises LrfError where the process ends without an answer.
    """
    with TemporaryDirectory(prefix="lrf-optuna-") as folder:
        question, answer = Path(folder, "job.json"), Path(folder, "answer.json")
        question.write_text(json.dumps({"function": function, "path": sys.path, "job": job}))
        command = [sys.executable, "-m", "lrf_optuna.runtimes.child", str(question), str(answer)]
        paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {**os.environ, **QUIET, "PYTHONPATH": paths}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        if not answer.exists():
            last = " ".join(done.stderr.strip().splitlines()[-LAST_LINES:]) or f"exit code {done.returncode}"
            raise LrfError(f"the process of {function} ended without an answer: {last}")
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def main(question: str, answer: str) -> None:
    """Answer the job in a file; the answer is there whole or not at all."""
    asked = json.loads(Path(question).read_text())
    sys.path.extend(path for path in asked["path"] if path not in sys.path)
    module, _, name = asked["function"].partition(":")
    found = getattr(importlib.import_module(module), name)(asked["job"])
    part = Path(answer + ".part")
    part.write_text(json.dumps(found))
    part.replace(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
