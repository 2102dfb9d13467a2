"""All weights of a built network refined together, without labels, so that it comes closer to the original.

A refit in layer order fits one layer after the other. Here stages, biases and BatchNorm scales move together, and both
the outputs and all feature maps in between are compared with the original's (AA-SVD, arXiv 2604.02119).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from lrf_optuna.data.arrays import Values, map_inputs
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.training.batches import Batches
from lrf_optuna.training.distillation import Distillation, TrainingStep, training_step
from lrf_optuna.training.losses import HeadLoss, head_losses
from lrf_optuna.training.map_pairs import map_pairs

log = logging.getLogger(__name__)
PASSES = 4
"""Passes of the original that a training step costs: one of the teacher, and at most three of the student."""


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a built network is calibrated. Figures are of benchmarks/quality/calibrate.py."""

    images: int = 4096
    """Images that it is trained on at most."""
    held_out: int = 512
    """Images at most that decide which weights are kept."""
    held_out_share: float = 0.2
    """The share of few images that is held out."""
    steps: int = 160
    """Training steps."""
    batch: int = 128
    """Images of a step."""
    most_macs: float = 1e13
    """Multiply-accumulates of all steps at most, some minutes: large networks have smaller batches and fewer steps."""
    smallest_batch: int = 16
    """Images of a step at least: the gradient of fewer is noise."""
    fewest_steps: int = 20
    """Steps at least: in fewer the learning rate hardly rises and falls."""
    rate: float = 2e-4
    """Learning rate."""
    warmup_share: float = 0.1
    """The share of the steps in which the rate rises from a tenth, while the optimizer's averages are still noise."""
    clip_norm: float = 1.0
    """The largest norm of a variable's gradient, as in AA-SVD."""
    checks: int = 4
    """Times that the held-out images are looked at."""
    outputs_weight: float = 1.0
    """Weight of the distance to the original's outputs."""
    map_weight: float = 1.0
    """Weight of the feature maps beside the outputs."""

    def within(self, macs: int) -> CalibrationSettings:
        """These settings with batches and steps that a network of so many MACs for an image can afford."""
        images = self.most_macs / (PASSES * max(1, macs))
        batch = int(np.clip(images / self.steps, min(self.smallest_batch, self.batch), self.batch))
        steps = int(np.clip(images / batch, min(self.fewest_steps, self.steps), self.steps))
        return replace(self, batch=batch, steps=steps)


DEFAULT = CalibrationSettings()


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The distance to the original's outputs on held-out images, before the first step and at each check."""

    distances: tuple[float, ...]

    @property
    def better(self) -> bool:
        """Whether the weights of any check were closer than the first ones."""
        return min(self.distances) < self.distances[0]


def calibrate(
    model: Any,
    teacher: Any,
    data: Data,
    *,
    settings: CalibrationSettings = DEFAULT,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Calibrated:
    """Bring `model`, in place, closer to `teacher` on augmented training images without their labels.

    It keeps the weights that are closest on images that are not trained on; those from before take part. An interrupt
    leaves the closest so far. The result follows from the seed.
    """
    trained, held_out = parts_of(data.train, settings, seed)
    distance = Distance(model, teacher, data, held_out)
    found, best = [distance()], model.get_weights()
    train = step_of(model, teacher, data, distance, settings)
    batches = Batches(replace(data, train=trained), min(settings.batch, len(trained)), seed)
    marks = {round(settings.steps * (i + 1) / settings.checks) for i in range(settings.checks)}
    try:
        with progress.task("calibrating", settings.steps) as step:
            for done, (x, _, _) in enumerate(batches.epoch(0, settings.steps), start=1):
                train(x, {})
                step(1)
                if done in marks:
                    found.append(distance())
                    step(0, f"distance {found[-1] / found[0]:.1%} of before")
                    if found[-1] <= min(found):
                        best = model.get_weights()
    finally:
        model.set_weights(best)
    log.info("distance to the original's outputs while calibrating: %s", found)
    return Calibrated(tuple(found))


def parts_of(images: LabeledImages, settings: CalibrationSettings, seed: int) -> tuple[LabeledImages, LabeledImages]:
    """The images that are trained on, and those that are held out."""
    order = images.order(seed)
    held = max(1, min(settings.held_out, int(settings.held_out_share * len(order))))
    return images.take(np.sort(order[held : held + settings.images])), images.take(np.sort(order[:held]))


def step_of(model: Any, teacher: Any, data: Data, distance: Distance, settings: CalibrationSettings) -> TrainingStep:
    """The training step: BatchNorm keeps its statistics, and feature maps count in units of the outputs' variances."""
    image = data.preprocess(map_inputs(data.train.pixels, lambda array: array[:1]))
    goal = Distillation(
        distance.losses,
        settings.outputs_weight,
        tuple(map_pairs(model, teacher, image)) if settings.map_weight else (),
        settings.map_weight * distance.of_means,
        batch_statistics=False,
    )
    warmup = max(1, round(settings.warmup_share * settings.steps))
    rate = keras.optimizers.schedules.CosineDecay(
        settings.rate / 10, max(1, settings.steps - warmup), warmup_target=settings.rate, warmup_steps=warmup
    )
    return training_step(model, teacher, keras.optimizers.Adam(rate, clipnorm=settings.clip_norm), goal)


class Distance:
    """The distance of a model's outputs to the teacher's on some images, as `HeadLoss.to_teacher` has it.

    `of_means`: the distance of a model that gives the mean of the teacher's outputs for every image.
    """

    def __init__(self, model: Any, teacher: Any, data: Data, images: LabeledImages) -> None:
        self.images, self.evaluator = images, Evaluator(model, data.preprocess)
        self.goals: dict[str, Values] = Evaluator(teacher, data.preprocess).outputs(images.pixels)
        self.losses: dict[str, HeadLoss] = head_losses(self.evaluator.heads, data.tasks, self.goals)
        means = {name: np.broadcast_to(goal.mean(axis=0), goal.shape) for name, goal in self.goals.items()}
        self.of_means = self.mean(means)

    def __call__(self) -> float:
        """The distance of the model as it is now."""
        return self.mean(self.evaluator.outputs(self.images.pixels))

    def mean(self, outputs: Mapping[str, Values]) -> float:
        """The distance of outputs, the mean by the weights of their tasks; infinite where they are not finite."""
        weights = {name: loss.task.weight for name, loss in self.losses.items()}
        each = (w * float(self.losses[name].to_teacher(outputs[name], self.goals[name])) for name, w in weights.items())
        found = sum(each) / sum(weights.values())
        return found if np.isfinite(found) else float("inf")
