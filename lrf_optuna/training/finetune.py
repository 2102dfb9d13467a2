"""One fine-tune of one model: a learning rate found from the data, and the best weights on validation images.

After a factorization the learning rate decides more than anything else. So a few rates train for a short while from the
same weights, and the largest of the good ones trains the model. After every epoch the state can be kept in a file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import isfinite
from typing import Any

import keras
import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.errors import LrfError
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.plans.result import Tuned
from lrf_optuna.progress import SILENT, Progress, Step
from lrf_optuna.sections import TuneSpec
from lrf_optuna.training.batches import Batches
from lrf_optuna.training.checkpoint import Checkpoint, TuningState
from lrf_optuna.training.decisions import LOGITS, Way, choose_way, distilled, kept_epoch, ways_of
from lrf_optuna.training.distillation import Distillation, Trainer
from lrf_optuna.training.losses import LossFunction, head_losses
from lrf_optuna.training.memory import enough_memory
from lrf_optuna.training.recipe import DEFAULT, Recipe

log = logging.getLogger(__name__)
DROPOUT = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
"""The layers that drop values at a `rate`; the spatial ones are subclasses of Dropout."""

OF_THE_RATE = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
"""Callbacks that set the learning rate of an optimizer."""


def check_trainable(model: Any) -> None:
    """Raises LrfError where nothing in a model is trainable."""
    if not model.trainable_variables:
        raise LrfError(
            "nothing in the model is trainable, every layer is frozen: set layer.trainable = True, "
            "or give --no-tune, without --calibrate always, to leave the built model as it is"
        )


def checked_callbacks(callbacks: Any) -> list[Any]:
    """Callbacks of Keras as a list; one alone may stand for it. Raises LrfError for anything else."""
    several = isinstance(callbacks, Iterable) and not isinstance(callbacks, type)
    found = list(callbacks or ()) if several or not callbacks else [callbacks]
    for one in found:
        if not isinstance(one, keras.callbacks.Callback):
            raise LrfError(f"callbacks should be callbacks of Keras, but got {type(one).__name__}")
        if isinstance(one, OF_THE_RATE):
            raise LrfError(f"the fine-tune has a schedule of its own: leave out {type(one).__name__}, and give rate")
    return found


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
    checkpoint: Checkpoint | None = None,
    callbacks: Sequence[Any] = (),
) -> Tuned:
    """Fine-tune `model` in place, `spec.epochs` passes over `data.train` at most, and leave it with its best weights.

    The best are those of `kept_epoch`; the weights from before tuning take part. An interrupt leaves the best so far as
    well. `losses`: output -> the user's own loss. `checkpoint`: where the state is kept after
    each epoch; with the state of the same question there, the fine-tune goes on from it. `callbacks`: of Keras; their
    logs are `loss` and `val_metric`, and `model.stop_training` ends the fine-tune. The result follows from the seed.
    Raises LrfError where nothing in the model is trainable, where every learning rate diverges, and without the memory
    for a training step.
    """
    check_trainable(model)
    run = FineTune(model, teacher, data, spec, recipe, losses or {}, seed)
    run.progress = progress
    run.callbacks = keras.callbacks.CallbackList(
        checked_callbacks(callbacks), model=model, epochs=spec.epochs, steps=run.steps
    )
    if spec.batch > len(data.train):
        progress.say(f"a training step has all {len(data.train)} training images, which are fewer than {spec.batch}")
    best = model.get_weights()
    with without_dropout(model), enough_memory(f"a training step of {spec.batch} images", "a smaller --batch"):
        state = checkpoint and checkpoint.read(best)
        if state:
            progress.say(f"the fine-tune goes on after epoch {state.epochs} of {spec.epochs}")
        state = state or run.first_state(best)
        try:
            run.train_epochs(state, checkpoint)
        finally:
            model.set_weights(state.best)
    return Tuned(state.rate, tuple(state.metrics), state.kept_epoch, distilled(state.distil_by, spec, data))


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
        self.original = Evaluator(teacher, data.preprocess)
        outputs = self.original.outputs(data.train.sample(recipe.scale_images, seed).pixels)
        self.losses = head_losses(self.evaluator.heads, data.tasks, outputs, losses)
        cutmix = spec.cutmix and spec.distil > 0 and not losses and data.takes_cutmix
        self.batches = Batches.of(data, spec.batch, seed, self.original if spec.distil else None, cutmix)
        self.trainer = self.trainer_for(self.ways[0])
        self.callbacks = keras.callbacks.CallbackList(model=model)
        self.progress: Progress = SILENT

    @property
    def ways(self) -> tuple[str, ...]:
        """What may be distilled: one way where it is given, or where it makes no difference."""
        return ways_of(self.spec, self.data)

    @property
    def decided(self) -> int:
        """Validation images that the metric is a share of; 0 where it is none, such as R2 of numbers."""
        return len(self.data.val) if all(task.decides for task in self.data.tasks.values()) else 0

    def kept(self, state: TuningState) -> int:
        """The epoch whose weights are kept so far.

        Validation images that were split off the training images count as some that the original was trained on.
        """
        return kept_epoch(state.metrics, self.decided, "val" in self.data.split_off)

    def trainer_for(self, distil_by: str) -> Trainer:
        """The steps that distil logits or probabilities."""
        logits, weight, recipe = distil_by == LOGITS, self.spec.distil, self.recipe
        weight, temperature = (weight * recipe.logits_weight, None) if logits else (weight, recipe.temperature)
        optimizer = recipe.optimizer(self.spec.optimizer, self.model)
        return Trainer(self.model, self.teacher, optimizer, Distillation(self.losses, weight, temperature))

    def train(self, epoch: int, steps: int, step: Step, note: str = "", callbacks: Any = None) -> float:
        """Train for some steps of an epoch, report each of them, and give their mean loss."""
        losses, told = [], callbacks or keras.callbacks.CallbackList(model=self.model)
        for number, (x, y, goals) in enumerate(self.batches.epoch(epoch, steps, self.progress)):
            told.on_train_batch_begin(number)
            losses.append(self.trainer(x, y, goals))
            told.on_train_batch_end(number, {"loss": losses[-1]})
            step(1, note)
            if callbacks and self.model.stop_training:
                break
        return float(np.mean(losses))

    @property
    def variables(self) -> dict[str, list[Any]]:
        """What changes from step to step, by name."""
        return {"model": self.model.variables, "optimizer": self.trainer.optimizer.variables}

    def train_epochs(self, state: TuningState, checkpoint: Checkpoint | None) -> None:
        """Train the epochs that a state has not had, until nothing improves for some epochs."""
        self.trainer = self.trainer_for(state.distil_by)
        self.trainer.restart(self.recipe.schedule(state.rate, self.total))
        if state.rows and checkpoint:
            checkpoint.restore(self.variables)
        else:
            state.rows.append((0, 0.0, None, self.evaluator.metric(self.data, self.data.val)))
        done, patience = state.epochs * self.steps, self.recipe.patience(self.spec.epochs)
        self.model.stop_training = False
        self.callbacks.on_train_begin()
        with self.progress.task("fine-tuning", self.total, done) as step:
            while state.epochs < self.spec.epochs and state.epochs_since_best < patience:
                self.train_epoch(state, step)
                if checkpoint:
                    checkpoint.write(state, self.variables)
                if self.model.stop_training:
                    self.progress.say(f"fine-tuning ended after epoch {state.epochs}: a callback stopped it")
                    break
        self.callbacks.on_train_end()
        if state.epochs < self.spec.epochs and not self.model.stop_training:
            self.progress.say(f"fine-tuning ended after epoch {state.epochs}: none of the last {patience} was better")

    def train_epoch(self, state: TuningState, step: Step) -> None:
        """Train one epoch, and put what it gave into the state."""
        start, epoch = time.perf_counter(), state.epochs
        self.callbacks.on_epoch_begin(epoch)
        loss = self.train(epoch, self.steps, step, callbacks=self.callbacks)
        metric = self.evaluator.metric(self.data, self.data.val)
        state.rows.append((epoch + 1, round(time.perf_counter() - start, 2), loss, metric))
        if self.kept(state) == state.epochs:
            state.best, state.kept_epoch = self.model.get_weights(), state.epochs
        log.info("epoch %d of %d: loss %.4f, validation metric %.4f", epoch + 1, self.spec.epochs, loss, metric)
        self.callbacks.on_epoch_end(epoch, {"loss": loss, "val_metric": metric})
        kept = f"epoch {state.kept_epoch} ({state.metrics[state.kept_epoch]:.2%})"
        step(0, f"validation {metric:.2%} after epoch {epoch + 1}, kept so far: {kept}")

    def first_state(self, weights: list[Values]) -> TuningState:
        """The state before the first epoch; says how the model is tuned, and for how long."""
        way, most = self.find_way(), f"{self.spec.epochs} epoch{'s' * (self.spec.epochs > 1)}"
        what = distilled(way.distil_by, self.spec, self.data)
        distills = f" and distills {what}" if what else ""
        self.progress.say(f"the fine-tune takes the learning rate {way.rate:g}{distills}, for {most} at most")
        return TuningState(*way, weights)

    def find_way(self) -> Way:
        """The learning rate and what is distilled: as given, or as found from the data.

        Where all rates diverge, smaller ones are tried. Raises LrfError where these diverge as well.
        """
        rates = self.recipe.rates[self.spec.optimizer] if self.spec.rate == "auto" else (float(self.spec.rate),)
        if len(rates) == len(self.ways) == 1:
            return Way(rates[0], self.ways[0])
        for _ in range(1 + self.recipe.smaller_rounds):
            losses = self.probe_losses(rates)
            if way := choose_way(losses, self.recipe):
                return way
            self.progress.say(f"fine-tuning diverged at the rates {', '.join(f'{rate:g}' for rate in rates)}")
            rates = tuple(rate * self.recipe.smaller for rate in rates)
        raise LrfError(
            f"fine-tuning diverges at every learning rate down to {min(losses).rate:g}: check the labels and the loss, "
            "give a smaller --rate, or give --no-tune"
        )

    def probe_losses(self, rates: tuple[float, ...]) -> dict[Way, float]:
        """Rate and what is distilled -> loss with validation labels after a short run; the weights stay as they are."""
        sample = self.data.val.sample(self.recipe.probe_images, self.seed)
        steps, losses = self.recipe.probe_steps(self.total), {}
        start = [variable.numpy() for variable in self.model.variables]
        name = "finding the learning rate" if len(rates) > 1 else "finding what to distill"
        with self.progress.task(name, steps * len(rates) * len(self.ways)) as step:
            for distil_by in self.ways:
                self.trainer = self.trainer_for(distil_by)
                for rate in rates:
                    self.trainer.restart(self.recipe.schedule(rate, steps))
                    self.train(-1, steps, step, f"tried {rate:g} with {distil_by}")
                    losses[Way(rate, distil_by)] = self.loss(sample)
                    for variable, value in zip(self.model.variables, start, strict=True):
                        variable.assign(value)
            step(0, f"{len(losses)} short runs")
        log.info("validation loss after %d steps: %s", steps, losses)
        return losses

    def loss(self, images: LabeledImages) -> float:
        """The loss with labels, the mean by the tasks' weights; infinite where an output is not finite."""
        outputs, labels = self.evaluator.outputs(images.pixels), self.data.targets(images.labels)
        weights = {name: self.losses[name].task.weight for name in labels}
        each = (w * float(self.losses[name].with_labels(labels[name], outputs[name])) for name, w in weights.items())
        mean = sum(each) / sum(weights.values())
        return mean if isfinite(mean) else float("inf")


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """No dropout while the block runs: its noise keeps a network of little capacity from its teacher's logits."""
    with ExitStack() as stack:
        for _, layer in walk_layers(model):
            if isinstance(layer, DROPOUT):
                stack.callback(setattr, layer, "rate", layer.rate)
                layer.rate = 0.0
        yield
