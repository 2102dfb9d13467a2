"""The metric of a plan is that of the network that would be built, with the statistics that it would get."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import pytest
from support.evaluation import accuracy, classes_of
from support.norms import reestimate

from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.models.batchnorm import reestimated_statistics
from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.validation import Validation

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def known(digits: Any, digits_net: Any) -> Proxy:
    """The proxy of the network that knows the digits."""
    return Proxy(digits_net, digits.preprocess(digits.calibration(256, 0).pixels))


@pytest.fixture
def batches(digits: Any) -> list[Array]:
    """Images that no plan is scored on."""
    x = digits.preprocess(digits.calibration(256, 0).pixels)[64:]
    return [x[:64], x[64:128], x[128:]]


@pytest.fixture
def validation(known: Proxy, digits: Any, batches: list[Array]) -> Validation:
    return classes_of(known, digits.val.pixels, digits.val.labels, lambda: batches, digits.preprocess)


def plan_at(proxy: Proxy, keep: float) -> Plan:
    """The first method in every layer but the last."""
    return Plan.of({site: proxy.choice(site, proxy.methods_of(site)[1], keep) for site in [*proxy.sites][:-1]})


def built(proxy: Proxy, plan: Plan) -> Any:
    return materialize(proxy.network.model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})


def share(model: Any, digits: Any) -> float:
    """The accuracy of a model on the validation images, by plain Keras."""
    return float(np.mean(model.predict(digits.preprocess(digits.val.pixels), verbose=0).argmax(1) == digits.val.labels))


def test_the_accuracy_of_the_empty_plan_is_that_of_the_model(
    validation: Validation, digits_net: Any, digits: Any
) -> None:
    assert validation.of({}) == pytest.approx(share(digits_net, digits), abs=1e-9)
    assert validation.of({}) == pytest.approx(accuracy(digits_net, digits, digits.val), abs=1e-9)
    assert validation.of({}) > 0.9


@pytest.mark.parametrize("keep", [0.2, 0.4, 0.6])
def test_statistics_and_accuracy_are_those_of_the_built_model(
    validation: Validation, known: Proxy, digits: Any, batches: list[Array], keep: float
) -> None:
    plan = plan_at(known, keep)
    found = reestimated_statistics(known.network, known.dense_kernels(plan), batches)
    model = built(known, plan)
    helped, before, after = reestimate(model, batches, known.scored.images, known.scored.reference[OUTPUT])
    taken = validation.statistics(known.dense_kernels(plan))
    assert (taken is not None) == helped == (after > before)
    assert validation.of(known.dense_kernels(plan)) == pytest.approx(
        share(model, digits), abs=1.5 / len(digits.val.labels)
    )
    assert validation.closeness(known.dense_kernels(plan), None) == pytest.approx(before, abs=1e-5)
    assert validation.closeness(known.dense_kernels(plan), found) == pytest.approx(
        max(before, after) if helped else after, abs=1e-5
    )


def test_reestimated_statistics_are_those_of_the_built_model_behind_each_other(
    net: Any, images: Array, proxy: Proxy
) -> None:
    plan = plan_at(proxy, 0.5)
    model, parts = built(proxy, plan), [images[16:32], images[32:48], images[48:]]
    before = [
        np.asarray(variable) for layer in norms_of(net) for variable in (layer.moving_mean, layer.moving_variance)
    ]
    found = reestimated_statistics(proxy.network, proxy.dense_kernels(plan), parts)
    target = model(images, training=False)  # any reference that the new statistics come closer to
    helped, *_ = reestimate(model, parts, images, np.asarray(with_statistics(model, found)(images, training=False)))
    assert helped
    wanted = [variable for layer in norms_of(model) for variable in (layer.moving_mean, layer.moving_variance)]
    assert len(found) == len(wanted) == 4
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    logits = proxy.network.logits(images, proxy.dense_kernels(plan), found)
    np.testing.assert_allclose(logits, model(images, training=False), rtol=1e-3, atol=1e-4)
    assert not np.allclose(logits, target, atol=1e-3)
    after = [np.asarray(variable) for layer in norms_of(net) for variable in (layer.moving_mean, layer.moving_variance)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "the original keeps its own"
    assert all(layer.momentum == 0.99 for layer in norms_of(net))


def with_statistics(model: Any, statistics: Iterable[Any]) -> Any:
    """A copy with other statistics."""
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    variables = [variable for layer in norms_of(other) for variable in (layer.moving_mean, layer.moving_variance)]
    for variable, value in zip(variables, statistics, strict=True):
        variable.assign(value)
    return other


def test_statistics_that_do_not_help_are_not_taken(known: Proxy, digits: Any, batches: list[Array]) -> None:
    plan = plan_at(known, 0.6)
    noise = [9 * np.random.default_rng(0).standard_normal(x.shape).astype(np.float32) for x in batches]
    validation = classes_of(known, digits.val.pixels, digits.val.labels, lambda: noise, digits.preprocess)
    assert validation.statistics(known.dense_kernels(plan)) is None
    assert validation.of(known.dense_kernels(plan)) == pytest.approx(
        share(built(known, plan), digits), abs=1.5 / len(digits.val.labels)
    )


def test_the_first_images_are_measured_as_among_all(validation: Validation, known: Proxy) -> None:
    kernels = known.dense_kernels(plan_at(known, 0.3))
    few, whole = validation.logits(kernels, 20), validation.logits(kernels)
    first = {name: values[:20] for name, values in whole.items()}
    np.testing.assert_allclose(few[OUTPUT], first[OUTPUT], atol=1e-5)
    assert validation.measured(few).metric == validation.measured(first).metric
    assert validation.measured(whole).images == len(validation.images)


def test_the_original_is_measured_once(known: Proxy, digits: Any, batches: list[Array]) -> None:
    passed: list[int] = []

    def counted(images: Any) -> Array:
        passed.append(len(images))
        found: Array = digits.preprocess(images)
        return found

    validation = classes_of(known, digits.val.pixels, digits.val.labels, lambda: batches, counted)
    assert validation.of({}) == validation.original(len(validation.images)).metric
    assert sum(passed) == len(digits.val.labels)


def test_an_image_whose_logits_are_not_finite_is_wrong(known: Proxy, digits: Any, batches: list[Array]) -> None:
    """The largest of logits that are NaN is the first one, which is the label of some images."""
    broken = {"first": np.full_like(known.to_keras_layout("first", known.kernels.originals["first"]), np.nan)}
    validation = classes_of(known, digits.val.pixels, 0 * digits.val.labels, lambda: batches, digits.preprocess)
    assert validation.of(broken) == 0


def test_statistics_that_help_are_taken_and_raise_the_accuracy(
    validation: Validation, known: Proxy, digits: Any, digits_net: Any
) -> None:
    """A kernel a tenth of the original's, whose BatchNorm makes up for it once its statistics are estimated anew."""
    smaller = {"first": 0.1 * known.to_keras_layout("first", known.kernels.originals["first"])}
    x = digits.preprocess(digits.val.pixels)
    plain = float(np.mean(known.network.logits(x, smaller).argmax(1) == digits.val.labels))
    assert validation.statistics(smaller) is not None
    assert plain < validation.of(smaller) - 0.1
    assert validation.of(smaller) > share(digits_net, digits) - 0.03


def test_a_model_without_norms_is_measured_as_it_is(images: Array) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(12, 3, activation="relu", name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, name="top"),
        ]
    )
    proxy = Proxy(model, images)
    labels = np.asarray(model(images)).argmax(1)

    def never() -> list[Array]:
        raise AssertionError("there are no statistics to estimate")

    validation = classes_of(proxy, images, labels, never)
    assert validation.of({}) == 1
    plan = plan_at(proxy, 0.3)
    wanted = np.mean(np.asarray(built(proxy, plan)(images)).argmax(1) == labels)
    assert validation.of(proxy.dense_kernels(plan)) == pytest.approx(wanted, abs=1.5 / len(images))
