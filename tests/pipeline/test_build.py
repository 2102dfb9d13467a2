"""Refitting in layer order brings a network closer to its original, and what is built is what was scored."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.norms import alike

from lrf_optuna.chains.conv import Array
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.errors import LrfError
from lrf_optuna.fitting import sequential
from lrf_optuna.models.layer_kinds import walk_layers
from lrf_optuna.models.partial_forward import traced
from lrf_optuna.models.surgery import materialize
from lrf_optuna.pipeline.build import EQUAL, build, check_equal, relative_difference
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.plan_refits import RefitResult
from lrf_optuna.selection.sequential_refit import SequentialRefit

CLASSES = 5


def deep_net(**norm: Any) -> Any:
    """Plain, grouped and strided convolutions one after the other, so that errors add up."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    x = layers.Conv2D(16, 3, padding="same", groups=2, activation="relu", name="grouped")(x)
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="strided")(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu", name="last")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="top")(layers.Flatten()(x)))


def heads_net() -> Any:
    """EinsumDense layers over positions, into heads and out of them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 10, 3))
    x = layers.Reshape((20, 15))(inputs)
    x = layers.EinsumDense("abc,cde->abde", (20, 4, 6), bias_axes="de", activation="tanh", name="into")(x)
    x = layers.EinsumDense("...de,fde->...f", 16, bias_axes="f", activation="relu", name="out")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="top")(layers.Flatten()(x)))


def pictures(count: int = 300) -> Array:
    rng = np.random.default_rng(1)
    return np.kron(rng.standard_normal((count, 5, 5, 3)), np.ones((1, 2, 2, 1))).astype(np.float32)


def plan_of(proxy: Proxy, keep: float, method: str = "channel_svd") -> Plan:
    return Plan.of({site: proxy.choice(site, method, keep) if site != "top" else INTACT for site in proxy.sites})


def stages_of(proxy: Proxy, plan: Plan) -> dict[str, tuple[Array, ...]]:
    return {site: proxy.kernels.stages(site, choice) for site, choice in plan}


def refitted(proxy: Proxy, plan: Plan, kernels: dict[str, tuple[Array, ...]], images: Array) -> Any:
    """The stage kernels refitted in layer order to images."""
    return SequentialRefit(proxy, images, traced(proxy.network, images[:1]))(plan, kernels, 0.2)


@pytest.mark.parametrize("method", ["channel_svd", "cp3", "spatial_svd", "tucker2"])
def test_a_refit_in_order_brings_the_network_closer_to_the_original(method: str) -> None:
    model, images = deep_net(), pictures()
    proxy = Proxy(model, images)
    plan = plan_of(proxy, 0.25, method)
    kernels = stages_of(proxy, plan)
    fitted = refitted(proxy, plan, kernels, images[len(proxy.scored) :])
    scores = [
        alike(materialize(model, plan, k), proxy.scored.images, proxy.scored.reference[OUTPUT])
        for k in (kernels, fitted)
    ]
    assert scores[1] > scores[0]


def test_layers_of_several_axes_are_refitted_in_order_too() -> None:
    model, images = heads_net(), pictures()
    proxy = Proxy(model, images)
    plan = plan_of(proxy, 0.4, "svd")
    kernels = stages_of(proxy, plan)
    assert [name for name, choice in plan if choice != INTACT] == ["into", "out"]
    fitted = refitted(proxy, plan, kernels, images[len(proxy.scored) :])
    scores = [
        alike(materialize(model, plan, k), proxy.scored.images, proxy.scored.reference[OUTPUT])
        for k in (kernels, fitted)
    ]
    assert scores[1] > scores[0]
    built = build(model, plan, proxy, RefitResult(fitted, None, 0.0, scores[1], True))
    assert built.count_params() == proxy.measure(plan).params
    assert alike(built, proxy.scored.images, proxy.scored.reference[OUTPUT]) == pytest.approx(scores[1], abs=1e-6)


@pytest.mark.parametrize("wide", [0, 10**6])
def test_a_refit_in_order_changes_only_what_the_plan_changes_and_of_wide_layers_the_last_stage(
    wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "WIDE", wide)
    model, images = deep_net(), pictures()
    proxy = Proxy(model, images)
    plan = plan_of(proxy, 0.3)
    kernels = stages_of(proxy, plan)
    before = {site: [kernel.copy() for kernel in stages] for site, stages in kernels.items()}
    fitted = refitted(proxy, plan, kernels, images[len(proxy.scored) :])
    for site, choice in plan:
        assert all(np.array_equal(a, b) for a, b in zip(kernels[site], before[site], strict=True))
        assert [a.shape for a in fitted[site]] == [a.shape for a in kernels[site]]
        same = [np.array_equal(a, b) for a, b in zip(fitted[site], kernels[site], strict=True)]
        if site != "first":  # which sees what it saw before: nothing may be left to gain there
            assert same == ([True] if choice == INTACT else [not wide, False])


def test_the_first_layer_sees_what_the_original_sees_so_its_refit_is_the_plain_least_squares_one() -> None:
    model, images = deep_net(), pictures()
    proxy = Proxy(model, images)
    plan = Plan.of({"first": proxy.choice("first", "channel_svd", 0.6)})
    kernels = stages_of(proxy, plan)
    fitted = refitted(proxy, plan, kernels, images)
    built = materialize(model, plan, fitted).get_layer("first")
    inner = np.asarray(built.layers[0](images)).reshape(-1, kernels["first"][-1].shape[-2])
    layer = model.get_layer("first")
    goal = np.asarray(keras.ops.conv(images, layer.kernel, padding="same")).reshape(len(inner), -1)
    best = np.linalg.lstsq(inner, goal, rcond=None)[0]
    old = kernels["first"][-1].reshape(best.shape)
    wanted = (best + 0.05 * old) / 1.05
    np.testing.assert_allclose(fitted["first"][-1].reshape(best.shape), wanted, atol=2e-2 * np.abs(best).max())


def test_a_build_that_is_not_what_was_scored_is_a_bug_that_is_told() -> None:
    model, images = deep_net(), pictures()
    proxy = Proxy(model, images)
    plan = plan_of(proxy, 0.3)
    built = materialize(model, plan, stages_of(proxy, plan))
    check_equal(built, proxy, plan, proxy.dense_kernels(plan))
    dict(walk_layers(built))["top"].bias.assign_add(np.ones(CLASSES))
    with pytest.raises(LrfError, match="the built network is not the scored one"):
        check_equal(built, proxy, plan, proxy.dense_kernels(plan))


def half_net() -> Any:
    """Layers that compute in half precision, tensorized Dense layers among them, and logits in single precision."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", dtype="mixed_float16", name="conv")(inputs)
    x = layers.Conv2D(24, 3, activation="relu", dtype="mixed_float16", name="deep")(x)
    x = layers.Dense(48, activation="relu", dtype="mixed_float16", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, name="top")(x))


