"""One fine-tune of one model: cross-entropy and distillation from the original, best-on-validation weights.

The learning rate decides more than anything else after a factorization, so it is found from the data: each of a few
rates trains for a short while from the same weights, and the largest of the good ones is taken.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lrf_optuna.chains.conv import Array
from lrf_optuna.chains.conv import Index as Labels
from lrf_optuna.config import TuneSpec
from lrf_optuna.data.dataset import Data, LabeledImages, batches
from lrf_optuna.errors import LrfError
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.models.outputs import gives_probabilities, logits_of
from lrf_optuna.progress import SILENT, Progress

log = logging.getLogger(__name__)
RATES = {"adamw": (1e-4, 3e-4, 1e-3, 3e-3), "sgd": (3e-4, 1e-3, 3e-3, 1e-2)}
PROBE_SHARE, PROBE_STEPS = 0.04, (10, 50)
"""Each rate is tried for this share of all steps, within these bounds, and judged on `PROBE_IMAGES`."""
PROBE_IMAGES = 1024
NEAR = 1.1
"""A loss this many times the least is as good: a short run favours small rates over those that win in the end."""
WARMUP = 0.05
DECAY = 1e-4
CLIP = 1.0


@dataclass(frozen=True, slots=True)
class Tuned:
    """A fine-tuned model, and how it came about: passes, rate, validation accuracy before and after each."""

    model: Any
    epochs: int
    rate: float
    val_accuracy: tuple[float, ...]


def finetune(
    model: Any,
    teacher: Any,
    data: Data,
    recipe: TuneSpec,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Tuned:
    """Fine-tune `model` in place, `recipe.epochs` passes over `data.train`, and leave it with its best weights.

    Best is on validation, the weights from before tuning included. Deterministic by `seed`. Raises LrfError where
    nothing in the model is trainable.
    """
    if not model.trainable_variables:
        raise LrfError("nothing in the model is trainable: every layer is frozen (set layer.trainable = True)")
    steps = max(1, len(data.train) // recipe.batch)
    total = steps * recipe.epochs
    probe = int(np.clip(PROBE_SHARE * total, *PROBE_STEPS)) if recipe.rate == "auto" else 0
    start = model.get_weights()
    history = [accuracy(model, data, data.val)]
    best = history[0], start
    with undropped(model), progress.task("fine-tuning", total + probe * len(RATES[recipe.optimizer])) as step:
        rate = (
            found_rate(model, teacher, data, recipe, seed, probe, step) if recipe.rate == "auto" else float(recipe.rate)
        )
        train = trainer(model, teacher, recipe, schedule(rate, total))
        model.set_weights(start)
        for epoch in range(recipe.epochs):
            for x, y in stream(data, recipe.batch, seed, epoch, steps):
                train(x, y)
                step(1)
            history.append(accuracy(model, data, data.val))
            log.info("epoch %d of %d: validation accuracy %.4f", epoch + 1, recipe.epochs, history[-1])
            step(0, note=f"epoch {epoch + 1}: validation {history[-1]:.2%}")
            if history[-1] > best[0]:
                best = history[-1], model.get_weights()
    model.set_weights(best[1])
    return Tuned(model, recipe.epochs, rate, tuple(history))


@contextmanager
def undropped(model: Any) -> Iterator[None]:
    """No dropout while the block runs: its noise keeps a network of little capacity from its teacher's logits."""
    layers = [layer for _, layer in walk_layers(model) if isinstance(getattr(layer, "rate", None), float)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate


def schedule(rate: float, total: int) -> Any:
    """A short linear warm-up, then a cosine down to nothing."""
    warm = max(1, round(WARMUP * total))
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, max(1, total - warm), warmup_target=rate, warmup_steps=warm
    )


def optimizer_of(name: str, rate: Any) -> Any:
    """AdamW, or SGD with Nesterov momentum; gradients are clipped, factorized stages have steep directions."""
    if name == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, clipnorm=CLIP, weight_decay=DECAY)
    return keras.optimizers.AdamW(rate, weight_decay=DECAY, clipnorm=CLIP)


def trainer(model: Any, teacher: Any, recipe: TuneSpec, rate: Any) -> Callable[[Array, Labels], float]:
    """A compiled training step: (x, y) -> loss.

    The loss is cross-entropy plus `distil` times half the mean squared difference to the teacher's logits.
    """
    optimizer = optimizer_of(recipe.optimizer, rate)
    optimizer.build(model.trainable_variables)
    from_model, from_teacher = gives_probabilities(model), gives_probabilities(teacher)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        goal = logits_of(tf.cast(teacher(x, training=False), tf.float32), from_teacher)
        with tf.GradientTape() as tape:
            logits = logits_of(tf.cast(model(x, training=True), tf.float32), from_model)
            wrong = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
            apart = keras.ops.mean(keras.ops.square(logits - goal)) / 2
            loss = wrong + recipe.distil * apart + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda x, y: step(tf.constant(x), tf.constant(y))


def found_rate(
    model: Any, teacher: Any, data: Data, recipe: TuneSpec, seed: int, steps: int, step: Callable[..., None]
) -> float:
    """The largest rate that lowers the validation loss about as much as any in a short run from the model's weights.

    The weights stay as they are.
    """
    start, judged = model.get_weights(), {}
    for rate in RATES[recipe.optimizer]:
        train = trainer(model, teacher, recipe, schedule(rate, steps))
        for x, y in stream(data, recipe.batch, seed, -1, steps):
            train(x, y)
            step(1, note=f"trying the rate {rate:g}")
        judged[rate] = cross_entropy(model, data, data.val.take(slice(PROBE_IMAGES)))
        model.set_weights(start)
    log.info("validation loss after %d steps by rate: %s", steps, judged)
    least = min(judged.values())
    return max(rate for rate, loss in judged.items() if loss <= NEAR * least)


def stream(data: Data, batch: int, seed: int, epoch: int, steps: int) -> Iterator[tuple[Array, Labels]]:
    """`steps` shuffled and augmented batches, the same for the same seed and epoch."""
    size = min(batch, len(data.train))
    taken = 0
    for turn in range(steps):
        rng = np.random.default_rng([seed, epoch + 1, turn])
        for x, y in batches(data.train, data.preprocess, size, augment=data.augment, rng=rng):
            if len(x) == size:
                yield x, y
                taken += 1
            if taken == steps:
                return


def outputs(model: Any, data: Data, images: LabeledImages) -> Array:
    """The model's logits for raw images."""
    forward = compiled(model)
    return np.concatenate([forward(tf.constant(x)).numpy() for x, _ in batches(images, data.preprocess, 256)])


def compiled(model: Any) -> Any:
    """The model's compiled logits; compiled once, and forgotten with the model."""
    if model not in COMPILED:
        from_probabilities, held = gives_probabilities(model), weakref.proxy(model)
        COMPILED[model] = tf.function(
            lambda x: logits_of(held(x, training=False), from_probabilities),
            reduce_retracing=True,
        )
    return COMPILED[model]


COMPILED: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def accuracy(model: Any, data: Data, images: LabeledImages) -> float:
    """The share of images whose largest output is their label."""
    return float(np.mean(outputs(model, data, images).argmax(axis=1) == images.labels))


def cross_entropy(model: Any, data: Data, images: LabeledImages) -> float:
    """Mean cross-entropy over the images; infinite where outputs are not finite."""
    value = keras.losses.sparse_categorical_crossentropy(images.labels, outputs(model, data, images), from_logits=True)
    mean = float(np.mean(value))
    return mean if np.isfinite(mean) else float("inf")
