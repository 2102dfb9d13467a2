"""One fine-tune of one model: a learning rate found from the data, and the best weights on validation images.

After a factorization the learning rate decides more than anything else. So a few rates train for a short while from the
same weights, and the largest of the good ones trains the model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from math import isfinite
from typing import Any

import keras
import numpy as np

from lrf_optuna.data.arrays import Values, count_of
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.errors import LrfError
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.sections import TuneSpec
from lrf_optuna.training.distillation import TrainingStep, training_step
from lrf_optuna.training.losses import LossFunction, head_losses
from lrf_optuna.training.recipe import DEFAULT, Recipe

log = logging.getLogger(__name__)
DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
"""The layers that drop values at a `rate`; the spatial ones are subclasses of Dropout."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The learning rate of a fine-tune, and the metric on validation images before it and after each pass."""

    rate: float
    val_metric: tuple[float, ...]


def check_trainable(model: Any) -> None:
    """Raises LrfError where nothing in a model is trainable."""
    if not model.trainable_variables:
        raise LrfError(
            "nothing in the model is trainable, every layer is frozen: set layer.trainable = True, "
            "or give --no-tune to leave the smaller model untuned"
        )


def finetune(
    model: Any,
    teacher: Any,
    data: Data,
    spec: TuneSpec,
    *,
    recipe: Recipe = DEFAULT,
    losses: Mapping[str, LossFunction] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Tuned:
    """Fine-tune `model` in place, `spec.epochs` passes over `data.train`, and leave it with its best weights.

    The best are those with the best metric on validation images; the weights from before tuning take part. `losses`:
    output -> the user's own loss. The result follows from the seed. Raises LrfError where nothing in the model is
    trainable.
    """
    check_trainable(model)
    run = FineTune(model, teacher, data, spec, recipe, losses or {}, seed)
    probes = len(recipe.rates[spec.optimizer]) * recipe.probe_steps(run.total) if spec.rate == "auto" else 0
    metrics = [run.evaluator.metric(data, data.val)]
    best = model.get_weights()
    with without_dropout(model), progress.task("fine-tuning", run.total + probes) as step:
        rate = choose_rate(run.probe_losses(step), recipe, progress) if spec.rate == "auto" else spec.rate
        train = run.trainer(rate, run.total)
        for epoch in range(spec.epochs):
            run.train(train, epoch, run.steps, step)
            metrics.append(run.evaluator.metric(data, data.val))
            log.info("epoch %d of %d: validation metric %.4f", epoch + 1, spec.epochs, metrics[-1])
            step(0, f"epoch {epoch + 1}: validation {metrics[-1]:.2%}")
            if metrics[-1] > max(metrics[:-1]):
                best = model.get_weights()
    model.set_weights(best)
    return Tuned(float(rate), tuple(metrics))


class FineTune:
    """The parts of one fine-tune: the model, its teacher, the data, and how the model is trained and measured."""

    def __init__(
        self,
        model: Any,
        teacher: Any,
        data: Data,
        spec: TuneSpec,
        recipe: Recipe,
        losses: Mapping[str, LossFunction],
        seed: int,
    ) -> None:
        self.model, self.teacher, self.data = model, teacher, data
        self.spec, self.recipe, self.seed = spec, recipe, seed
        self.steps = max(1, len(data.train) // spec.batch)
        self.total = self.steps * spec.epochs
        self.evaluator = Evaluator(model, data.preprocess)
        sample = data.train.sample(recipe.scale_images, seed)
        outputs = Evaluator(teacher, data.preprocess).outputs(sample.pixels)
        self.losses = head_losses(self.evaluator.heads, data.tasks, outputs, losses)

    def trainer(self, rate: float, steps: int) -> TrainingStep:
        """The training step of a run of some steps at a rate."""
        optimizer = self.recipe.optimizer(self.spec.optimizer, self.recipe.schedule(rate, steps))
        return training_step(self.model, self.teacher, optimizer, self.losses, self.spec.distil)

    def train(self, train: TrainingStep, epoch: int, steps: int, step: Step, note: str = "") -> None:
        """Train for some steps of an epoch, and report each of them."""
        for x, y in shuffled_batches(self.data, self.spec.batch, self.seed, epoch, steps):
            train(x, y)
            step(1, note)

    def probe_losses(self, step: Step) -> dict[float, float]:
        """Rate -> loss with a sample of validation labels after a short run; the weights stay as they are."""
        sample = self.data.val.sample(self.recipe.probe_images, self.seed)
        steps, start, losses = self.recipe.probe_steps(self.total), self.model.get_weights(), {}
        for rate in self.recipe.rates[self.spec.optimizer]:
            self.train(self.trainer(rate, steps), -1, steps, step, f"trying the rate {rate:g}")
            losses[rate] = self.loss(sample)
            self.model.set_weights(start)
        log.info("validation loss after %d steps by rate: %s", steps, losses)
        return losses

    def loss(self, images: LabeledImages) -> float:
        """The loss with labels, the mean by the tasks' weights; infinite where an output is not finite."""
        outputs, labels = self.evaluator.outputs(images.pixels), self.data.targets(images.labels)
        weights = {name: self.losses[name].task.weight for name in labels}
        each = (w * float(self.losses[name].with_labels(labels[name], outputs[name])) for name, w in weights.items())
        mean = sum(each) / sum(weights.values())
        return mean if isfinite(mean) else float("inf")


def choose_rate(losses: Mapping[float, float], recipe: Recipe, progress: Progress = SILENT) -> float:
    """The largest rate whose loss is about the least; the smallest rate, said in one line, where no loss is finite."""
    least = min(losses.values())
    if not isfinite(least):
        rate = min(losses)
        progress.say(f"Fine-tuning diverged at every learning rate that was tried; the smallest, {rate:g}, trains on.")
        return rate
    return max(rate for rate, loss in losses.items() if loss <= recipe.loss_tolerance * least)


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """No dropout while the block runs: its noise keeps a network of little capacity from its teacher's logits."""
    with ExitStack() as stack:
        for _, layer in walk_layers(model):
            if isinstance(layer, DROPOUT):
                stack.callback(setattr, layer, "rate", layer.rate)
                layer.rate = 0.0
        yield


def shuffled_batches(
    data: Data, size: int, seed: int, epoch: int, steps: int
) -> Iterator[tuple[Any, dict[str, Values]]]:
    """`steps` shuffled and augmented batches of `size`, the same for the same seed and epoch."""
    size = min(size, len(data.train))
    turns = (data.epoch(size, np.random.default_rng([seed, epoch + 1, turn])) for turn in count())
    return islice(((x, y) for turn in turns for x, y in turn if count_of(x) == size), steps)
