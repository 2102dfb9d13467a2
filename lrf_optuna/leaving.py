"""What a run leaves in its folder, model.keras, the report, result.json, and whether an earlier run left it there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lrf_optuna.comparison import Comparison
from lrf_optuna.data import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.finetune import accuracy
from lrf_optuna.plan import Candidate
from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.report import figures, save_to_study, write_report
from lrf_optuna.result import Result, Standing
from lrf_optuna.storage import Record
from lrf_optuna.study import save_model, write_text
from lrf_optuna.zoo import load_model

MODEL, RESULT, REPORT = "model.keras", "result.json", "report.html"


def standing(
    model: Any,
    data: Data,
    macs: int,
    file: Path | None = None,
    epochs: int | None = None,
    progress: Progress = SILENT,
) -> Standing:
    """A network's size and accuracies."""
    with progress.task("measuring", 2) as step:
        val = accuracy(model, data, data.val)
        step(1)
        test = accuracy(model, data, data.test)
        step(1)
    return Standing(int(model.count_params()), macs, val, test, file.stat().st_size if file else 0, epochs)


def standing_of_original(folder: Path, model: Any, data: Data, macs: int, progress: Progress = SILENT) -> Standing:
    """The same of the original, with the size of its file: as it is saved today, not as it came."""
    file = save_model(model, folder / ".original.keras")
    try:
        return standing(model, data, macs, file, progress=progress)
    finally:
        file.unlink()


def earlier(folder: Path, made_by: str) -> Result | None:
    """The result of an earlier run that made just this model, by its digest, if it is there."""
    try:
        result = Result.read(folder / RESULT)
    except LrfError:
        return None
    return result if (folder / MODEL).exists() and result.made_by == made_by else None


def keep_model(folder: Path, model: Any) -> Path:
    """Write model.keras; a result.json about the one before goes first, whatever stops the run in between."""
    (folder / RESULT).unlink(missing_ok=True)
    return save_model(model, folder / MODEL)


def leave(
    folder: Path,
    record: Record,
    candidates: Sequence[Candidate],
    points: Sequence[Candidate],
    result: Result,
    progress: Progress = SILENT,
) -> None:
    """Write the report, the figures into the study, and last result.json, which says that all is there."""
    with progress.task("report", 2) as step:
        write_report(folder / REPORT, candidates, points, result, Comparison.read(folder, result.study))
        step(1)
        save_to_study(record.study, figures(candidates, points, result))
        step(1)
    write_text(folder / RESULT, result.to_json())


def trained(path: str, folder: Path, data: Data, seed: int, progress: Progress) -> Any:
    """A small net of the zoo, trained on first use and kept in the run folder."""
    with ExitStack() as stack:
        shown: list[Step] = []

        def tell(epoch: int, epochs: int, share: float) -> None:
            if not shown:
                shown.append(stack.enter_context(progress.task(f"training {path}", epochs)))
            shown[0](1, note=f"{share:.1%}")

        return load_model(path, cache=folder, data=data, seed=seed, fit_progress=tell)
