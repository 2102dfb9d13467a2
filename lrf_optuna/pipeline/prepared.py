"""A study that is ready for its steps: model and data are loaded, and what follows from them is computed once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.inventory import Inventory, find_sites
from lrf_optuna.pipeline.identity import study_identity
from lrf_optuna.pipeline.inputs import GivenData, load_inputs
from lrf_optuna.pipeline.run_folder import ExistingStudy, RunFolder
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_cache import cache_folder
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.accuracy import Accuracy, accuracy_on_validation
from lrf_optuna.selection.sequential_refit import PlanRefits, plan_refits
from lrf_optuna.storage.study import StudyStore

PHASES = ("load", "prepare", "search", "pick", "build", "measure", "tune", "report")
"""The phases of a run, in order, by the names that result.json has for their seconds."""
PROXY_KEYS = {"methods", "objectives", "similarity", "maps"}
"""Fields of `SearchSpec` that are arguments of `Proxy`."""


@dataclass
class PreparedStudy:
    """One study with its model, data and folder; everything that its steps need is computed on first use."""

    spec: StudySpec
    folder: RunFolder
    model: Any
    data: Data
    progress: Progress = SILENT
    force: bool = False
    """Whether an untuned model may replace a tuned one."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Phase -> seconds that it took; their sum is about the time of the whole run."""

    @classmethod
    def open(
        cls,
        spec: StudySpec,
        folder: Path,
        *,
        model: Any = None,
        data: GivenData = None,
        progress: Progress = SILENT,
        started: float | None = None,
    ) -> Self:
        """The run of `spec` in `folder`; model and data are loaded where they are not given.

        `started`: the `time.perf_counter()` from which on the phase `load` is counted; now where it is not given.
        Raises LrfError for what does not exist or does not fit, before anything is written.
        """
        started = time.perf_counter() if started is None else started
        place = RunFolder(folder)
        model, data = load_inputs(spec, folder, spec.search.storage or place.url, model, data, progress)
        run = cls(spec, place, model, data, progress)
        run.seconds["load"] = time.perf_counter() - started
        return run

    @classmethod
    def resume(
        cls,
        found: ExistingStudy,
        spec: StudySpec,
        progress: Progress = SILENT,
        *,
        model: Any = None,
        data: GivenData = None,
    ) -> Self:
        """The run of a study that is there, with `spec` for now: the study keeps the one that it was searched with.

        Raises LrfError where its model or data are no longer what they were.
        """
        run = cls.open(spec, found.folder.path, model=model, data=data, progress=progress)
        StudyStore.check(found.record.url, found.record.name, run.identity)
        run.record = found.record
        return run

    @cached_property
    def inventory(self) -> Inventory:
        """Every layer of the model."""
        return find_sites(self.model, tuple(self.data.train.pixels.shape[1:]))

    @cached_property
    def calibration(self) -> np.ndarray[Any, Any]:
        """Raw calibration images: of the training part, by seed."""
        return self.data.calibration(self.spec.search.calibration, self.spec.search.seed).pixels

    @property
    def unscored(self) -> np.ndarray[Any, Any]:
        """The raw calibration images that layers are fitted to."""
        return self.calibration[len(self.proxy.scored) :]

    @cached_property
    def identity(self) -> dict[str, str]:
        """What the study is about: a study of the same name with another identity is refused."""
        return study_identity(self.spec, self.data, self.model, self.inventory)

    @cached_property
    def record(self) -> StudyStore:
        """The study on disk, new or resumed."""
        return StudyStore.open(
            self.spec.search.storage or self.folder.url,
            self.spec.name,
            objectives=self.spec.search.objectives,
            identity=self.identity,
            spec=self.spec.model_dump_json(exclude={"search": {"storage"}}),
        )

    @cached_property
    def proxy(self) -> Proxy:
        """The proxy, fitted to the calibration images."""
        images, cache = self.data.preprocess(self.calibration), cache_folder(self.spec.search.cache)
        options = self.spec.search.model_dump(include=PROXY_KEYS)
        with self.timed("prepare"):
            return Proxy(self.model, images, inventory=self.inventory, cache=cache, progress=self.progress, **options)

    @cached_property
    def table(self) -> OptionTable:
        """The options of every layer."""
        proxy = self.proxy
        with self.timed("prepare"):
            return proxy.table(self.spec.search.keep, self.progress)

    @cached_property
    def accuracy(self) -> Accuracy:
        """The accuracy of plans on validation images, as they were scored."""
        return accuracy_on_validation(self.proxy, self.data, self.unscored, self.spec.search.seed, self.progress)

    @cached_property
    def refits(self) -> PlanRefits:
        """The accuracy and the kernels of plans as they would be built."""
        return plan_refits(self.accuracy, self.data, self.unscored, self.progress)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to a phase; the seconds of a phase inside the block count for that phase alone."""
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - before
            self.seconds[phase] += time.perf_counter() - start - inside
