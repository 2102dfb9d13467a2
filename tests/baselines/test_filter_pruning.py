"""Filters that are pruned by zeros against networks that are really cut, by hand; and whose filters cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from lrf_optuna.baselines.filter_pruning import PrunedNetwork, channel_groups, prune_filters
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.scoring.proxy import Proxy

Array = np.ndarray[Any, Any]
Kept = dict[str, Array]
SHAPE = (8, 8, 3)


def residual(inner: int = 12, hidden: int = 20) -> Any:
    """A block whose inner convolution can lose filters, and a hidden Dense layer."""
    inputs = keras.Input(SHAPE)
    x = start = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    x = layers.Conv2D(inner, 3, padding="same", name="inner")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="outer")(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization(name="outer_norm")(x), start]))
    x = layers.Dense(hidden, activation="sigmoid", name="hidden")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(6, name="top")(x))


def sequence(first: int = 10, second: int = 12, hidden: int = 16) -> Any:
    """Like VGG, with a depthwise convolution of two filters a channel between, and Flatten before Dense."""
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(first, 3, activation="elu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ZeroPadding2D(1),
            layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise"),
            layers.MaxPooling2D(2),
            layers.Conv2D(second, 2, padding="same", use_bias=False, name="second"),
            layers.BatchNormalization(scale=False, name="second_norm"),
            layers.Activation("softplus"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(hidden, activation="tanh", name="hidden"),
            layers.Dense(6, activation="softmax", name="top"),
        ]
    )


def cut_residual(kept: Kept) -> tuple[Any, dict[str, Any]]:
    """The smaller network, and of each weight the entries that are left."""
    inner, hidden = kept["inner"], kept["hidden"]
    return residual(len(inner), len(hidden)), {
        "inner": [np.s_[..., inner], inner],
        "norm": [inner] * 4,
        "outer": [np.s_[:, :, inner]],
        "hidden": [np.s_[:, hidden], hidden],
        "top": [hidden, np.s_[:]],
    }


def cut_sequence(kept: Kept) -> tuple[Any, dict[str, Any]]:
    first, second, hidden = kept["first"], kept["second"], kept["hidden"]
    doubled = np.array([2 * channel + i for channel in first for i in (0, 1)])
    flat = np.array([12 * position + channel for position in range(9) for channel in second])
    return sequence(len(first), len(second), len(hidden)), {
        "first": [np.s_[..., first], first],
        "norm": [first] * 4,
        "depthwise": [np.s_[:, :, first], doubled],
        "second": [np.ix_(range(2), range(2), doubled, second)],
        "second_norm": [second] * 3,
        "hidden": [np.ix_(flat, hidden), hidden],
        "top": [hidden, np.s_[:]],
    }


NETWORKS: dict[str, tuple[Callable[[], Any], Callable[[Kept], tuple[Any, dict[str, Any]]]]] = {
    "residual": (residual, cut_residual),
    "sequence": (sequence, cut_sequence),
}


def filled(model: Any) -> Any:
    """A network of which no weight is trivial: a channel that is only half gone is seen."""
    rng = np.random.default_rng(5)
    model.set_weights(
        [w + rng.uniform(0.1, 0.6, w.shape).astype(np.float32) * (w.ndim == 1) for w in model.get_weights()]
    )
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest, images: Array) -> tuple[str, Proxy]:
    keras.utils.set_random_seed(3)
    return request.param, Proxy(filled(NETWORKS[request.param][0]()), images, refit=False)


def share_of(found: PrunedNetwork, cost: str) -> float:
    return float(getattr(found.measured, f"{cost}_share"))


def really_cut(name: str, model: Any, found: PrunedNetwork) -> Any:
    """The network that is left, built by hand."""
    kept = {
        site: np.setdiff1d(np.arange(model.get_layer(site).kernel.shape[-1]), gone)
        for site, gone in found.removed.items()
    }
    small, entries = NETWORKS[name][1](kept)
    for layer in model.layers:
        if layer.weights:
            own = [np.s_[...]] * len(layer.weights)
            weights = [w[part] for w, part in zip(layer.get_weights(), entries.get(layer.name, own), strict=True)]
            small.get_layer(layer.name).set_weights(weights)
    return small


@pytest.mark.parametrize("budget", [{"params": 0.7}, {"macs": 0.5}, {"params": 0.45, "macs": 0.6}], ids=str)
def test_zeros_for_a_channel_are_the_network_without_it(
    case: tuple[str, Proxy], images: Array, budget: dict[str, float]
) -> None:
    name, proxy = case
    found = prune_filters(proxy, budget)
    assert all(share_of(found, cost) <= most for cost, most in budget.items())
    small = really_cut(name, proxy.network.model, found)
    theirs = proxy.network.logits_of_model(small, images)
    np.testing.assert_allclose(proxy.network.logits(images, found.kernels), theirs, atol=2e-5)
    assert not np.allclose(proxy.network.logits(images, {}), theirs, atol=1e-2)
    assert found.measured.params == small.count_params()
    assert found.measured.macs == find_sites(small).macs
    assert share_of(found, "params") == small.count_params() / proxy.inventory.params
    assert share_of(found, "macs") == find_sites(small).macs / proxy.inventory.macs


def test_only_the_inner_convolution_of_a_block_loses_filters(images: Array) -> None:
    groups = channel_groups(Proxy(residual(), images, refit=False))
    assert list(groups) == ["inner", "hidden"]
    assert list(groups["inner"].consumers) == ["outer"]
    assert "norm" in groups["inner"].between


def test_all_readers_of_a_layer_get_the_zeros(proxy: Proxy, images: Array) -> None:
    """In the shared network two convolutions read the stem."""
    assert set(channel_groups(proxy)["stem"].consumers) == {"down", "short"}
    found = prune_filters(proxy, {"params": 0.8})
    for reader in ("down", "short"):
        kernel = found.kernels[reader]
        assert not kernel[:, :, found.removed["stem"]].any()
        assert np.count_nonzero(kernel.any(axis=(0, 1, 3))) == 8 - len(found.removed["stem"])


def test_the_same_fraction_goes_in_every_layer_and_the_weakest_filters_first(case: tuple[str, Proxy]) -> None:
    _, proxy = case
    found = prune_filters(proxy, {"params": 0.6})
    shares = []
    for site, gone in found.removed.items():
        norms = np.abs(proxy.kernels.originals[site]).reshape(-1, proxy.sites[site].op.cout).sum(0)
        rest = np.setdiff1d(np.arange(len(norms)), gone)
        assert norms[gone].max(initial=0) <= norms[rest].min()
        shares.append((len(gone) / len(norms), (len(gone) + 1) / len(norms)))
    assert max(low for low, _ in shares) < min(high for _, high in shares)


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_a_smaller_budget_removes_more_and_costs_no_more(case: tuple[str, Proxy], cost: str) -> None:
    found = [prune_filters(case[1], {cost: share}) for share in (0.9, 0.7, 0.5)]
    for larger, smaller in pairwise(found):
        assert share_of(smaller, cost) <= share_of(larger, cost)
        assert all(set(larger.removed[site]) <= set(smaller.removed[site]) for site in larger.removed)


def test_equal_budgets_give_equal_networks_and_nothing_is_changed(case: tuple[str, Proxy]) -> None:
    _, proxy = case
    before = {site: kernel.copy() for site, kernel in proxy.kernels.originals.items()}
    budget = {"params": 0.5}
    first, second = prune_filters(proxy, budget), prune_filters(proxy, budget)
    assert budget == {"params": 0.5}
    for site, kernel in first.kernels.items():
        np.testing.assert_array_equal(kernel, second.kernels[site])
    for site, kernel in before.items():
        np.testing.assert_array_equal(kernel, proxy.kernels.originals[site])


def test_a_budget_of_everything_removes_nothing(case: tuple[str, Proxy]) -> None:
    found = prune_filters(case[1], {"params": 1.0})
    assert not found.kernels
    assert share_of(found, "params") == share_of(found, "macs") == 1.0


def test_a_budget_that_no_pruning_meets_is_refused_with_what_the_smallest_has(case: tuple[str, Proxy]) -> None:
    with pytest.raises(LrfError, match=r"the smallest has params 0\.\d+"):
        prune_filters(case[1], {"params": 0.01})


@pytest.mark.parametrize("budget", [{}, {"loss": 0.5}], ids=str)
def test_a_budget_of_nothing_known_is_refused(case: tuple[str, Proxy], budget: dict[str, float]) -> None:
    with pytest.raises(LrfError, match="budget"):
        prune_filters(case[1], budget)


def gelu_of_mine(x: Any) -> Any:
    return keras.ops.gelu(x)


BARRIERS: dict[str, Callable[[Any], Any]] = {
    "a sum": lambda x: layers.Add()([x, layers.ReLU()(x)]),
    "a concatenation": lambda x: layers.Concatenate()([x, layers.ReLU()(x)]),
    "an operation": lambda x: keras.ops.multiply(x, 2.0),
    "a permutation": lambda x: layers.Permute((2, 1, 3))(x),
    "a reshape": lambda x: layers.Reshape((4, 16, 12))(x),
    "a softmax": lambda x: layers.Activation("softmax")(x),
    "a custom activation": lambda x: layers.Activation(gelu_of_mine)(x),
    "a normalization over channels": lambda x: layers.LayerNormalization()(x),
    "a normalization of rows": lambda x: layers.BatchNormalization(axis=1)(x),
    "a grouped convolution": lambda x: layers.Conv2D(12, 3, groups=2)(x),
    "a layer called twice": lambda x: (twice := layers.Conv2D(12, 3, padding="same"))(twice(x)),
    "a reader too small to be a site": lambda x: layers.Conv2D(1, 1)(x),
}


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_layer_whose_channels_meet_keeps_its_filters(barrier: str, images: Array) -> None:
    inputs = keras.Input(SHAPE)
    x = BARRIERS[barrier](layers.Conv2D(12, 3, padding="same", name="before")(inputs))
    x = layers.Conv2D(12, 3, activation="relu", name="after")(x)
    model = keras.Model(inputs, layers.Dense(6)(layers.GlobalMaxPooling2D()(x)))
    assert list(channel_groups(Proxy(model, images, refit=False))) == ["after"]


@pytest.mark.parametrize("activation", ["softmax", gelu_of_mine])
def test_an_activation_that_may_mix_channels_keeps_its_layers_filters(activation: Any, images: Array) -> None:
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(12, 3, activation=activation)(inputs)
    model = keras.Model(inputs, layers.Dense(6)(layers.GlobalMaxPooling2D()(x)))
    with pytest.raises(LrfError, match="no layer of this network can lose filters"):
        prune_filters(Proxy(model, images, refit=False), {"params": 0.5})


def test_a_layer_that_another_output_shows_keeps_its_filters(images: Array) -> None:
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(12, 3, name="shown")(inputs)
    y = layers.Conv2D(12, 3, name="hidden")(x)
    model = keras.Model(inputs, [layers.Dense(6)(layers.Flatten()(y)), x])
    assert list(channel_groups(Proxy(model, images, refit=False))) == ["hidden"]


def test_a_reader_in_another_model_does_not_count(images: Array) -> None:
    """Layers of a network may be in others too: only this one's calls are looked at."""
    model = residual()
    keras.Model(model.inputs, layers.Add()([model.get_layer("norm").output, model.get_layer("inner").output]))
    assert list(channel_groups(Proxy(model, images, refit=False))) == ["inner", "hidden"]


def test_inside_a_nested_model_the_inner_layers_lose_filters(images: Array) -> None:
    inputs = keras.Input(SHAPE)
    nest = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(12, 3, name="a"), layers.Conv2D(10, 3, name="b")], name="nest"
    )
    model = keras.Model(inputs, layers.Dense(6)(layers.GlobalMaxPooling2D()(nest(inputs))))
    found = prune_filters(Proxy(model, images, refit=False), {"params": 0.6})
    assert list(found.removed) == ["nest/a"]
    assert list(found.kernels) == ["nest/b"]


def test_every_site_with_a_group_loses_distinct_filters(case: tuple[str, Proxy]) -> None:
    found: Mapping[str, Array] = prune_filters(case[1], {"params": 0.5}).removed
    assert all(len(gone) == len(set(gone.tolist())) > 0 for gone in found.values())
