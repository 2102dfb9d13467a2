"""Where a study and its run folder are, and the choice that plan.json keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.files import write_text
from lrf_optuna.models.load import load_model
from lrf_optuna.plans.comparison import Comparison
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.report.figures import figures
from lrf_optuna.report.page import save_to_study, write_report
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.finetune import accuracy

DATABASE = "study.db"
PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class ExistingStudy:
    """A study that is there: its record, its run folder, the specification that it was last run with."""

    record: StudyStore
    folder: Path
    spec: StudySpec


def default_url(folder: Path) -> str:
    """The database of a run folder."""
    return f"sqlite:///{folder / DATABASE}"


def locate(name: str, storage: str | None = None, out: Path | None = None) -> ExistingStudy:
    """The study `name`: of runs/`name`, of the run folder that `name` or `out` is, or of the database `storage`.

    Raises LrfError where there is none.
    """
    folder = out or (Path(name) if (Path(name) / DATABASE).exists() else Path("runs") / name)
    record = StudyStore.read(storage or default_url(folder), None if folder == Path(name) else name)
    spec = StudySpec.from_json(record.spec)
    return ExistingStudy(record, folder, spec.override({"search.storage": storage}))


def keep_choice(folder: Path, study: str, chosen: Candidate, why: str, asked: str = "") -> None:
    """Write plan.json: the study, the trial, its costs, the reason, the plan.

    `asked`: a digest of what a run was asked; a choice that no run made leaves the last run's answer there.
    """
    found = {"trial": chosen.trial, "costs": dict(chosen.costs), "why": why}
    run = {"asked": asked, **found} if asked else last_run(folder)
    kept = {"study": study, **found, "plan": chosen.plan.to_dict(), "run": run}
    write_text(folder / PLAN_FILE, json.dumps(kept, indent=2) + "\n")


def chosen_in(folder: Path) -> tuple[Candidate, str] | None:
    """The choice in plan.json and its reason; None where there is no such file.

    Raises LrfError where it is broken.
    """
    path = folder / PLAN_FILE
    try:
        kept = json.loads(path.read_text())
        return Candidate(int(kept["trial"]), Plan.from_dict(kept["plan"]), dict(kept["costs"])), str(kept["why"])
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, TypeError, ValueError) as reason:
        raise LrfError(f"{path} is not a choice of lrf_optuna ({reason!r}): choose again with select") from None


def answered(folder: Path, asked: str) -> tuple[int, dict[str, float], str] | None:
    """The trial that the last run chose, its costs and the reason, where it was `asked` just this."""
    run = last_run(folder)
    try:
        return (int(run["trial"]), dict(run["costs"]), str(run["why"])) if run.get("asked") == asked else None
    except (KeyError, TypeError, ValueError):
        return None


def last_run(folder: Path) -> dict[str, Any]:
    """What plan.json has of the last run: what it was asked, its trial, costs, reason; nothing where there is none."""
    try:
        run = json.loads((folder / PLAN_FILE).read_text())["run"]
    except (OSError, KeyError, TypeError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


def save_model(model: Any, path: Path) -> Path:
    """Save a Keras model as a whole file or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    model.save(part)
    part.replace(path)
    return path


MODEL, RESULT, REPORT = "model.keras", "result.json", "report.html"


def evaluate_model(
    model: Any,
    data: Data,
    macs: int,
    file: Path | None = None,
    epochs: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """A network's size and accuracies."""
    with progress.task("measuring", 2) as step:
        val = accuracy(model, data, data.val)
        step(1)
        test = accuracy(model, data, data.test)
        step(1)
    return Evaluation(int(model.count_params()), macs, val, test, file.stat().st_size if file else 0, epochs)


def standing_of_original(folder: Path, model: Any, data: Data, macs: int, progress: Progress = SILENT) -> Evaluation:
    """The same of the original, with the size of its file: as it is saved today, not as it came."""
    file = save_model(model, folder / ".original.keras")
    try:
        return evaluate_model(model, data, macs, file, progress=progress)
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


def leave_report(
    folder: Path,
    record: StudyStore,
    candidates: Sequence[Candidate],
    points: Sequence[Candidate],
    result: Result,
    progress: Progress = SILENT,
) -> None:
    """Write the report, and the figures into the study."""
    with progress.task("report", 2) as step:
        write_report(folder / REPORT, candidates, points, result, Comparison.read(folder, result.study))
        step(1)
        save_to_study(record.study, figures(candidates, points, result))
        step(1)


def leave_result(folder: Path, result: Result) -> None:
    """Write result.json, the last file of a run: where it is, all the others are."""
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
