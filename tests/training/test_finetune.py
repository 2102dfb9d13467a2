"""Tuning makes a broken network better, never worse on validation, the same for the same seed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.evaluation import accuracy
from support.fitting import fit
from support.heads import head_at

from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import OUTPUT, Task
from lrf_optuna.errors import LrfError
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.outputs import output_heads
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.progress import Silent
from lrf_optuna.sections import TuneSpec
from lrf_optuna.training.checkpoint import Checkpoint, TuningState
from lrf_optuna.training.decisions import PROBABILITIES, WAYS, Way, choose_way, distilled, kept_epoch, short_runs
from lrf_optuna.training.distillation import Distillation, Trainer
from lrf_optuna.training.finetune import FineTune, finetune, without_dropout
from lrf_optuna.training.losses import HeadLoss, head_losses
from lrf_optuna.training.recipe import DEFAULT, RATES, Recipe

SPEC = TuneSpec(epochs=2, batch=64, rate=3e-3, distil_by="logits")


def broken(model: Any) -> Any:
    """The network with plain SVDs in the place of its second convolution and its hidden layer: about 69 % right."""
    choices = {"second": Choice("channel_svd", (4,)), "hidden": Choice("svd", (6,))}
    sites = {site.name: site.op for site in find_sites(model).sites}
    kernels = {
        name: fit(sites[name], choice, model.get_layer(name).kernel.numpy(), None) for name, choice in choices.items()
    }
    return materialize(model, Plan.of(choices), kernels)


def loss_of(model: Any, data: Data) -> HeadLoss:
    """The losses of the only output of a model."""
    outputs = Evaluator(model, data.preprocess).outputs(data.val.pixels)
    return head_losses(output_heads(model), data.tasks, outputs)[OUTPUT]


@pytest.mark.parametrize("optimizer", RATES)
def test_a_broken_network_gets_better(digits_net: Any, digits: Data, optimizer: str) -> None:
    model = broken(digits_net)
    tuned = finetune(model, digits_net, digits, TuneSpec(epochs=2, batch=64, rate=1e-2, optimizer=optimizer))
    before, *_, after = tuned.val_metric
    assert accuracy(digits_net, digits, digits.val) > 0.93
    assert after > before + 0.1
    assert accuracy(model, digits, digits.val) == tuned.val_metric[tuned.kept_epoch]
    assert (len(tuned.val_metric), tuned.rate) == (3, 1e-2)


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """What a callback is told, and a stop after the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.logs: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        self.told.append(f"{self.params['epochs']} epochs")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.told.append(f"epoch {epoch}")
        self.logs, self.model.stop_training = dict(logs), True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.told.append("batch")

    def on_train_end(self, logs: Any = None) -> None:
        self.told.append("end")


