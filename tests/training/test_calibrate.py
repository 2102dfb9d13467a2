"""A calibration brings a network closer to the original without labels, and never leaves it further away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from support.evaluation import accuracy
from support.fitting import fit

from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.preprocess import Preprocess
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.outputs import output_heads, unlabeled_tasks
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.progress import Silent
from lrf_optuna.training.calibrate import CalibrationSettings, calibrate
from lrf_optuna.training.map_pairs import map_pairs

FAST = CalibrationSettings(steps=24, batch=64, rate=3e-3)


def smaller(model: Any, **ranks: int) -> Any:
    """The model with plain SVDs of these ranks in its named layers."""
    sites = {site.name: site.op for site in find_sites(model).sites}
    choices = {name: Choice("channel_svd" if sites[name].window else "svd", (r,)) for name, r in ranks.items()}
    kernels = {
        name: fit(sites[name], choice, model.get_layer(name).kernel.numpy(), None) for name, choice in choices.items()
    }
    return materialize(model, Plan.of(choices), kernels)


def broken(model: Any) -> Any:
    """The digits network with a smaller second convolution and hidden layer."""
    return smaller(model, second=4, hidden=6)


def test_a_network_comes_closer_and_gets_better_without_labels(digits_net: Any, digits: Data) -> None:
    model, data = broken(digits_net), replace(digits, train=LabeledImages(digits.train.pixels))
    before, teacher = accuracy(model, digits, digits.val), digits_net.get_weights()
    found = calibrate(model, digits_net, data, settings=FAST)
    assert found.better
    assert min(found.distances) < 0.7 * found.distances[0]
    assert accuracy(model, digits, digits.val) > before + 0.05
    assert all(np.array_equal(a, b) for a, b in zip(teacher, digits_net.get_weights(), strict=True))


def test_weights_that_are_no_closer_on_held_out_images_are_not_kept(digits_net: Any, digits: Data) -> None:
    model = broken(digits_net)
    before = model.get_weights()
    found = calibrate(model, digits_net, digits, settings=replace(FAST, rate=30.0, least_rate=20.0))
    assert (found.better, found.rate) == (False, 30.0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_rate_that_wrecks_the_network_is_halved_until_it_does_not(digits_net: Any, digits: Data) -> None:
    found = calibrate(broken(digits_net), digits_net, digits, settings=replace(FAST, rate=3.2))
    assert found.rate < 0.2
    assert found.better
    assert len(found.distances) == 1 + FAST.checks


def test_the_same_seed_gives_the_same_weights(digits_net: Any, digits: Data) -> None:
    first, again, other = (broken(digits_net) for _ in range(3))
    for model, seed in ((first, 5), (again, 5), (other, 6)):
        calibrate(model, digits_net, digits, settings=FAST, seed=seed)
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


class Stopped(Silent):
    """Progress that interrupts after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Any]:
        def step(n: int, note: str = "") -> None:
            self.steps -= n
            if self.steps < 0:
                raise KeyboardInterrupt

        yield step


@pytest.mark.parametrize(("steps", "changes"), [(2, False), (20, True)])
def test_an_interrupt_leaves_the_closest_weights_so_far(
    digits_net: Any, digits: Data, steps: int, changes: bool
) -> None:
    model = broken(digits_net)
    before = model.get_weights()
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, digits_net, digits, settings=FAST, progress=Stopped(steps))
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert same is not changes


def test_maps_are_those_that_both_networks_have(digits_net: Any, digits: Data) -> None:
    image = digits.preprocess(digits.train.pixels[:1])
    pairs = map_pairs(broken(digits_net), digits_net, image)
    assert pairs
    assert all(pair.model.name == pair.teacher.name for pair in pairs)
    assert all(len(pair.teacher.output.shape) > 2 for pair in pairs)


def two_heads() -> Any:
    """8 x 8 x 1 -> a map with a sigmoid, and three numbers; one convolution runs twice."""
    L = keras.layers
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="first")(inputs)
    shared = L.Conv2D(8, 3, padding="same", activation="relu", name="shared")
    x = shared(shared(x))
    numbers = L.Dense(3, name="numbers")(L.Flatten()(x))
    return keras.Model(inputs, [L.Conv2D(1, 1, activation="sigmoid", name="map")(x), numbers])


def words() -> Any:
    """6 steps of 4 numbers -> a softmax, by an LSTM and a Dense layer in a nested model."""
    L = keras.layers
    keras.utils.set_random_seed(0)
    nested = keras.Sequential([keras.Input((6, 4)), L.LSTM(8, return_sequences=True), L.Dense(8, name="inner")])
    return keras.Sequential([keras.Input((6, 4)), nested, L.GlobalAveragePooling1D(), L.Dense(3, activation="softmax")])


@pytest.mark.parametrize(("make", "shape"), [(two_heads, (8, 8, 1)), (words, (6, 4))])
def test_any_outputs_and_kinds_of_layers_are_calibrated(make: Any, shape: tuple[int, ...]) -> None:
    teacher = make()
    images = LabeledImages(np.random.default_rng(0).normal(size=(300, *shape)).astype(np.float32))
    data = Data(images, images, images, Preprocess(), "none", (), "arrays", unlabeled_tasks(output_heads(teacher)))
    model = materialize(teacher, Plan(()), {})
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    found = calibrate(model, teacher, data, settings=replace(FAST, rate=1e-2))
    assert min(found.distances) < 0.7 * found.distances[0]


def test_a_large_network_has_smaller_batches_and_then_fewer_steps() -> None:
    plain = CalibrationSettings(steps=160, batch=128, most_macs=1e12)
    sizes = [(s.batch, s.steps) for s in (plain.within(macs) for macs in (0, 10**6, 4 * 10**7, 10**9, 10**12))]
    assert sizes == [(128, 160), (128, 160), (39, 160), (16, 20), (16, 20)]