def test_the_rounding_of_half_precision_is_not_taken_for_a_bug_but_another_network_is() -> None:
    proxy = Proxy(half_net(), pictures(200))
    methods = {"conv": "cp3", "deep": "tucker2", "hidden": "kronecker"}
    plan = Plan.of({site: proxy.choice(site, method, 0.5) for site, method in methods.items()})
    kernels = stages_of(proxy, plan)
    built = materialize(proxy.network.model, plan, kernels)
    check_equal(built, proxy, plan, proxy.dense_kernels(plan))
    other = {site: tuple(1.1 * kernel for kernel in stages) for site, stages in kernels.items()}
    with pytest.raises(LrfError, match="the built network is not the scored one"):
        check_equal(materialize(proxy.network.model, plan, other), proxy, plan, proxy.dense_kernels(plan))


def sensitive_net() -> Any:
    """A network whose logits are small differences of large numbers: rounding alone changes them by a thousandth."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(16, 3, padding="same", name="first")(inputs)
    x = layers.Flatten()(layers.Conv2D(16, 3, padding="same", name="second")(x))
    model = keras.Model(inputs, layers.Dense(CLASSES, name="top")(layers.Concatenate()([x, x])))
    kernel, bias = model.get_layer("top").get_weights()
    half = len(kernel) // 2
    model.get_layer("top").set_weights([np.concatenate([kernel[:half] + 1000, 0 * kernel[half:] - 1000]), bias])
    return model


def test_what_differs_by_rounding_alone_is_built_whatever_the_size_of_the_rounding() -> None:
    model, images = sensitive_net(), pictures(200)
    proxy = Proxy(model, images)
    plan = Plan.of({site: proxy.choice(site, "channel_svd", 0.5) for site in ("first", "second")})
    kernels = stages_of(proxy, plan)
    built = materialize(model, plan, kernels)
    swaps = proxy.dense_kernels(plan)
    scored = proxy.network.run(proxy.scored.tensors, swaps)
    assert relative_difference(proxy.network.outputs_of_model(built, proxy.scored.images), scored) > EQUAL
    check_equal(built, proxy, plan, swaps)


def test_a_built_network_with_other_parameters_than_were_counted_is_told_in_one_line() -> None:
    model, images = deep_net(), pictures()
    proxy = Proxy(model, images)
    plan, other = plan_of(proxy, 0.3), plan_of(proxy, 0.5)
    built = materialize(model, other, stages_of(proxy, other))
    with pytest.raises(LrfError, match=r"parameters, but [\d,]+ were counted") as raised:
        check_equal(built, proxy, plan, proxy.dense_kernels(plan))
    assert "\n" not in str(raised.value)
