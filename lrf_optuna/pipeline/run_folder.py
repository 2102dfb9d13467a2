"""A run folder: the names of its files, how each is written, and the choice and result of the last run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.files import copy_whole, write_text, write_whole
from lrf_optuna.models.compact_file import save_compact
from lrf_optuna.pipeline.point_models import PointModels
from lrf_optuna.plans.comparison import FILE, Comparison
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.report.card import model_card
from lrf_optuna.report.content import ReportContent, read_epochs
from lrf_optuna.report.dashboard import save_to_study
from lrf_optuna.report.facts import Facts
from lrf_optuna.report.page import write_report
from lrf_optuna.storage.importances import layer_importances
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.checkpoint import Checkpoint

Reasoned = tuple[Candidate, str]
"""A chosen point and the reason for it."""


class RunFolder:
    """The folder of one study; every file in it is written whole or not at all.

    `database`: the SQLite file of the study, where no other storage is named, and its `url`; `plan`: the file of the
    chosen point; `models`: those of all points that were built; `model`: a copy of the chosen one's; `result`: written
    last, so that where it is, all the others are. While a model is tuned, `untuned` and `untuned_result` are the model
    before, `checkpoint` is the state after the last epoch, and `best` is the best model so far after an interrupt.
    `tuning` is the table of the epochs; `latency` that of the milliseconds of layers, where these are an objective.
    `facts` are what report and model `card` say beside the result.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.database, self.url = path, path / "study.db", f"sqlite:///{path / 'study.db'}"
        self.plan, self.model = path / "plan.json", path / "model.keras"
        self.result, self.report = path / "result.json", path / "report.html"
        self.latency, self.facts, self.card = path / "latency.csv", path / "facts.json", path / "README.md"
        self.models = PointModels(path / "models")
        self.untuned, self.untuned_result = path / "untuned.keras", path / "untuned.json"
        self.checkpoint, self.tuning, self.best = path / "tuning.npz", path / "tuning.csv", path / "best-so-far.keras"

    def write_choice(self, study: str, choice: Reasoned, request: str = "") -> None:
        """Write plan.json: the study, the trial, its costs, the reason, the plan.

        `request`: a digest of what a run has to choose by. A choice by hand has none, and keeps that of the last run.
        """
        point, why = choice
        content = {"trial": point.trial, "costs": dict(point.costs), "why": why}
        run = {"request": request, **content} if request else self.last_run()
        kept = {"study": study, **content, "plan": point.plan.to_dict(), "run": run}
        write_text(self.plan, json.dumps(kept, indent=2) + "\n")

    def read_choice(self) -> Reasoned | None:
        """The choice in plan.json; None where there is no such file. Raises LrfError where the file is broken."""
        try:
            kept = json.loads(self.plan.read_text())
            return Candidate(int(kept["trial"]), Plan.from_dict(kept["plan"]), dict(kept["costs"])), str(kept["why"])
        except FileNotFoundError:
            return None
        except (AttributeError, KeyError, TypeError, ValueError) as reason:
            raise LrfError(
                f"{self.plan} is not a choice of lrf_optuna ({reason!r}): choose again with select"
            ) from None

    def last_run(self) -> dict[str, Any]:
        """The part of plan.json that is about the last run: request, trial, costs, reason; empty where none is."""
        try:
            run = json.loads(self.plan.read_text())["run"]
        except (OSError, KeyError, TypeError, ValueError):
            return {}
        return run if isinstance(run, dict) else {}

    def choice_for(self, request: str, points: Sequence[Candidate]) -> Reasoned | None:
        """The point that the last run chose for the same request, if it is still among `points`."""
        run = self.last_run()
        if run.get("request") != request:
            return None
        same = (p for p in points if (p.trial, p.costs) == (run.get("trial"), run.get("costs")))
        return next(((point, str(run.get("why"))) for point in same), None)

    def read_result(self) -> Result | None:
        """The result of the chosen model; None where there is none that can be read, or its model is not there."""
        try:
            return Result.read(self.result) if self.model.exists() else None
        except LrfError:
            return None

    def chosen_result(self) -> Result:
        """The result of the selected point's model. Raises LrfError where there is none, or it is of another point."""
        result, choice = self.read_result(), self.read_choice()
        if result is None:
            raise LrfError(f"no model in {self.path}: run it or build it first")
        if choice and choice[0].trial != result.chosen.trial:
            raise LrfError(
                f"{self.model} is of trial {result.chosen.trial}, but trial {choice[0].trial} is selected: "
                f"tune or build that one first, or select --trial {result.chosen.trial}"
            )
        return result

    def write_result(self, result: Result) -> None:
        """Write result.json, the last file of a run."""
        write_text(self.result, result.to_json())

    def clear_unfinished(self, model_digest: str) -> None:
        """Remove what only the unfinished fine-tune of a model needs; what another one needs stays."""
        if Checkpoint(self.checkpoint, self.tuning, model_digest).about().get("key") == model_digest:
            for path in (self.untuned_result, self.untuned, self.best, self.checkpoint):
                path.unlink(missing_ok=True)

    @property
    def companions(self) -> dict[str, Path]:
        """Ending -> the files beside the model that go with it: the table of its fine-tune, and its facts."""
        return {".csv": self.tuning, ".facts.json": self.facts}

    def keep_model(self, result: Result) -> str:
        """Let the model of a point, which is written, stand with its result among those of the points.

        Says where a better model of the same point is kept; else empty.
        """
        own = {ending: file for ending, file in self.companions.items() if result.tuned or file != self.tuning}
        return self.models.write_result(result, own)

    def stays(self, point: Candidate) -> tuple[Result, Path] | None:
        """Result and file of the fine-tuned model of a point that stays where another fine-tune does not help."""
        return self.models.helped(point, self.read_result())

    def keep_earlier(self) -> None:
        """Let the model of a run of an earlier version stand among those of the points as well."""
        result = self.read_result()
        if result and not self.models.read(result.chosen.trial):
            copy_whole(self.model, self.models.model(result.chosen.trial))
            self.keep_model(replace(result, exports=[]))

    def put_model(self, result: Result, file: Path) -> list[str]:
        """Make the model of a point, and what goes with it, those of the folder: copies of the point's files.

        A result.json about another model goes first, so that no interrupt leaves it beside this one. Gives a sentence
        for every export of the model before.
        """
        before = self.read_result()
        if before and (before.chosen, before.model_digest) == (result.chosen, result.model_digest):
            return []
        self.result.unlink(missing_ok=True)
        copy_whole(file, self.model)
        self.put_companions(file)
        files = [Path(export.file) for export in before.exports if export.file] if before else []
        return [f"{path} is of trial {before.chosen.trial}: export again" for path in files if before and path.exists()]

    def put_companions(self, file: Path) -> None:
        """Copy what goes with a point's `file`, or remove it where the point has none."""
        for ending, own in self.companions.items():
            if file.with_suffix(ending).exists():
                copy_whole(file.with_suffix(ending), own)
            else:
                own.unlink(missing_ok=True)

    def write_untuned(self, model: Any, result: Result, model_digest: str) -> None:
        """Keep a model that is about to be tuned, and what is known of it."""
        self.untuned_result.unlink(missing_ok=True)
        write_whole(self.untuned, partial(save_compact, model))
        write_text(self.untuned_result, replace(result, model_digest=model_digest).to_json())

    def write_best(self, model: Any) -> None:
        """Write the best model so far of a fine-tune that was interrupted."""
        write_whole(self.best, partial(save_compact, model))

    def untuned_for(self, point: Candidate, model_digest: str) -> tuple[Result, Path] | None:
        """What is known of the untuned model of a point with this digest, and its file; None where there is none."""
        with suppress(LrfError):
            result = Result.read(self.untuned_result)
            if result.model_digest == model_digest and self.untuned.exists():
                return result, self.untuned
        return self.models.with_digest(point, model_digest)

    def weigh(self, model: Any) -> int:
        """The bytes that the file of a model has, which is removed again."""
        file = write_whole(self.path / ".weighed.keras", partial(save_compact, model))
        size = file.stat().st_size
        file.unlink()
        return size

    def write_report(
        self, store: StudyStore, candidates: Sequence[Candidate], result: Result, progress: Progress = SILENT
    ) -> None:
        """Write the report and the model card, and what Optuna's dashboard shows into the study."""
        with progress.task("report", 2) as step:
            content = self.report_content(store, candidates, result)
            write_report(self.report, content)
            if content.facts and result.final is not result.original:
                write_text(self.card, model_card(content.result, content.facts))
            step(1)
            save_to_study(store, content, self.path, [self.report, self.plan, self.card])
            step(1)

    def report_content(self, store: StudyStore, candidates: Sequence[Candidate], result: Result) -> ReportContent:
        """What the report of a result shows, of the study and of the files beside it."""
        return ReportContent(
            candidates,
            pareto_front(candidates),
            result,
            comparison=Comparison.read(self.path, result.study),
            facts=Facts.read(self.facts),
            metrics=store.metrics(),
            compared_metric=store.compared_metric,
            importances=layer_importances(store),
            epochs=read_epochs(self.tuning) if result.tuned else (),
        )

    def write_comparison(self, store: StudyStore, comparison: Comparison) -> None:
        """Write compare.json, and into report and study where a model was made."""
        write_text(self.path / FILE, comparison.to_json())
        if self.report.exists() and self.result.exists():
            self.write_report(store, store.candidates(), Result.read(self.result))


@dataclass(frozen=True, slots=True)
class ExistingStudy:
    """A study that is there: its store, its run folder, the specification that it was last run with."""

    record: StudyStore
    folder: RunFolder
    spec: StudySpec


def locate(name: str, storage: str | None = None, out: Path | None = None) -> ExistingStudy:
    """The study `name`: of runs/`name`, of the run folder that `name` or `out` is, or of the database `storage`.

    Raises LrfError where there is none.
    """
    is_folder = RunFolder(Path(name)).database.exists()
    folder = RunFolder(out or (Path(name) if is_folder else Path("runs") / name))
    record = StudyStore.read(storage or folder.url, None if folder.path == Path(name) else name)
    spec = StudySpec.from_json(record.spec)
    return ExistingStudy(record, folder, spec.override({"search.storage": storage}))
