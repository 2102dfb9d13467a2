"""All weights of a built network refined together, without labels, so that it comes closer to the original.

A refit in layer order fits one layer after the other. Here stages, biases and BatchNorm scales move together, and both
the outputs and all feature maps in between are compared with the original's (AA-SVD, arXiv 2604.02119).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values, map_inputs
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.training.batches import Batches
from lrf_optuna.training.distillation import Distillation, Trainer
from lrf_optuna.training.losses import HeadLoss, head_losses
from lrf_optuna.training.map_pairs import map_pairs
from lrf_optuna.training.memory import enough_memory
from lrf_optuna.training.muon import Muon, matrices_of
from lrf_optuna.training.recipe import cosine_schedule

log = logging.getLogger(__name__)
PASSES = 4
"""Passes of the original that a training step costs: one of the teacher, and at most three of the student."""


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a built network is calibrated. Figures are of benchmarks/quality/calibrate.py."""

    images: int = 8192
    """Images that it is trained on at most."""
    held_out: int = 512
    """Images at most that decide which weights are kept."""
    held_out_share: float = 0.2
    """The share of few images that is held out."""
    fewest_images: int = 100
    """Training images from which on a network is calibrated: of fewer than 20 held-out images the distance says little.
    A network of digits lost 6 points of test accuracy by a calibration on 20 images."""
    steps: int = 240
    """Training steps: about two minutes for ResNet-20 on two cores."""
    batch: int = 128
    """Images of a step."""
    most_macs: float = 1e13
    """Multiply-accumulates of all steps at most, some minutes: large networks have smaller batches and fewer steps."""
    smallest_batch: int = 16
    """Images of a step at least: the gradient of fewer is noise."""
    fewest_steps: int = 20
    """Steps at least: in fewer the learning rate hardly rises and falls."""
    rate: float = 4e-3
    """Learning rate that is tried first. cnn_fashion at 15 %: 90.6, 90.5 and 90.1 % with 4e-3, 2e-3 and 5e-4."""
    least_rate: float = 1e-4
    """Half the rate is tried after a failure, down to this one, which is the rate of AA-SVD."""
    most_growth: float = 1.25
    """Times the first distance that the one at the first check may be. The best rate of ResNet-20 at 25 %, 1e-3, first
    grows it by 1.22, and a rate that wrecks the network by 15."""
    warmup_share: float = 0.1
    """The share of the steps in which the rate rises from a tenth, while the optimizer's averages are still noise."""
    clip_norm: float = 1.0
    """The largest norm of a variable's gradient, as in AA-SVD."""
    checks: int = 8
    """Times that the held-out images are looked at."""
    outputs_weight: float = 1.0
    """Weight of the distance to the original's outputs."""
    map_weight: float = 10.0
    """Weight of the feature maps beside the outputs: with 10 instead of 1 the distance hardly grows at first."""

    def within(self, macs: int) -> CalibrationSettings:
        """These settings with batches and steps that a network of so many MACs for an image can afford."""
        images = self.most_macs / (PASSES * max(1, macs))
        batch = int(np.clip(images / self.steps, min(self.smallest_batch, self.batch), self.batch))
        steps = int(np.clip(images / batch, min(self.fewest_steps, self.steps), self.steps))
        return replace(self, batch=batch, steps=steps)


DEFAULT = CalibrationSettings()


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The learning rate, and the distances to the original on held-out images: at the start and at each check."""

    rate: float
    distances: tuple[float, ...]

    @property
    def better(self) -> bool:
        """Whether the weights of any check were closer than the first ones."""
        return min(self.distances) < self.distances[0]


def enough_images(data: Data) -> bool:
    """Whether there are enough training images to calibrate on."""
    return len(data.train) >= DEFAULT.fewest_images


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
    trained, held_out = train_and_held_out(data.train, settings, seed)
    run = Calibration(
        model, teacher, replace(data, train=trained), Distance(model, teacher, data, held_out), settings, seed
    )
    start, rate = [variable.numpy() for variable in model.variables], settings.rate
    try:
        memory = enough_memory(f"a calibration step of {settings.batch} images", "--no-calibrate")
        with memory, progress.task("calibrating", settings.steps) as step:
            while not run.train(rate, step, last=rate / 2 < settings.least_rate):
                rate /= 2
                for variable, value in zip(model.variables, start, strict=True):
                    variable.assign(value)
    finally:
        model.set_weights(run.best)
    log.info("calibrated at the rate %g: distances to the original's outputs %s", rate, run.distances)
    return Calibrated(rate, tuple(run.distances))


class Calibration:
    """One calibration: the weights that are closest so far, and the distances that were measured at the last rate."""

    def __init__(
        self, model: Any, teacher: Any, data: Data, distance: Distance, settings: CalibrationSettings, seed: int
    ) -> None:
        self.model, self.teacher, self.data, self.distance = model, teacher, data, distance
        self.settings, self.best, self.distances = settings, model.get_weights(), [distance()]
        self.batches = Batches(data, min(settings.batch, len(data.train)), seed)
        self.trainer = Trainer(
            model, teacher, Muon(settings.rate, matrices_of(model), clipnorm=settings.clip_norm), self.goal
        )

    def train(self, rate: float, step: Step, last: bool) -> bool:
        """Train at a rate. False where the rate fails by the first check; the `last` rate goes on in any case."""
        settings, first = self.settings, self.distances[0]
        self.trainer.restart(cosine_schedule(rate, settings.steps, settings.warmup_share))
        self.distances = [first]
        marks = [round(settings.steps * (i + 1) / settings.checks) for i in range(settings.checks)]
        for done, (x, _, _) in enumerate(self.batches.epoch(0, settings.steps), start=1):
            self.trainer(x, {})
            step(1)
            if done not in marks:
                continue
            self.check(self.distance())
            step(0, f"least distance to the original {min(self.distances) / first:.1%} of before")
            if done == marks[0] and not last and not self.distances[-1] <= settings.most_growth * first:
                step(-done, f"the learning rate {rate:g} is too large")
                return False
        return True

    def check(self, distance: float) -> None:
        """Keep a distance, and the weights where they are the closest so far."""
        if distance < min(self.distances):
            self.best = self.model.get_weights()
        self.distances.append(distance)

    @property
    def goal(self) -> Distillation:
        """What is learned: BatchNorm keeps its statistics, and maps count in units of the outputs' variances."""
        settings = self.settings
        image = self.data.preprocess(map_inputs(self.data.train.pixels, lambda array: array[:1]))
        return Distillation(
            self.distance.losses,
            settings.outputs_weight,
            maps=tuple(map_pairs(self.model, self.teacher, image)) if settings.map_weight else (),
            map_weight=settings.map_weight * self.distance.of_means,
            batch_statistics=False,
        )


def train_and_held_out(
    images: LabeledImages, settings: CalibrationSettings, seed: int
) -> tuple[LabeledImages, LabeledImages]:
    """The images that are trained on, and those that are held out."""
    order = images.order(seed)
    held = max(1, min(settings.held_out, int(settings.held_out_share * len(order))))
    return images.take(np.sort(order[held : held + settings.images])), images.take(np.sort(order[:held]))


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
