"""Where a study and its run folder are, and the choice that plan.json keeps."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.plan import Candidate, Plan
from lrf_optuna.storage import Record

DATABASE = "study.db"
PLAN_FILE = "plan.json"


@dataclass(frozen=True, slots=True)
class Found:
    """A study that is there: its record, its run folder, the specification that it was last run with."""

    record: Record
    folder: Path
    spec: StudySpec


def default_url(folder: Path) -> str:
    """The database of a run folder."""
    return f"sqlite:///{folder / DATABASE}"


def check_folder(folder: Path) -> None:
    """Raises LrfError where a folder can neither be made nor written to."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise LrfError(f"cannot write to {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise LrfError(f"cannot write to {folder}: no permission to write in {there}")


def locate(name: str, storage: str | None = None, out: Path | None = None) -> Found:
    """The study `name`: of runs/`name`, of the run folder that `name` or `out` is, or of the database `storage`.

    Raises LrfError where there is none.
    """
    folder = out or (Path(name) if (Path(name) / DATABASE).exists() else Path("runs") / name)
    record = Record.read(storage or default_url(folder), None if folder == Path(name) else name)
    spec = StudySpec.from_json(record.spec)
    return Found(record, folder, spec.override({"search.storage": storage}))


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


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)


def save_model(model: Any, path: Path) -> Path:
    """Save a Keras model as a whole file or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    model.save(part)
    part.replace(path)
    return path
