"""What the steps of a study need: each part is computed on first use, and once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import Images, map_inputs
from lrf_optuna.data.dataset import Data
from lrf_optuna.models.inventory import Inventory, find_sites
from lrf_optuna.pipeline.identity import measured_digest, study_identity
from lrf_optuna.pipeline.latencies import check_latency_target, keep_latencies, layer_timer
from lrf_optuna.pipeline.point_metrics import PointMetrics
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.pipeline.stopwatch import Stopwatch
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.disk_cache import cache_folder
from lrf_optuna.scoring.latency import LayerTimer
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.space_limits import SpaceLimits
from lrf_optuna.selection.plan_refits import PlanRefits, refits_on_validation
from lrf_optuna.selection.validation import Validation, validation_of
from lrf_optuna.storage.study import StudyStore

PROXY_KEYS = {"methods", "objectives", "similarity"}
"""Fields of `SearchSpec` that are arguments of `Proxy`."""


@dataclass
class StudyParts:
    """One study with its model, data and folder."""

    spec: StudySpec
    folder: RunFolder
    model: Any
    data: Data
    progress: Progress = SILENT
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    @cached_property
    def inventory(self) -> Inventory:
        """Every layer of the model, within the limits of the study."""
        shapes = map_inputs(self.data.train.pixels, lambda array: tuple(array.shape[1:]))
        multiple = self.timer.rank_multiple() if self.timer and self.spec.search.rank_multiple == "auto" else 1
        found = SpaceLimits.of(self.spec, multiple).apply(find_sites(self.model, shapes))
        if self.timer:
            self.timer.check(found.sites)
        return found

    @cached_property
    def timer(self) -> LayerTimer | None:
        """What gives milliseconds, where these are an objective; None where they are none."""
        return layer_timer(self.spec, self.folder, self.model, self.data, self.progress)

    @cached_property
    def calibration(self) -> Images:
        """Raw calibration images: of the training part, by seed."""
        return self.data.calibration(self.spec.search.calibration, self.spec.search.seed).pixels

    @cached_property
    def identity(self) -> dict[str, str]:
        """What the study is about: a study of the same name with another identity is refused."""
        return study_identity(self.spec, self.data, self.model, self.inventory, self.timer)

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
        with self.stopwatch.timed("prepare"):
            options |= {"inventory": self.inventory, "tasks": self.data.tasks, "cache": cache, "timer": self.timer}
            return Proxy(self.model, images, progress=self.progress, **options)

    @cached_property
    def table(self) -> OptionTable:
        """The options of every layer."""
        proxy = self.proxy
        with self.stopwatch.timed("prepare"):
            table = proxy.table(self.spec.search.keep, self.progress)
        if proxy.latencies:
            check_latency_target(self.spec.search.wanted, table)
            keep_latencies(proxy.latencies, self.folder, self.record, self.progress)
        return table

    @cached_property
    def unscored(self) -> Images:
        """The raw calibration images that layers are fitted to."""
        return map_inputs(self.calibration, lambda array: array[len(self.proxy.scored) :])

    @cached_property
    def validation(self) -> Validation:
        """The metric of plans on validation images, as they were scored."""
        return validation_of(self.proxy, self.data, self.unscored, self.spec.search.seed, self.progress)

    @cached_property
    def point_metrics(self) -> PointMetrics:
        """The metrics of points: those that the study has are known."""
        refits = refits_on_validation(self.validation, self.unscored, self.progress)
        how = str((refits.settings, refits.validation_was_fitted))
        digest = measured_digest(self.spec, self.data, self.identity, self.validation.images, how)
        found = PointMetrics(self.record, refits, digest, self.progress)
        found.recall(self.record.candidates())
        return found

    @property
    def refits(self) -> PlanRefits:
        """The metric and the kernels of plans as they would be built."""
        return self.point_metrics.refits
