"""The lines at the end of a run: what a user does next, with the paths and names of this run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrf_optuna.data.preprocess import AnyPreprocess
    from lrf_optuna.pipeline.run import Run
    from lrf_optuna.plans.result import Result


AS_MODULE = "python -m lrf_optuna"
"""The program where its script is not installed: commands that are kept in files begin with it."""


def program() -> str:
    """The program as it was called, to be typed again."""
    return AS_MODULE if Path(sys.argv[0]).parts[-2:] == ("lrf_optuna", "__main__.py") else "lrf-optuna"


def as_called(text: str) -> str:
    """A text with a kept command, which begins as the program was called."""
    return text.replace(AS_MODULE, program())


def study_words(run: Run) -> str:
    """What names the study of a run in a command: its name, and where it is if not in its usual place."""
    from lrf_optuna.storage.database import url_without_password

    words, storage = [run.spec.name], run.spec.search.storage
    if run.folder.path != Path("runs") / run.spec.name:
        words += ["--out", str(run.folder.path)]
    if storage:
        words += ["--storage", url_without_password(storage)]
    return shlex.join(words)


def next_steps(run: Run) -> Iterator[str]:
    """What comes next: the report, other points, a comparison, and Python that loads the model."""
    study = study_words(run)
    yield "What comes next:"
    yield f"  open {shlex.quote(str(run.folder.report))}"
    yield f"  {program()} front {study}"
    yield f"  {program()} select {study} --max-drop 1"
    yield "In Python:"
    yield "  import keras"
    yield f'  model = keras.models.load_model("{run.folder.model.as_posix()}")'
    yield f"  outputs = model.predict({inputs_of(run.data.preprocess)})"


def inputs_of(preprocess: AnyPreprocess) -> str:
    """Python that makes a network's inputs of raw ones, which it calls x."""
    from lrf_optuna.data.preprocess import KerasPreprocess, Preprocess

    if isinstance(preprocess, KerasPreprocess):
        return f"keras.applications.{preprocess.module}.preprocess_input(x)"
    if not isinstance(preprocess, Preprocess):
        return "x"
    text = "x" if preprocess.divide == 1 else f"x / {preprocess.divide:g}"
    if any(preprocess.mean):
        text = f"({text} - {numbers_text(preprocess.mean)})"
    return text if set(preprocess.std) == {1.0} else f"{text} / {numbers_text(preprocess.std)}"


def numbers_text(numbers: tuple[float, ...]) -> str:
    """One number, or the list of one for each channel."""
    return f"{numbers[0]:g}" if len(numbers) == 1 else f"[{', '.join(f'{one:g}' for one in numbers)}]"


def result_line(result: Result, run: Run) -> str:
    """The result of a run in one line, with the model's file, and its warning or how many there are."""
    warned = [f"{len(result.warnings)} warnings: see {run.folder.report}"]
    if len(result.warnings) < 2:
        warned = [f"warning: {warning}" for warning in result.warnings]
    return "; ".join([result.summary, str(run.folder.model), *warned])
