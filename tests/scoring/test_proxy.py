"""A plan's score is what the network that is built from it would get, and is never worked out twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.objectives import OBJECTIVES
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.similarity import SIMILARITIES

Array = np.ndarray[Any, Any]


def plan_at(proxy: Proxy, keep: float, turn: int = 0) -> Plan:
    """Every site by one of its methods, in turn."""
    choices = {}
    for i, site in enumerate(proxy.sites):
        methods = proxy.methods_of(site)[1:]
        choices[site] = proxy.choice(site, methods[(i + turn) % len(methods)], keep)
    return Plan.of(choices)


def built(proxy: Proxy, plan: Plan) -> Any:
    kernels = {site: proxy.kernels.stages(site, choice) for site, choice in plan if choice != INTACT}
    return materialize(proxy.network.model, plan, kernels)


def near(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_original_loses_nothing_and_costs_one(net: Any, images: Array, similarity: str) -> None:
    proxy = Proxy(net, images, similarity=similarity, refit=False)
    for plan in (Plan(()), Plan.of(dict.fromkeys(proxy.sites, INTACT))):
        costs = proxy.costs(plan)
        assert set(costs) == set(OBJECTIVES) - {"latency"}
        assert costs["loss"] == pytest.approx(0, abs=1e-6)
        assert (costs["params"], costs["macs"]) == (1, 1)
        assert proxy.measure(plan).params == net.count_params()


@pytest.mark.parametrize("turn", range(4))
def test_the_scored_logits_are_those_of_the_built_network(proxy: Proxy, images: Array, turn: int) -> None:
    plan = plan_at(proxy, 0.5, turn)
    model = built(proxy, plan)
    scored = proxy.network.run(proxy.scored.tensors, proxy.dense_kernels(plan))["logits"]
    near(scored, model(proxy.scored.images, training=False))
    near(proxy.logits(plan, images), model(images, training=False))
    measured = proxy.measure(plan)
    assert measured.params == model.count_params()
    centered = (values - values.mean(axis=1, keepdims=True) for values in (proxy.scored.reference["logits"], scored))
    alike = SIMILARITIES["cosine"](*centered)
    assert measured.similarity == {"logits": pytest.approx(alike, abs=1e-6)}


def test_plans_are_compared_by_their_logits(proxy: Proxy) -> None:
    plan = plan_at(proxy, 0.5)
    assert proxy.costs(plan)["loss"] == 1 - proxy.measure(plan).similarity["logits"]


def test_a_softmax_is_scored_by_its_logits(images: Array) -> None:
    keras.utils.set_random_seed(0)
    logits = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(12, 3, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(6, name="top"),
        ]
    )
    softmax = keras.models.clone_model(logits)
    softmax.add(keras.layers.Softmax())
    softmax.set_weights(logits.get_weights())
    plain, soft = Proxy(logits, images), Proxy(softmax, images)
    plan = plan_at(plain, 0.5)
    a, b = plain.logits(plan, images), soft.logits(plan, images)
    np.testing.assert_allclose(b, a - a.mean(1, keepdims=True), atol=1e-3)


def test_a_network_in_mixed_precision_is_scored_as_it_is_built(images: Array) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(12, 3, activation="relu", name="conv", dtype="mixed_float16")(inputs)
    x = keras.layers.Conv2D(12, 3, name="deep", dtype="mixed_float16")(x)
    x = keras.layers.Flatten(dtype="mixed_float16")(x)
    proxy = Proxy(keras.Model(inputs, keras.layers.Dense(6, name="top", dtype="float32")(x)), images)
    assert proxy.costs(Plan(()))["loss"] == pytest.approx(0, abs=1e-6)
    plan = plan_at(proxy, 0.6)
    near(proxy.logits(plan, images), built(proxy, plan)(images, training=False), 0.02)


def test_a_plan_that_comes_again_is_not_scored_again(net: Any, images: Array) -> None:
    proxy = Proxy(net, images, refit=False)
    first, again = plan_at(proxy, 0.5), plan_at(proxy, 0.5)
    assert first is not again
    measured = proxy.measure(first)
    proxy.scored = None  # type: ignore[assignment]  # whoever passes the images now fails
    assert proxy.measure(again) is measured
    assert proxy.costs(again) == proxy.costs(first)


def test_only_the_latest_costs_are_remembered(net: Any, images: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf_optuna.scoring.proxy.MEASURED_PLANS", 3)
    proxy = Proxy(net, images, refit=False)
    plans = [plan_at(proxy, 0.5, turn) for turn in range(5)]
    costs = [proxy.costs(plan) for plan in plans]
    assert list(proxy.measured) == plans[2:]
    assert [proxy.costs(plan) for plan in plans] == costs


def test_moments_are_gathered_where_a_fit_needs_them(net: Any, images: Array) -> None:
    proxy = Proxy(net, images)
    proxy.costs(Plan.of(dict.fromkeys(proxy.sites, INTACT)))
    np.testing.assert_array_equal(proxy.kernels.stages("deep", INTACT)[0], proxy.kernels.originals["deep"])
    assert "moments" not in vars(proxy)
    proxy.costs(plan_at(proxy, 0.5))
    assert set(proxy.moments) == set(proxy.sites)
    assert proxy.fitting_images is None
    assert not Proxy(net, images, refit=False).moments


def test_images_too_large_for_one_pass_are_scored_in_several(
    net: Any, images: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Proxy(net, images)
    monkeypatch.setattr("lrf_optuna.models.model_inputs.MAP_BYTES", 5 * 8 * 8 * 8 * 4)
    parts = Proxy(net, images)
    assert (whole.network.batch_size, parts.network.batch_size) == (256, 5)
    assert len(parts.scored) == 16
    plan = plan_at(whole, 0.5)
    scored = [p.network.run(p.scored.tensors, p.dense_kernels(plan))["logits"] for p in (parts, whole)]
    near(*scored)
    assert parts.costs(plan) == pytest.approx(whole.costs(plan), abs=1e-6)
    near(parts.logits(plan, images), whole.logits(plan, images))
    near(parts.network.logits_of_model(net, images), whole.network.logits_of_model(net, images))


def test_kernels_are_not_copied_and_stay_what_they_were_when_the_model_is_trained_on(
    fresh_net: Callable[..., Any], images: Array
) -> None:
    model = fresh_net()
    proxy = Proxy(model, images, refit=False)
    layer = model.get_layer("deep")
    assert np.shares_memory(proxy.kernels.originals["deep"], np.asarray(proxy.network.original_kernels["deep"]))
    before, logits = proxy.kernels.originals["deep"].copy(), proxy.logits(Plan(()), images)
    layer.kernel.assign_add(np.ones(layer.kernel.shape, np.float32))
    model.compile("sgd", "mse")
    model.fit(images, np.ones((len(images), 5)), verbose=0)
    np.testing.assert_array_equal(proxy.kernels.originals["deep"], before)
    np.testing.assert_array_equal(np.asarray(proxy.network.original_kernels["deep"]), before)
    layer.bias.assign(np.zeros(layer.bias.shape))
    assert not np.array_equal(layer.kernel.numpy(), before)
    assert logits.shape == (len(images), 5)


def test_stage_kernels_are_remembered(proxy: Proxy) -> None:
    choice = proxy.choice("deep", "tucker2", 0.5)
    assert proxy.kernels.stages("deep", choice) is proxy.kernels.stages("deep", choice)
    assert proxy.kernels.dense("deep", choice) is proxy.kernels.dense("deep", choice)


@pytest.mark.parametrize("memory", [0, 1000, 20_000])
def test_a_small_memory_gives_the_same_scores(net: Any, images: Array, memory: int) -> None:
    small, ample = Proxy(net, images, memory=memory), Proxy(net, images)
    for keep in (0.3, 0.5, 0.3):
        plan = plan_at(ample, keep)
        assert small.costs(plan) == pytest.approx(ample.costs(plan), abs=1e-6)
    for cache in (small.kernels.fitted, small.kernels.composed):
        assert cache.currsize <= memory // 2
        assert cache.currsize == sum(map(cache.getsizeof, cache.values()))


def test_a_choice_that_saves_nothing_is_intact(proxy: Proxy) -> None:
    for site, held in proxy.sites.items():
        for method in proxy.methods_of(site):
            for keep in (0.01, 0.3, 0.7, 1.0, 5.0):
                choice = proxy.choice(site, method, keep)
                chain = DECOMPOSITIONS[choice.method].chain(held.op, choice.ranks)
                assert choice == INTACT or chain.params < held.op.params


def test_the_table_holds_every_distinct_option_with_its_costs(proxy: Proxy, table: Any, keeps: Any, net: Any) -> None:
    assert list(table) == list(proxy.sites)
    for site, options in table.items():
        assert len({option.choice for option in options}) == len(options)
        assert [option.loss for option in options if option.choice == INTACT] == [0]
        for option in options:
            plan = Plan.of({site: option.choice})
            measured = proxy.measure(plan)
            assert proxy.choice(site, option.method, option.keep) == option.choice
            assert option.choice == INTACT or option.loss > 0
            assert option.keep in keeps
            assert 1 - measured.params_share == pytest.approx(options[0].params - option.params, abs=1e-9), (
                "the first option is the intact layer"
            )
            assert 1 - measured.macs_share == pytest.approx(options[0].macs - option.macs, abs=1e-9)


def test_fits_are_never_judged_on_the_images_they_were_made_on(net: Any, images: Array) -> None:
    count = len(Proxy(net, images, refit=False).scored)
    assert count == len(images) // 4
    other = images.copy()
    other[:count] = np.random.default_rng(0).standard_normal(other[:count].shape)
    a, b = Proxy(net, images), Proxy(net, other)
    for site in a.sites:
        choice = a.choice(site, a.methods_of(site)[-1], 0.5)
        assert all(
            np.array_equal(x, y)
            for x, y in zip(a.kernels.stages(site, choice), b.kernels.stages(site, choice), strict=True)
        )


def test_a_fit_to_the_data_loses_less_than_the_plain_factorization(net: Any, images: Array) -> None:
    fitted, plain = Proxy(net, images), Proxy(net, images, refit=False)
    losses = [[p.costs(plan_at(p, 0.4, turn))["loss"] for turn in range(4)] for p in (fitted, plain)]
    assert np.mean(losses[0]) < np.mean(losses[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ["svd", "tuker2"]}, "unknown method 'tuker2' .*'tucker2'.*there is: "),
        ({"objectives": ["loss", "flops"]}, "unknown objective 'flops'.*there is: latency, loss, macs, params"),
        ({"similarity": "cosinus"}, "unknown similarity 'cosinus' .*'cosine'.*there is: agreement"),
    ],
)
def test_an_unknown_name_is_answered_with_the_names_there_are(
    net: Any, images: Array, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(LrfError, match=message):
        Proxy(net, images, **wrong)


def test_only_the_methods_that_were_asked_for_are_tried(net: Any, images: Array) -> None:
    proxy = Proxy(net, images, methods=["svd", "cp"], refit=False)
    assert proxy.methods_of("deep") == ("intact", "cp")
    assert proxy.methods_of("hidden") == ("intact", "svd")


def test_a_network_with_nothing_to_factorize_is_refused_with_the_reasons(images: Array) -> None:
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(2), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    with pytest.raises(LrfError, match=r"nothing in this model can be factorized .*Dense: too small"):
        Proxy(model, images)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_are_refused(net: Any, images: Array, count: int) -> None:
    with pytest.raises(LrfError, match="images"):
        Proxy(net, images[:count])


def test_two_images_are_enough(net: Any, images: Array) -> None:
    proxy = Proxy(net, images[:2])
    assert np.isfinite(proxy.costs(plan_at(proxy, 0.5))["loss"])


def test_logits_that_are_not_finite_are_not_alike_at_all(net: Any, images: Array) -> None:
    proxy = Proxy(net, images, refit=False)
    choice = Choice("svd", (2,))
    proxy.kernels.composed["hidden", choice] = np.full(proxy.sites["hidden"].op.kernel_shape, np.nan, np.float32)
    measured = proxy.measure(Plan.of({"hidden": choice}))
    assert measured.similarity["logits"] == 0
    assert proxy.costs(Plan.of({"hidden": choice}))["loss"] == 1


def test_an_objective_of_ones_own_is_scored_and_one_that_is_not_finite_is_refused(
    net: Any, images: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "worst output", lambda measured: 1 - min(measured.similarity.values()))
    monkeypatch.setitem(OBJECTIVES, "broken", lambda measured: float("nan"))
    proxy = Proxy(net, images, refit=False, objectives=("worst output", "params"))
    plan = plan_at(proxy, 0.3)
    assert proxy.costs(plan)["worst output"] == 1 - min(proxy.measure(plan).similarity.values())
    broken = Proxy(net, images, refit=False, objectives=("broken", "params"))
    with pytest.raises(LrfError, match=r"the objective 'broken' gave nan .*finite"):
        broken.costs(plan)


def test_scoring_leaves_the_model_as_it_was(fresh_net: Callable[..., Any], images: Array) -> None:
    model = fresh_net()
    before, out = model.get_weights(), np.asarray(model(images, training=False))
    proxy = Proxy(model, images)
    proxy.table((0.3,))
    proxy.costs(plan_at(proxy, 0.3))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert np.array_equal(model(images, training=False), out)
    assert all("call" not in vars(layer) for layer in model.layers)


def test_a_real_network_keeps_its_accuracy_at_less_than_half_its_weights(
    trained: Callable[[str], Any], real_images: Callable[[str, int], tuple[Array, Array]]
) -> None:
    pixels, labels = real_images("mnist", 700)
    x = (pixels.reshape(len(pixels), 28, 28, 1) / 256).astype(np.float32)
    proxy = Proxy(trained("lenet5_mnist"), x[:200], methods=["svd", "channel_svd"])
    largest = sorted(proxy.sites, key=lambda site: -proxy.sites[site].op.params)[:2]
    plan = Plan.of({site: proxy.choice(site, proxy.methods_of(site)[1], 0.4) for site in largest})
    right = np.mean(proxy.logits(plan, x[200:]).argmax(1) == labels[200:])
    assert proxy.measure(plan).params_share < 0.45
    assert right > 0.95
    near(proxy.logits(plan, x[:20]), built(proxy, plan)(x[:20], training=False))
