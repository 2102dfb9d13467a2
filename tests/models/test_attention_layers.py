"""Factorized projections of attention layers are those of the composed kernels, however the layer is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.fitting import fit

from lrf_optuna.decompositions.registry import choice_of, compose
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.models.layer_kinds import assign_kernel, read_kernel, walk_layers
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.proxy import Proxy

WORDS, STEPS, SIZE = 30, 9, 24


def attention(**how: Any) -> Any:
    return layers.MultiHeadAttention(4, 6, name="attention", **how)


def pooled(x: Any) -> Any:
    return layers.GlobalAveragePooling1D()(x)


CALLS: dict[str, Callable[[Any], Any]] = {
    "self": lambda x: pooled(x + attention()(x, x)),
    "causal": lambda x: pooled(attention()(x, x, use_causal_mask=True)),
    "without bias": lambda x: pooled(attention(use_bias=False)(query=x, value=x)),
    "of another length": lambda x: pooled(attention(value_dim=5, output_shape=20)(x[:, :4], x)),
    "key and value apart": lambda x: pooled(attention(dropout=0.1)(x, x, key=layers.Dense(18)(x))),
    "with an attention mask": lambda x: pooled(attention()(x, x, attention_mask=keras.ops.ones((1, 9, 9)) > 0)),
    "called twice": lambda x: pooled((layer := attention())(layer(x, x), x)),
    "over one axis": lambda x: pooled(
        layers.Reshape((9, 24))(attention(attention_axes=2)(y := layers.Reshape((3, 3, 24))(x), y))
    ),
    "frozen": lambda x: pooled(attention(trainable=False)(x, x)),
    "in a nested model": lambda x: pooled(keras.Model(y := keras.Input((STEPS, SIZE)), attention()(y, y))(x)),
}


def model_of(call: str, masked: bool = False) -> Any:
    words = keras.Input((STEPS,))
    model = keras.Model(words, CALLS[call](layers.Embedding(WORDS, SIZE, mask_zero=masked, name="words")(words)))
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(w.shape) / (1 if w.shape[0] == WORDS else 4) for w in model.get_weights()])
    return model


def sentences() -> Any:
    x = np.random.default_rng(2).integers(1, WORDS, (8, STEPS)).astype(np.float32)
    x[0, 4:] = x[3, 2:] = 0
    return x


def factorized(model: Any, names: tuple[str, ...]) -> tuple[Any, Plan]:
    """The built model and its plan; the model itself gets the composed kernels."""
    held, choices, kernels = dict(walk_layers(model)), {}, {}
    for site in find_sites(model).sites:
        if site.name.rpartition("/")[2] in names:
            choices[site.name] = choice_of(site.op, "svd", 0.6)
            kernels[site.name] = fit(site.op, choices[site.name], read_kernel(held[site.name]), None)
    plan = Plan.of(choices)
    built = materialize(model, plan, kernels)
    for site in find_sites(model).sites:
        if site.name in choices:
            assign_kernel(held[site.name], compose(site.op, choices[site.name], kernels[site.name]))
    return built, plan


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=2e-5)


@pytest.mark.parametrize("names", [("query",), ("key",), ("value",), ("query", "key", "value")], ids="+".join)
@pytest.mark.parametrize("call", CALLS)
def test_factorized_projections_are_those_of_the_composed_kernels(call: str, names: tuple[str, ...]) -> None:
    model = model_of(call)
    inventory = find_sites(model)
    built, plan = factorized(model, names)
    assert len(plan.choices) == len(names)
    close(built(sentences()), model(sentences()))
    assert (built.count_params(), find_sites(built).macs) == plan_counts(inventory, plan)
    assert built.count_params() < model.count_params()


@pytest.mark.parametrize("names", [("query",), ("key",), ("query", "key", "value")], ids="+".join)
@pytest.mark.parametrize("call", ["self", "causal", "of another length"])
def test_masks_reach_a_factorized_attention_layer_and_what_follows(call: str, names: tuple[str, ...]) -> None:
    model = model_of(call, masked=True)
    built, _ = factorized(model, names)
    close(built(sentences()), model(sentences()))


def test_what_is_scored_is_what_is_built() -> None:
    model, x = model_of("self"), np.random.default_rng(3).integers(0, WORDS, (40, STEPS)).astype(np.float32)
    proxy = Proxy(model, x)
    plan = Plan.of({name: proxy.choice(name, "svd", 0.5) for name in proxy.sites})
    built = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    close(proxy.logits(plan, x), built(x, training=False))


def test_a_built_model_trains_and_loads_as_plain_keras(tmp_path: Path) -> None:
    model = model_of("self")
    built, _ = factorized(model, ("query", "value"))
    built.compile("sgd", "mse")
    assert np.isfinite(built.train_on_batch(sentences(), np.asarray(model(sentences()))))
    built.save(tmp_path / "model.keras")
    close(keras.models.load_model(tmp_path / "model.keras")(sentences()), built(sentences()))
    assert {layer.name for layer in built.layers} >= {"attention", "attention_query_1", "attention_value_1"}


def test_projections_that_cannot_be_factorized_say_why() -> None:
    def found(model: Any) -> dict[str, str]:
        return {row.path: row.reason for row in find_sites(model).rows if "attention/" in row.path}

    inputs = keras.Input((STEPS, SIZE))
    model = keras.Model(inputs, pooled(attention()(inputs, inputs)))
    assert not any(found(model)[f"attention/{name}"] for name in ("query", "key", "value"))
    assert found(model)["attention/attention_output"].endswith("only query, key and value are factorized")
    why = "a projection of a MultiHeadAttention layer that is in a model inside a Sequential"
    assert set(found(keras.Sequential([keras.Input((STEPS, SIZE)), model, layers.Dense(3)])).values()) == {why}
