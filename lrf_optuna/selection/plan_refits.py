"""What becomes of a plan without training: as it was scored, or refitted in layer order, whichever is better.

The one with the better metric on validation images is taken, and where these do not tell, the one with outputs closer
to the original's. It gets BatchNorm statistics that are re-estimated, where that helps. No network is built for it:
what is measured is what `build` then makes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from cachetools import LRUCache, cachedmethod

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.arrays import Images, map_inputs
from lrf_optuna.data.tasks import metric_name
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.patches import MOST_ROWS
from lrf_optuna.models.partial_forward import TracedPass, traced
from lrf_optuna.plans.plan import Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.fitted_kernels import nbytes
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED
from lrf_optuna.selection.measurement import Measurement
from lrf_optuna.selection.sequential_refit import Fitted, RefitSettings, SequentialRefit
from lrf_optuna.selection.validation import Statistics, Validation

log = logging.getLogger(__name__)
REMEMBERED_BYTES = 2**29
"""Bytes of stage kernels that are remembered."""


@dataclass(frozen=True, slots=True)
class RefitResult:
    """The best that is known of a plan before any training.

    `stages`: site -> stage kernels; `statistics`: of the BatchNorm layers, where they are not the original's;
    `metric`: on validation images; `closeness`: the similarity of its outputs to the original's.
    """

    stages: Fitted
    statistics: Statistics
    metric: float
    closeness: float
    refitted: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its stage kernels."""
        return sum(map(nbytes, self.stages.values()))