def test_a_callback_of_keras_is_told_of_batches_and_epochs_and_can_stop(digits_net: Any, digits: Data) -> None:
    model, recorder = broken(digits_net), Recorder()
    tuned = finetune(model, digits_net, digits, SPEC, callbacks=[recorder])
    assert recorder.told == ["2 epochs", *["batch"] * (len(digits.train) // 64), "epoch 0", "end"]
    assert recorder.logs["val_metric"] == tuned.val_metric[1]
    assert len(tuned.val_metric) == 2, "it was stopped after the first of two epochs"


class StopAtBatch(Recorder):
    """A callback that ends the fine-tune after its second batch."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch)
        self.model.stop_training = batch == 1


def test_a_callback_can_stop_in_the_middle_of_an_epoch(digits_net: Any, digits: Data) -> None:
    stop = StopAtBatch()
    finetune(broken(digits_net), digits_net, digits, SPEC, callbacks=[stop])
    assert stop.told == ["2 epochs", "batch", "batch", "epoch 0", "end"]


@pytest.mark.parametrize(
    "callback", [keras.callbacks.ReduceLROnPlateau(), keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3)]
)
def test_callbacks_that_set_the_learning_rate_are_refused(callback: Any, digits_net: Any, digits: Data) -> None:
    with pytest.raises(LrfError, match=f"schedule of its own: leave out {type(callback).__name__}"):
        finetune(broken(digits_net), digits_net, digits, SPEC, callbacks=[callback])


def test_a_batch_of_more_images_than_there_are_is_said(digits_net: Any, digits: Data) -> None:
    listener = Listener()
    spec = TuneSpec(epochs=1, batch=10**6, rate=1e-3, distil_by="logits")
    finetune(broken(digits_net), digits_net, digits, spec, progress=listener)
    assert any(f"all {len(digits.train)} training images, which are fewer than 1000000" in one for one in listener.said)


def test_one_callback_may_stand_for_a_list_and_others_are_refused(digits_net: Any, digits: Data) -> None:
    recorder = Recorder()
    finetune(broken(digits_net), digits_net, digits, SPEC, callbacks=recorder)  # type: ignore[arg-type]
    assert recorder.told[-1] == "end"
    with pytest.raises(LrfError, match="callbacks should be callbacks of Keras, but got str"):
        finetune(broken(digits_net), digits_net, digits, SPEC, callbacks=["x"])


def test_too_little_memory_is_one_line_with_what_to_lower(
    digits_net: Any, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(Trainer, "__call__", exhausted)
    with pytest.raises(LrfError, match="not enough memory for a training step of 64 images: give a smaller --batch"):
        finetune(broken(digits_net), digits_net, digits, SPEC)


def test_a_rate_that_wrecks_the_network_leaves_it_with_its_old_weights(digits_net: Any, digits: Data) -> None:
    model = materialize(digits_net, Plan(()), {})
    before = model.get_weights()
    tuned = finetune(model, digits_net, digits, TuneSpec(epochs=1, batch=256, rate=30.0))
    assert tuned.val_metric[1] < tuned.val_metric[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_the_same_seed_gives_the_same_weights(digits_net: Any, digits: Data) -> None:
    spec = TuneSpec(epochs=1, batch=128, rate=1e-3)
    first, again, other = (broken(digits_net) for _ in range(3))
    for model, seed in ((first, 5), (again, 5), (other, 6)):
        finetune(model, digits_net, digits, spec, seed=seed)
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


def test_frozen_layers_and_the_teacher_stay_as_they_are(digits_net: Any, digits: Data) -> None:
    model = broken(digits_net)
    frozen = ("first", "norm", "second")
    for name in frozen:
        model.get_layer(name).trainable = False
    before = {layer.name: layer.get_weights() for layer in model.layers}
    teacher = digits_net.get_weights()
    tuned = finetune(model, digits_net, digits, TuneSpec(epochs=2, batch=64, rate=1e-2))
    assert max(tuned.val_metric) > tuned.val_metric[0]
    for name in frozen:
        after = model.get_layer(name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(before[name], after, strict=True))
    assert not np.array_equal(before["top"][0], model.get_layer("top").get_weights()[0])
    assert all(np.array_equal(a, b) for a, b in zip(teacher, digits_net.get_weights(), strict=True))


def test_a_network_with_nothing_to_train_is_refused(digits_net: Any, digits: Data) -> None:
    model = broken(digits_net)
    model.trainable = False
    with pytest.raises(LrfError, match="nothing in the model is trainable"):
        finetune(model, digits_net, digits, SPEC)


def test_the_rate_is_found_where_it_is_left_open(digits_net: Any, digits: Data) -> None:
    model = broken(digits_net)
    tuned = finetune(model, digits_net, digits, TuneSpec(epochs=2, batch=64))
    assert tuned.rate in RATES["muon"]
    assert max(tuned.val_metric) > tuned.val_metric[0]


def test_a_softmax_and_logits_are_tuned_alike(digits_net: Any, digits: Data) -> None:
    plain = broken(digits_net)
    soft = keras.Sequential([keras.Input((8, 8, 1)), broken(digits_net), keras.layers.Softmax()])
    spec = TuneSpec(epochs=1, batch=128, rate=1e-3, distil=0.0)
    for model in (plain, soft):
        finetune(model, digits_net, digits, spec)
    x, y = digits.preprocess(digits.val.pixels), digits.val.labels
    assert accuracy(soft, digits, digits.val) == pytest.approx(accuracy(plain, digits, digits.val), abs=0.02)
    losses = [float(loss_of(model, digits).with_labels(y, model(x))) for model in (soft, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("temperature", [None, 2.0])
def test_the_loss_is_cross_entropy_and_the_distance_to_the_original(
    digits_net: Any, digits: Data, temperature: float | None
) -> None:
    x, y = digits.preprocess(digits.val.pixels[:64]), digits.val.labels[:64]
    logits, goal = np.asarray(broken(digits_net)(x, training=True)), np.asarray(digits_net(x, training=False))
    wrong = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits)
    apart = np.mean((logits - goal) ** 2) / 2
    if temperature:
        soft, theirs = (keras.ops.softmax(each / temperature) for each in (logits, goal))
        apart = temperature**2 * float(keras.losses.KLDivergence()(theirs, soft))
    for distil in (0.0, 0.5):
        goals = Distillation({OUTPUT: loss_of(digits_net, digits)}, distil, temperature)
        step = Trainer(broken(digits_net), digits_net, keras.optimizers.SGD(1e-3), goals)
        assert float(step(x, {OUTPUT: y})) == pytest.approx(float(wrong) + distil * float(apart), rel=1e-4)


@pytest.mark.parametrize("kind", ["classes", "binary", "labels", "numbers"])
def test_softened_outputs_are_nearest_to_themselves(kind: str) -> None:
    units = 1 if kind == "binary" else 4
    goal = np.random.default_rng(0).standard_normal((50, units)).astype("float32")
    model = keras.Sequential([keras.Input((units,)), keras.layers.Dense(units)])
    head = HeadLoss(head_at(model), Task(kind, (units,), one_hot=kind == "classes"), np.float32(2.0))
    apart = [float(head.softened(goal * factor, goal, 2.0)) for factor in (1.0, 1.1, 1.5)]
    assert apart[0] == pytest.approx(0, abs=1e-6)
    assert apart[0] < apart[1] < apart[2]


def test_the_divergence_of_yes_and_no_is_that_of_two_classes() -> None:
    outputs, goal = np.array([[0.3], [-2.0]], np.float32), np.array([[1.5], [-1.0]], np.float32)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    two = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    binary = HeadLoss(head_at(model), Task("binary", (1,), one_hot=False), np.float32(1.0))
    classes = HeadLoss(head_at(two), Task("classes", (2,)), np.float32(1.0))
    with_zero = [np.concatenate([np.zeros_like(each), each], axis=1) for each in (outputs, goal)]
    found = float(binary.softened(outputs, goal, 2.0))
    assert found == pytest.approx(float(classes.softened(*with_zero, 2.0)), rel=1e-5)


def test_measures_are_those_of_keras(digits_net: Any, digits: Data) -> None:
    logits = digits_net.predict(digits.preprocess(digits.val.pixels), verbose=0)
    evaluator = Evaluator(digits_net, digits.preprocess)
    np.testing.assert_allclose(evaluator.outputs(digits.val.pixels)[OUTPUT], logits, atol=1e-4)
    assert evaluator.metric(digits, digits.val) == np.mean(logits.argmax(1) == digits.val.labels)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(digits.val.labels, logits)
    found = loss_of(digits_net, digits).with_labels(digits.val.labels, logits)
    assert float(found) == pytest.approx(float(loss), rel=1e-4)


def test_the_rate_warms_up_to_its_height_and_falls_to_nothing() -> None:
    rates = [float(DEFAULT.schedule(0.1, 200)(step)) for step in range(201)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1)
    assert int(np.argmax(rates)) == 10
    assert rates[-1] == pytest.approx(0, abs=1e-6)
    assert rates[10:] == sorted(rates[10:], reverse=True)


class Atrous(keras.layers.Layer):
    """A custom layer whose `rate` is no dropout: it scales its inputs."""

    rate = 0.5

    def call(self, inputs: Any) -> Any:
        return inputs * self.rate


def test_only_dropout_is_off_while_tuning_and_comes_back() -> None:
    L = keras.layers
    kinds = [L.Dropout(0.3), L.SpatialDropout1D(0.4), L.GaussianDropout(0.2), L.AlphaDropout(0.1)]
    model = keras.Sequential([keras.Input((4, 3)), Atrous(), *kinds, L.GaussianNoise(0.6)])
    rates = [layer.rate for layer in kinds]
    with without_dropout(model):
        assert [layer.rate for layer in kinds] == [0.0] * 4
        assert (model.layers[0].rate, model.layers[-1].stddev) == (0.5, 0.6)
    assert [layer.rate for layer in kinds] == rates


DIVERGED = float("inf")


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ({1e-4: 0.9, 1e-3: 0.5, 1e-2: 0.77, 1e-1: 0.85}, 1e-2),
        ({1e-4: 0.9, 1e-3: 0.5, 1e-2: DIVERGED}, 1e-3),
        ({1e-4: DIVERGED, 1e-3: DIVERGED}, None),
    ],
)
def test_the_largest_good_rate_is_chosen_and_none_where_all_diverge(
    losses: dict[float, float], rate: float | None
) -> None:
    found = choose_way({Way(rate, "logits"): loss for rate, loss in losses.items()}, DEFAULT)
    assert found == (rate and Way(rate, "logits"))


def test_what_is_distilled_has_the_least_loss_and_a_rate_of_its_own() -> None:
    losses = {
        ("logits", 1e-3): 0.40,
        ("logits", 3e-3): 0.41,
        ("probabilities", 1e-3): 0.39,
        ("probabilities", 3e-3): 9.0,
    }
    named = {Way(rate, distil_by): loss for (distil_by, rate), loss in losses.items()}
    assert choose_way(named, DEFAULT) == Way(1e-3, PROBABILITIES)


@pytest.mark.parametrize(
    ("metrics", "kept"),
    [
        ([0.9], 0),
        ([0.9, 0.8, 0.85], 0),
        ([0.9, 0.8, 0.897], 2),
        ([0.9, 0.95, 0.96, 0.957, 0.93], 3),
        ([1.0, 0.999], 0),
        ([-3.0, -2.0, -2.5], 1),
    ],
)
def test_the_last_epoch_that_is_as_good_as_the_best_is_kept(metrics: list[float], kept: int) -> None:
    assert kept_epoch(metrics, 3000) == kept


def test_on_few_images_half_a_point_is_worse() -> None:
    assert kept_epoch([0.9703, 0.9628], 269) == 0
    assert kept_epoch([0.9703, 0.9666], 269) == 1, "one image"


def test_where_the_original_was_trained_on_the_images_a_point_less_of_them_is_no_worse() -> None:
    assert kept_epoch([0.9336, 0.8982, 0.9288], 5000) == 0
    assert kept_epoch([0.9336, 0.8982, 0.9288], 5000, trained_on=True) == 2
    assert kept_epoch([0.9336, 0.8982, 0.9230], 5000, trained_on=True) == 0
    assert kept_epoch([0.9336, 0.9288], 0, trained_on=True) == 0


@pytest.mark.parametrize(("split_off", "kept"), [(("val",), 1), (("test",), 0), ((), 0)])
def test_the_original_was_trained_on_validation_images_that_are_split_off(
    digits_net: Any, digits: Data, split_off: tuple[str, ...], kept: int
) -> None:
    run = FineTune(digits_net, digits_net, replace(digits, split_off=split_off), SPEC, DEFAULT, {}, 0)
    state = TuningState(1e-3, "logits", [], [(0, 0.0, None, 0.97), (1, 0.0, 0.1, 0.9628)])
    assert run.kept(state) == kept


def test_of_a_metric_that_is_no_share_of_decisions_the_best_is_kept() -> None:
    assert kept_epoch([0.9985, 0.9984, 0.9983], 0) == 0
    assert kept_epoch([0.9, 0.95, 0.95], 0) == 2


def test_the_network_from_before_is_no_plateau() -> None:
    state = TuningState(1e-3, "logits", [], [(i, 0.0, 0.0, metric) for i, metric in enumerate([0.9, 0.5, 0.6, 0.55])])
    assert state.epochs_since_best == 1
    assert TuningState(1e-3, "logits", [], [(0, 0.0, None, 0.9)]).epochs_since_best == 0


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2 * len(RATES["muon"])),
        ({"rate": 1e-3}, 2),
        ({"rate": 1e-3, "distil": 0.0}, 0),
        ({"distil_by": "logits"}, 3),
    ],
)
def test_short_runs_are_counted_before_they_are_made(digits: Data, settings: dict[str, Any], count: int) -> None:
    assert short_runs(TuneSpec(**settings), digits) == count


@pytest.mark.parametrize(
    ("settings", "augment", "losses", "has_cutmix"),
    [
        ({}, "crop", {}, True),
        ({}, "none", {}, False),
        ({"cutmix": False}, "crop", {}, False),
        ({"distil": 0.0}, "crop", {}, False),
        ({}, "crop", {OUTPUT: keras.losses.sparse_categorical_crossentropy}, False),
    ],
)
def test_augmented_images_get_rectangles_where_the_original_says_what_they_are(
    digits_net: Any, digits: Data, settings: dict[str, Any], augment: str, losses: dict[str, Any], has_cutmix: bool
) -> None:
    data, spec = replace(digits, augment=augment), TuneSpec(epochs=1, batch=64, **settings)
    run = FineTune(broken(digits_net), digits_net, data, spec, DEFAULT, losses, 0)
    labels = next(run.batches.epoch(0, 1))[1][OUTPUT]
    assert run.batches.cutmix is has_cutmix
    assert bool((labels < 0).any()) is has_cutmix


def test_a_broken_network_gets_better_by_images_with_rectangles(digits_net: Any, digits: Data) -> None:
    tuned = finetune(broken(digits_net), digits_net, replace(digits, augment="crop"), SPEC)
    assert tuned.val_metric[-1] > tuned.val_metric[0] + 0.1


@pytest.mark.parametrize("distil_by", WAYS)
def test_what_is_distilled_can_be_given(digits_net: Any, digits: Data, distil_by: str) -> None:
    listener = Listener()
    tuned = finetune(
        broken(digits_net), digits_net, digits, SPEC.model_copy(update={"distil_by": distil_by}), progress=listener
    )
    assert tuned.val_metric[-1] > tuned.val_metric[0] + 0.1
    assert tuned.distil_by == distil_by
    said = f"the fine-tune takes the learning rate 0.003 and distills {distil_by}, for 2 epochs at most"
    assert listener.said == [said], "neither rate nor way is looked for"


class Listener(Silent):
    """What a fine-tune says; it is interrupted after a number of steps."""

    def __init__(self, stop: int = 10**9) -> None:
        self.said: list[str] = []
        self.stop = stop

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Any]:
        def step(n: int, note: str = "") -> None:
            self.stop -= 0 if label == "outputs of the original" else n
            if self.stop < 0:
                raise KeyboardInterrupt

        yield step


def test_smaller_rates_are_tried_where_all_diverge(digits_net: Any, digits: Data) -> None:
    listener = Listener()
    recipe = Recipe(rates={"muon": (3e37, 1e38)}, smaller=1e-41)
    spec = TuneSpec(epochs=1, batch=256)
    tuned = finetune(broken(digits_net), digits_net, digits, spec, recipe=recipe, progress=listener)
    assert tuned.rate == pytest.approx(1e-3)
    assert listener.said[0] == "fine-tuning diverged at the rates 3e+37, 1e+38"


def test_rates_that_all_diverge_are_an_error_and_the_weights_stay(digits_net: Any, digits: Data) -> None:
    model = broken(digits_net)
    before = model.get_weights()
    recipe = Recipe(rates={"muon": (1e38, 3e38)}, smaller=0.9)
    with pytest.raises(LrfError, match=r"diverges at every learning rate down to .* --rate, or give --no-tune"):
        finetune(model, digits_net, digits, TuneSpec(epochs=1, batch=256), recipe=recipe)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("optimizer", RATES)
def test_a_fine_tune_that_was_stopped_goes_on_and_ends_with_the_same_weights(
    digits_net: Any, digits: Data, tmp_path: Path, optimizer: str
) -> None:
    spec, whole = TuneSpec(epochs=3, batch=128, rate=3e-3, distil_by="logits", optimizer=optimizer), broken(digits_net)
    expected = finetune(whole, digits_net, digits, spec)
    kept = Checkpoint(tmp_path / "tuning.npz", tmp_path / "tuning.csv", "this question")
    steps = len(digits.train) // spec.batch
    with pytest.raises(KeyboardInterrupt):
        finetune(broken(digits_net), digits_net, digits, spec, checkpoint=kept, progress=Listener(2 * steps + 1))
    rows = list(csv.DictReader(kept.table.open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"], "the network before, and two epochs"
    assert sum(row["kept"] == "1" for row in rows) == 1
    listener, model = Listener(steps), broken(digits_net)
    found = finetune(model, digits_net, digits, spec, checkpoint=kept, progress=listener)
    assert listener.stop == 0, "one epoch was left"
    assert found.val_metric == pytest.approx(expected.val_metric, abs=0.01)
    assert found.kept_epoch == expected.kept_epoch
    kept_rows = [int(row["epoch"]) for row in csv.DictReader(kept.table.open()) if row["kept"] == "1"]
    assert kept_rows == [found.kept_epoch]
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_an_interrupt_leaves_the_best_weights_so_far(digits_net: Any, digits: Data) -> None:
    model, spec = broken(digits_net), TuneSpec(epochs=3, batch=128, rate=3e-3, distil_by="logits")
    steps = len(digits.train) // spec.batch
    with pytest.raises(KeyboardInterrupt):
        finetune(model, digits_net, digits, spec, progress=Listener(steps + 2))
    assert accuracy(model, digits, digits.val) > accuracy(broken(digits_net), digits, digits.val)


@pytest.mark.parametrize("text", [b"", b"no archive"])
def test_a_broken_or_foreign_checkpoint_is_not_gone_on_from(
    digits_net: Any, digits: Data, tmp_path: Path, text: bytes
) -> None:
    spec = TuneSpec(epochs=1, batch=256, rate=1e-3, distil_by="logits")
    path, table = tmp_path / "tuning.npz", tmp_path / "tuning.csv"
    if text:
        path.write_bytes(text)
    else:
        finetune(broken(digits_net), digits_net, digits, spec, checkpoint=Checkpoint(path, table, "another"))
    listener = Listener()
    finetune(
        broken(digits_net), digits_net, digits, spec, checkpoint=Checkpoint(path, table, "this"), progress=listener
    )
    assert 10**9 - listener.stop == len(digits.train) // spec.batch


def test_a_fine_tune_that_no_longer_gets_better_ends(digits_net: Any, digits: Data) -> None:
    listener, recipe = Listener(), Recipe(patience_share=0.1, least_patience=2)
    spec = TuneSpec(epochs=9, batch=256, rate=1e-12, distil_by="logits")
    tuned = finetune(broken(digits_net), digits_net, digits, spec, recipe=recipe, progress=listener)
    assert len(tuned.val_metric) < 10
    assert (
        listener.said[-1] == f"fine-tuning ended after epoch {len(tuned.val_metric) - 1}: none of the last 2 was better"
    )
    assert tuned.distil_by == "logits"


def test_a_softmax_that_is_sure_of_a_wrong_label_still_learns() -> None:
    """The label's probability is e^-40, far below the 1e-7 at which losses of probabilities are usually cut."""
    x, y = np.ones((1, 1), np.float32), np.array([1])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="softmax")])
    model.set_weights([np.array([[40.0, 0.0]], np.float32), np.zeros(2, np.float32)])
    head = HeadLoss(head_at(model), Task("classes", (2,)), np.ones(2, np.float32))
    Trainer(model, model, keras.optimizers.SGD(1.0), Distillation({OUTPUT: head}, 0.0))(x, {OUTPUT: y})
    np.testing.assert_allclose(model.get_weights()[0], [[39.0, 1.0]], atol=1e-4)


@pytest.mark.parametrize(
    ("distil", "kind", "word"), [(1.0, "numbers", "outputs"), (1.0, "classes", "logits"), (0.0, "classes", "")]
)
def test_what_is_distilled_has_a_word_for_users(digits: Data, distil: float, kind: str, word: str) -> None:
    data = replace(digits, tasks={OUTPUT: Task(kind, (1,) if kind == "numbers" else (10,))})
    assert distilled("logits", TuneSpec(distil=distil), data) == word
