"""The whole road for one study: prepare, search, choose, build, tune; every step leaves its files in the run folder.

A step that is already done is not repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data, load_data
from lrf_optuna.files import check_folder, digest
from lrf_optuna.models.inventory import Inventory, find_sites, plan_counts
from lrf_optuna.models.load import describe_input, load_model
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import check_can_be_copied
from lrf_optuna.pipeline.asking import scoring, searching, task_of, tolerated
from lrf_optuna.pipeline.build import build, parts_of
from lrf_optuna.pipeline.identity import check_names, data_word, study_identity, words_of
from lrf_optuna.pipeline.run_folder import (
    MODEL,
    ExistingStudy,
    answered,
    default_url,
    earlier,
    evaluate_model,
    keep_choice,
    keep_model,
    leave_report,
    leave_result,
    standing_of_original,
    trained,
)
from lrf_optuna.plans.front import hypervolume_history, pareto_front
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_cache import cache_folder as place_of
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import is_flat, search_front
from lrf_optuna.search.workers import WorkerPool
from lrf_optuna.selection.accuracy import Accuracy, accuracy_on_validation, considered, glanced
from lrf_optuna.selection.choose import choose_point
from lrf_optuna.selection.sequential_refit import PlanRefits, corrections_of
from lrf_optuna.storage.database import sqlite_file
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.finetune import finetune

log = logging.getLogger(__name__)
PHASES = ("load", "prepare", "search", "pick", "build", "measure", "tune", "report")


@dataclass
class Run:
    """One study with its model, data and folder; steps are methods, what they need is made on first use."""

    spec: StudySpec
    folder: Path
    model: Any
    data: Data
    progress: Progress = SILENT
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Phase -> seconds that it took; their sum is about the time of the whole run."""
    made: Any = None
    """The model that `finish` built or tuned; None where there was nothing to do."""

    @classmethod
    def open(
        cls,
        spec: StudySpec,
        folder: Path,
        *,
        model: Any = None,
        data: Data | None = None,
        progress: Progress = SILENT,
        started: float | None = None,
    ) -> Run:
        """The run of `spec` in `folder`; model and data are loaded where they are not given.

        `started`: the `time.perf_counter()` from which on the phase `load` is counted; now where it is not given.
        Raises LrfError for whatever does not exist or does not fit, before anything is written.
        """
        started = time.perf_counter() if started is None else started
        check_names(spec)
        url, path, seed = spec.search.storage or default_url(folder), spec.model.path, spec.search.seed
        database = sqlite_file(url)
        for place in (folder, database.parent) if database else (folder,):
            check_folder(place)
        StudyStore.check(url, spec.name, words_of(spec))
        if path.startswith("zoo:") and model is None:
            data = data or load_data(spec.data, seed)
            StudyStore.check(url, spec.name, data_word(spec, data))  # before the net of other images is replaced
            model = trained(path, folder, data, seed, progress)
        elif model is None:
            model = load_model(path)
        check_can_be_copied(model)
        model = split_separable(model)
        shape, classes = describe_input(model)
        data = data or load_data(spec.data, seed, shape, classes)
        for note in data.notes:
            progress.say(note)
        work = cls(spec, folder, model, data, progress)
        work.seconds["load"] = time.perf_counter() - started
        return work

    @classmethod
    def resume(cls, found: ExistingStudy, spec: StudySpec, progress: Progress = SILENT) -> Run:
        """The run of a study that is there, with `spec` for now: the study keeps the one that it was searched with.

        Raises LrfError where its model or data are no longer what they were.
        """
        work = cls.open(spec, found.folder, progress=progress)
        StudyStore.check(found.record.url, found.record.name, work.question())
        work.record = found.record
        return work

    @cached_property
    def inventory(self) -> Inventory:
        """Every layer of the model."""
        return find_sites(self.model, tuple(self.data.train.pixels.shape[1:]))

    @cached_property
    def calibration(self) -> np.ndarray[Any, Any]:
        """Raw calibration images: of the training part, by seed."""
        return self.data.calibration(self.spec.search.calibration, self.spec.search.seed).pixels

    @cached_property
    def proxy(self) -> Proxy:
        """The proxy, fitted to the calibration images."""
        images, cache = self.data.preprocess(self.calibration), place_of(self.spec.search.cache)
        with self.timed("prepare"):
            how = scoring(self.spec.search)
            return Proxy(self.model, images, inventory=self.inventory, cache=cache, progress=self.progress, **how)

    @cached_property
    def table(self) -> OptionTable:
        """The options of every layer."""
        proxy = self.proxy
        with self.timed("prepare"):
            return proxy.table(self.spec.search.keep, self.progress)

    @cached_property
    def record(self) -> StudyStore:
        """The study on disk, new or resumed."""
        return StudyStore.open(
            self.url,
            self.spec.name,
            objectives=self.spec.search.objectives,
            question=self.question(),
            spec=self.spec.model_dump_json(exclude={"search": {"storage"}}),
        )

    @property
    def url(self) -> str:
        """Where the study is."""
        return self.spec.search.storage or default_url(self.folder)

    def question(self) -> dict[str, str]:
        """What the study is about: a study of the same name with another question is refused."""
        return study_identity(self.spec, self.data, self.model, self.inventory)

    def search(self) -> list[Candidate]:
        """Every candidate, after as many further trials as the spec asks for."""
        asked = self.spec.search
        with self.timed("load"):
            found = self.record.candidates()
        if len(found) >= asked.trials or (
            asked.stop_when_flat and is_flat(hypervolume_history(found), asked.population)
        ):
            return found
        if found:
            self.progress.say(f"{len(found)} of {asked.trials} trials are there: going on")
        proxy, table = self.proxy, self.table
        how = searching(asked, self.tolerated())
        with self.timed("search"):
            if asked.workers == 1:
                return search_front(proxy, table, **how, store=self.record, progress=self.progress)
            images = self.data.preprocess(self.calibration)
            team = WorkerPool(asked.workers, self.folder, self.progress)
            team.search(task_of(self.spec, self.url, how), self.model, images, self.record)
            return self.record.candidates()

    def tolerated(self) -> dict[str, float]:
        """The loss that goes with the drop that is asked for, as a limit for the search; nothing where none is."""
        asked = self.spec.search
        if asked.max_drop is None or "loss" not in asked.objectives:
            return {}
        most = tolerated(asked.max_drop, self.table, self.accuracy, self.corrections)
        self.progress.say(f"a drop of {asked.max_drop:g} points goes with a loss of about {most:.4f}")
        return {"loss": most}

    def choose(self, points: Sequence[Candidate]) -> tuple[Candidate, str]:
        """One point off the front, and why, as the spec asks."""
        asked = self.spec.search
        if asked.by == "loss" and asked.max_drop is None:
            return choose_point(points, targets=asked.wanted, progress=self.progress)
        return self.picked(points, asked.wanted, asked.max_drop)

    def picked(
        self, points: Sequence[Candidate], targets: Mapping[str, float], max_drop: float | None = None
    ) -> tuple[Candidate, str]:
        """One point off the front by its measured accuracy, and why."""
        return choose_point(
            points,
            targets=targets,
            max_drop=max_drop,
            accuracy=self.accuracy,
            built=self.corrections,
            glance=self.accuracy.glance,
            considered=considered(self.accuracy),
            glanced=glanced(self.accuracy),
            progress=self.progress,
        )

    @cached_property
    def accuracy(self) -> Accuracy:
        """The accuracy of plans on validation images, as they were scored."""
        return accuracy_on_validation(self.proxy, self.data, self.unscored, self.spec.search.seed, self.progress)

    @cached_property
    def corrections(self) -> PlanRefits:
        """The accuracy of plans as they would be built, and what that is."""
        return corrections_of(self.accuracy, self.data, self.unscored, self.progress)

    @property
    def unscored(self) -> np.ndarray[Any, Any]:
        """The raw calibration images that layers are fitted to."""
        return self.calibration[len(self.proxy) :]

    def build(self, chosen: Candidate) -> Any:
        """The chosen point as a model."""
        with self.timed("build"):
            corrected = self.corrections.of(chosen.plan)
            return build(self.model, self.proxy, chosen.plan, corrected)

    def tune(self, built: Any) -> tuple[Any, int]:
        """The model after one fine-tune, in place, and the number of passes."""
        with self.timed("tune"):
            tuned = finetune(
                built, self.model, self.data, self.spec.tune, seed=self.spec.search.seed, progress=self.progress
            )
        log.info("fine-tuned at the rate %g: validation accuracy %s", tuned.rate, tuned.val_accuracy)
        return tuned.model, tuned.epochs

    def standing(self, model: Any, macs: int, file: Path | None = None, epochs: int | None = None) -> Evaluation:
        """A network's size and accuracies."""
        with self.timed("measure"):
            return evaluate_model(model, self.data, macs, file, epochs, self.progress)

    def made_by(self, chosen: Candidate, tuned: bool) -> str:
        """A digest of all that decides what `model.keras` is, tuned or only built."""
        labels = [part.labels for part in (self.data.train, self.data.val, self.data.test)]
        recipe = self.spec.tune.model_dump_json() if tuned else ""
        return digest(chosen.plan.to_json(), str(self.question()), self.data.augment, recipe, *labels)

    def finish(self, candidates: Sequence[Candidate], choice: tuple[Candidate, str] | None = None) -> Result:
        """Build and tune the given choice, or else the one that the spec asks for, and write what a run leaves.

        Where the folder has just that model already, nothing is made again.
        """
        points, asked = pareto_front(candidates), self.asked(candidates)
        with self.timed("pick"):
            chosen, why = choice or self.chosen(points, asked) or self.choose(points)
        self.progress.say(f"trial {chosen.trial}: {why}")
        keep_choice(self.folder, self.spec.name, chosen, why, "" if choice else asked)
        earlier = self.earlier(chosen, tuned=bool(self.spec.tune.epochs))
        if earlier and earlier.trials == len(candidates):
            self.progress.say("nothing to do: the model of this point is there")
            return earlier
        result = self.result(candidates, chosen, why)
        macs = plan_counts(self.inventory, chosen.plan)[1]
        untuned = self.earlier(chosen, tuned=False)
        if untuned:
            built, result.built = load_model(str(self.folder / MODEL)), untuned.built
        else:
            built = self.build(chosen)
            result.built = self.standing(built, macs, self.keep_model(built))
        if self.spec.tune.epochs:
            tuned, epochs = self.tune(built)
            result.tuned = self.standing(tuned, macs, self.keep_model(tuned), epochs)
        result.seconds = dict(self.seconds)
        with self.timed("report"):
            leave_report(self.folder, self.record, candidates, points, result, self.progress)
        result.seconds = dict(self.seconds)
        leave_result(self.folder, result)
        return result

    def asked(self, candidates: Sequence[Candidate]) -> str:
        """A digest of all that decides which point is chosen."""
        search = self.spec.search
        way = str((len(candidates), search.wanted, search.max_drop, search.by))
        return digest(self.spec.name, way, str(self.question()), self.data.augment, self.data.val.labels)

    def chosen(self, points: Sequence[Candidate], asked: str) -> tuple[Candidate, str] | None:
        """The point that an earlier run chose for just what is asked, if plan.json has it still."""
        found = answered(self.folder, asked)
        return next(((point, found[2]) for point in points if found and found[:2] == (point.trial, point.costs)), None)

    def earlier(self, chosen: Candidate, tuned: bool) -> Result | None:
        """The result of an earlier run that made just this model, if it is there."""
        return earlier(self.folder, self.made_by(chosen, tuned))

    def keep_model(self, model: Any) -> Path:
        """Write model.keras, and keep the model for who called."""
        self.made = model
        return keep_model(self.folder, model)

    def result(self, candidates: Sequence[Candidate], chosen: Candidate, why: str) -> Result:
        """The result so far, before anything is built."""
        macs = self.inventory.macs
        with self.timed("measure"):
            original = standing_of_original(self.folder, self.model, self.data, macs, self.progress)
        return Result(
            self.spec.name,
            len(candidates),
            len({candidate.plan for candidate in candidates}),
            len(self.calibration),
            dict(self.seconds),
            original,
            chosen,
            why,
            layers=parts_of(self.inventory, chosen.plan),
            made_by=self.made_by(chosen, tuned=bool(self.spec.tune.epochs)),
        )

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to a phase; the seconds of a phase inside the block count for that phase alone."""
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - before
            self.seconds[phase] += time.perf_counter() - start - inside