SKETCH = RefitSettings(images=256, rows=MOST_ROWS // 4, effort=1, most_macs=2.5e12)
FULL_REFIT = RefitSettings()


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How exactly plans are measured at the stages of a choice."""

    scored_images: int = 500
    """Validation images for plans as they were scored: enough to tell networks that lose much."""
    sketched_images: int = 1000
    """The same for plans that were refitted to few images."""
    sketch: RefitSettings = SKETCH
    """The refit to few images."""
    refit: RefitSettings = FULL_REFIT
    """The refit that is built."""
    pulls: tuple[float, ...] = (0.2, 1.0, 3.0)
    """Weights of staying with the original's kernel, tried on few images as long as the logits come closer. The first
    is best at small budgets (vgg6 at 10 %: cosine .818, .812, .790); vgg6 at 30 % and MobileNet need more."""
    standard_errors: float = 2
    """Of two networks the one with the better metric is taken where it is ahead by as many standard errors."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """What was measured of a network: its metric on validation images, and how close its outputs are."""

    measurement: Measurement
    closeness: float

    def to_list(self) -> list[Any]:
        """The metric, those without each fold, the images and the closeness, ready for JSON."""
        found = self.measurement
        return [found.metric, [float(one) for one in found.without_fold], found.images, self.closeness]

    @classmethod
    def of_list(cls, kept: Sequence[Any]) -> StageResult:
        """The result of `to_list`."""
        metric, without_fold, images, closeness = kept
        return cls(Measurement(metric, np.array(without_fold), images), closeness)


@dataclass
class PlanRefits:
    """Plan -> its metric as it would be built; `result` gives its kernels, and `measurement` is for a choice.

    `validation` measures on validation images; `images`: gives preprocessed images `(n, ...)` that chains are refitted
    to. `validation_was_fitted`: whether validation images may be among these, so that a refit looks better on
    them than it is. A result depends on the plan alone, not on the plans before it: after the memory of kernels is
    full, a plan gets the same kernels again.
    """

    validation: Validation
    images: Callable[[], Images]
    progress: Progress = SILENT
    validation_was_fitted: bool = False
    settings: StageSettings = StageSettings()
    results: dict[tuple[Plan, int], StageResult] = field(default_factory=dict)
    """What was measured of a plan at a stage."""
    latest: LRUCache[Plan, RefitResult] = field(
        default_factory=lambda: LRUCache(REMEMBERED_BYTES, getsizeof=lambda one: one.nbytes)
    )

    def __call__(self, plan: Plan) -> float:
        """The metric of a plan as it would be built."""
        return self.measurement(plan, BUILT).metric

    @property
    def name(self) -> str:
        """The name of the metric."""
        return metric_name(self.validation.data.tasks)

    @property
    def compared_name(self) -> str:
        """The name of the metric with the images that plans are compared on."""
        return self.validation.data.compared_metric(self.name)

    def measurement(self, plan: Plan, stage: int) -> Measurement:
        """The metric of a plan's network at a stage of `choose_point`."""
        if not plan.changed:
            return self.validation.original(self.count(stage))
        return self.at_stage(plan, stage).measurement

    def knows(self, plan: Plan, stage: int) -> bool:
        """Whether the metric of a plan's network at a stage is known."""
        return (plan, stage) in self.results

    def closeness(self, plan: Plan, stage: int) -> float:
        """The similarity of a plan's outputs at a stage to the original's."""
        return self.at_stage(plan, stage).closeness if plan.changed else 1.0

    def count(self, stage: int) -> int:
        """Validation images of a stage."""
        return (self.settings.scored_images, self.settings.sketched_images, len(self.validation.images))[stage]

    def at_stage(self, plan: Plan, stage: int) -> StageResult:
        """What is measured of a plan at a stage; before the last one BatchNorm statistics are the original's."""
        if (plan, stage) not in self.results:
            proxy = self.validation.proxy
            if stage == BUILT:
                self.result(plan)
            elif stage == SCORED:
                self.results[plan, stage] = self.measured(proxy.dense_kernels(plan), self.count(stage))
            else:
                kernels = self.sketched(plan, self.settings.pulls[0])
                self.results[plan, stage] = self.measured(kernels, self.count(stage))
        return self.results[plan, stage]

    def sketched(self, plan: Plan, pull: float) -> dict[str, Array]:
        """What the kernels of a plan compose to, refitted to few images."""
        proxy = self.validation.proxy
        return composed(proxy, plan, self.sketch(plan, stage_kernels(proxy, plan), pull))

    def pull(self, plan: Plan) -> float:
        """The pull that brings the logits of a plan refitted to few images closest to the original's."""
        first, *others = self.settings.pulls
        best, closest = first, self.closeness(plan, SKETCHED)
        for pull in others:
            closeness = self.measured(self.sketched(plan, pull), self.count(SKETCHED)).closeness
            if closeness <= closest:
                break
            best, closest = pull, closeness
        return best

    def measured(self, kernels: Mapping[str, Array], count: int, statistics: Statistics = None) -> StageResult:
        """What `count` validation images say of a network; where they were fitted, closeness is of scoring images."""
        logits = self.validation.logits(kernels, count, statistics)
        closeness = self.validation.similarity(logits)
        if self.validation_was_fitted:
            closeness = self.validation.closeness(kernels, statistics)
        return StageResult(self.validation.measured(logits), closeness)

    @cachedmethod(lambda self: self.latest, key=lambda _, plan: plan)
    def result(self, plan: Plan) -> RefitResult:
        """The better one of a plan's two networks, with the BatchNorm statistics that help it."""
        proxy, stages = self.validation.proxy, stage_kernels(self.validation.proxy, plan)
        kernels, refitted = proxy.dense_kernels(plan), False
        statistics = self.validation.statistics(kernels)
        if plan.changed:
            fitted, count = self.refit(plan, stages, self.pull(plan), self.progress), self.count(SKETCHED)
            other = composed(proxy, plan, fitted)
            new = self.validation.statistics(other)
            refitted = self.improves(self.measured(other, count, new), self.measured(kernels, count, statistics))
            if refitted:
                stages, kernels, statistics = fitted, other, new
        found = self.measured(kernels, self.count(BUILT), statistics)
        self.results[plan, BUILT] = found
        best = RefitResult(stages, statistics, found.measurement.metric, found.closeness, refitted)
        log.info("refitted %s: %s %.4f, similarity %.5f", refitted, self.name, best.metric, best.closeness)
        return best

    def improves(self, refitted: StageResult, scored: StageResult) -> bool:
        """Whether a refit has a clearly better metric, or no clearly worse one and outputs closer to the original's.

        Where validation images were fitted, the outputs for the scoring images have to be closer in any case.
        """
        gain, error = refitted.measurement.difference(scored.measurement)
        clear = abs(gain) > self.settings.standard_errors * error
        closer = refitted.closeness > scored.closeness
        return bool(closer and (gain > 0 or not clear)) or bool(clear and gain > 0 and not self.validation_was_fitted)

    @cached_property
    def graph(self) -> TracedPass | None:
        """The network's graph, which all refits share."""
        return traced(self.validation.proxy.network, map_inputs(self.images(), lambda array: array[:1]))

    @cached_property
    def sketch(self) -> SequentialRefit:
        """The refit to few images."""
        return SequentialRefit(self.validation.proxy, self.images(), self.graph, self.settings.sketch)

    @cached_property
    def refit(self) -> SequentialRefit:
        """The refit that is built."""
        return SequentialRefit(self.validation.proxy, self.images(), self.graph, self.settings.refit)


def stage_kernels(proxy: Proxy, plan: Plan) -> Fitted:
    """Site -> stage kernels as the plan was scored with them."""
    return {site: proxy.kernels.stages(site, choice) for site, choice in plan}


def composed(proxy: Proxy, plan: Plan, stages: Fitted) -> dict[str, Array]:
    """Site -> what the stage kernels of a plan compose to, as Keras lays it out, for the sites that it changes."""
    return {
        site: proxy.to_keras_layout(site, compose(proxy.sites[site].op, choice, stages[site]))
        for site, choice in plan.changed.items()
    }


def refits_on_validation(validation: Validation, unscored: Images, progress: Progress = SILENT) -> PlanRefits:
    """Plan -> its metric as it would be built; chains are refitted to the raw images `unscored`."""
    data = validation.data
    fitted = bool(data.validation_is_small)
    return PlanRefits(validation, lambda: data.preprocess(unscored), progress, validation_was_fitted=fitted)
