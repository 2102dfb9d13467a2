"""What is built equals what was scored, is plain Keras, and leaves the original as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.fitting import fit
from support.sequences import SEQUENCE_KINDS

from lrf_optuna.decompositions.registry import applicable_methods, chain_of, choice_of, compose, saving_methods
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.models.layer_kinds import LAYERS, kernel_of, read_kernel, to_keras_kernel, walk_layers
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Choice, Plan

Array = np.ndarray[Any, Any]


def depthwise(how: dict[str, Any]) -> dict[str, Any]:
    """Options of a plain layer as a depthwise one calls them."""
    return {key.replace("kernel_", "depthwise_"): value for key, value in how.items()}


MAKERS: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[dict[str, Any], ...]]] = {
    "Dense": (lambda **how: layers.Dense(7, **how), (6, 10), ({},)),
    "Conv1D": (
        lambda **how: layers.Conv1D(7, how.pop("kernel_size", 3), **how),
        (9, 4),
        ({"padding": "same", "strides": 2}, {"padding": "causal", "dilation_rate": 2}),
    ),
    "Conv2D": (
        lambda **how: layers.Conv2D(7, how.pop("kernel_size", 3), **how),
        (9, 8, 4),
        (
            {"padding": "same"},
            {"padding": "same", "strides": 2},
            {"padding": "valid", "strides": (2, 1)},
            {"padding": "same", "dilation_rate": 2},
            {"padding": "valid", "dilation_rate": (1, 2)},
            {"kernel_size": (5, 1), "padding": "same", "strides": 2},
            {"kernel_size": (1, 5), "padding": "same"},
            {"kernel_size": (2, 4), "padding": "same", "strides": 2},
            {"kernel_size": 1, "strides": 2},
        ),
    ),
    "Conv3D": (
        lambda **how: layers.Conv3D(7, how.pop("kernel_size", 2), **how),
        (5, 4, 6, 4),
        ({"padding": "same"}, {"kernel_size": (3, 1, 2), "strides": (1, 1, 2), "padding": "valid"}),
    ),
    "DepthwiseConv1D": (
        lambda **how: layers.DepthwiseConv1D(5, depth_multiplier=3, **depthwise(how)),
        (9, 4),
        ({"padding": "same"},),
    ),
    "DepthwiseConv2D": (
        lambda **how: layers.DepthwiseConv2D(5, **depthwise(how)),
        (9, 8, 4),
        ({"padding": "same"}, {"padding": "same", "strides": 2}),
    ),
    "Conv1DTranspose": (
        lambda **how: layers.Conv1DTranspose(7, 3, **how),
        (9, 4),
        ({"padding": "same", "strides": 2},),
    ),
    "Conv2DTranspose": (
        lambda **how: layers.Conv2DTranspose(7, 3, **how),
        (5, 4, 4),
        ({"padding": "same", "strides": 2}, {"padding": "valid", "strides": 3}),
    ),
    "EinsumDense": (
        lambda **how: layers.EinsumDense(
            how.pop("equation", "abc,cde->abde"),
            how.pop("output_shape", (None, 3, 4)),
            bias_axes=("e" if how.pop("use_bias", True) else None),
            **how,
        ),
        (6, 10),
        ({}, {"equation": "...c,ec->...e", "output_shape": 7}, {"equation": "abc,dec->abed"}),
    ),
    "Conv3DTranspose": (lambda **how: layers.Conv3DTranspose(7, 3, **how), (3, 4, 3, 4), ({"strides": 2},)),
}
HOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "activation": {"activation": "relu"},
    "no bias": {"use_bias": False, "activation": "tanh"},
    "regularizers": {"kernel_regularizer": keras.regularizers.L2(0.01), "bias_regularizer": "l1"},
    "constraints": {"kernel_constraint": "max_norm", "bias_constraint": "non_neg"},
    "activity regularizer": {"activity_regularizer": keras.regularizers.L2(0.01)},
    "frozen": {"trainable": False},
    "float16": {"dtype": "mixed_float16"},
    "float64": {"dtype": "float64"},
}
FACTORIZED = [kind for kind in LAYERS if kind not in SEQUENCE_KINDS]
SHAPES = [(kind, shape) for kind in FACTORIZED if kind in MAKERS for shape in MAKERS[kind][2]]


def one_layer(kind: str, **how: Any) -> Any:
    """A model of one layer named `one`, with a random bias."""
    make, shape, _ = MAKERS[kind]
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    layer = make(name="one", **how)
    model = keras.Model(inputs, layer(inputs))
    if layer.bias is not None:
        layer.bias.assign(np.random.default_rng(2).uniform(0, 1, layer.bias.shape))
    return model


def images_for(model: Any, count: int = 3) -> Array:
    return np.random.default_rng(3).standard_normal((count, *model.input_shape[1:])).astype(np.float32)


def methods_for(kind: str, **how: Any) -> list[str]:
    """The methods that have a chain with fewer weights in a layer's place."""
    op = LAYERS[kind].read(one_layer(kind, **how).get_layer("one"))  # type: ignore[misc]
    return [name for name in applicable_methods(op) if choice_of(op, name, 0.9) != INTACT]


def planned(model: Any, pick: Callable[[list[str]], str], keep: float = 0.5) -> tuple[Plan, dict[str, Any]]:
    """A plan for every site, and the stage kernels for it."""
    held, choices, kernels = dict(walk_layers(model)), {}, {}
    for site in find_sites(model).sites:
        method = pick([name for name in applicable_methods(site.op) if choice_of(site.op, name, keep) != INTACT])
        choices[site.name] = choice_of(site.op, method, keep)
        kernels[site.name] = fit(site.op, choices[site.name], read_kernel(held[site.name]), None)
    return Plan.of(choices), kernels


def composed(model: Any, plan: Plan, kernels: dict[str, Any]) -> Any:
    """A copy of the model whose layers have the composed kernels: what a plan is scored on."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    held = dict(walk_layers(copy))
    for site in find_sites(model).sites:
        layer = held[site.name]
        kernel_of(layer).assign(to_keras_kernel(layer, compose(site.op, plan[site.name], kernels[site.name])))
    return copy


def same(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=0, atol=tolerance * max(1, np.abs(b).max()))


def transfer() -> Any:
    """A nested extractor with BatchNorm and Dropout, a shared layer at two sizes, a softmax."""
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    base = keras.Model(inputs, layers.Conv2D(16, 3, strides=2, activation="relu", name="reduce")(x), name="base")
    outer = keras.Input((8, 8, 3))
    again = layers.Conv2D(16, 3, padding="same", name="again")
    x = again(layers.MaxPooling2D()(again(base(layers.RandomFlip()(outer)))))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(outer, layers.Dense(9, activation="softmax", name="top")(x))
    norm = base.get_layer("norm")
    norm.set_weights([np.random.default_rng(i).uniform(0.5, 2, w.shape) for i, w in enumerate(norm.get_weights())])
    return model


def test_every_kind_that_is_factorized_is_tested_here() -> None:
    assert set(FACTORIZED) <= set(MAKERS)


@pytest.mark.parametrize(
    ("kind", "shape", "method"),
    [
        pytest.param(kind, shape, method, id=f"{kind} {method} {shape}")
        for kind, shape in SHAPES
        for method in methods_for(kind, **shape)
    ],
)
def test_a_built_chain_equals_the_layer_with_the_composed_kernel(kind: str, shape: dict[str, Any], method: str) -> None:
    model = one_layer(kind, activation="sigmoid", **shape)
    plan, kernels = planned(model, lambda _: method)
    built = materialize(model, plan, kernels)
    x = images_for(model)
    same(built(x, training=False), composed(model, plan, kernels)(x, training=False))
    assert built.output_shape == model.output_shape
    assert built.count_params() == chain_of(find_sites(model).sites[0].op, plan["one"]).params + prod(
        model.get_layer("one").bias.shape
    )


def constraint(layer: Any) -> Any:
    """The constraint of a layer's kernel, whatever the layer calls it."""
    return getattr(layer, "kernel_constraint", None) or getattr(layer, "depthwise_constraint", None)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, method) for kind in FACTORIZED if kind in MAKERS for method in methods_for(kind, **MAKERS[kind][2][0])],
)
def test_a_built_chain_keeps_how_the_layer_was_made(kind: str, method: str, how: str) -> None:
    model = one_layer(kind, **MAKERS[kind][2][0], **HOWS[how])
    plan, kernels = planned(model, lambda _: method)
    built = materialize(model, plan, kernels)
    x = images_for(model)
    same(
        built(x, training=False), composed(model, plan, kernels)(x, training=False), 0.02 if how == "float16" else 1e-5
    )
    original, chain = model.get_layer("one"), built.get_layer("one")
    *inner, last = chain.layers
    assert [layer.name for layer in chain.layers] == [f"one_{i}" for i in range(1, len(chain.layers) + 1)]
    assert all(layer.dtype_policy.name == original.dtype_policy.name for layer in chain.layers)
    assert bool(built.trainable_variables) == chain.trainable == original.trainable
    assert last.activation is original.activation
    assert (last.bias is None) == (original.bias is None)
    if original.bias is not None:
        assert np.array_equal(last.bias, original.bias)
    assert all(layer.activation is keras.activations.linear and layer.bias is None for layer in inner)
    assert all(layer.activity_regularizer is None for layer in inner)
    for part in ("bias_regularizer", "activity_regularizer", "bias_constraint"):
        assert type(getattr(last, part)) is type(getattr(original, part))
    assert type(constraint(last)) is type(constraint(original))
    regularized = [getattr(v, "regularizer", None) is not None for v in built.variables]
    assert all(regularized) == (how == "regularizers")


@pytest.mark.parametrize("kind", [kind for kind in FACTORIZED if kind in MAKERS])
@pytest.mark.parametrize("turn", range(5))
def test_a_built_chain_trains_in_every_stage(kind: str, turn: int) -> None:
    model = one_layer(kind, **MAKERS[kind][2][-1 if kind != "Conv2D" else 1])
    plan, kernels = planned(model, lambda found: found[turn % len(found)])
    built = materialize(model, plan, kernels)
    built.compile("sgd", "mse", run_eagerly=True)
    before = built.get_weights()
    x = images_for(model)
    built.train_on_batch(x, np.zeros(built(x).shape, np.float32))
    after = built.get_weights()
    assert all(np.isfinite(w).all() and not np.array_equal(v, w) for v, w in zip(before, after, strict=True))


def test_a_nested_and_shared_model_is_built_as_it_was_scored_and_the_original_is_untouched() -> None:
    model = transfer()
    weights, config = model.get_weights(), json.dumps(model.get_config(), default=str)
    plan, kernels = planned(model, lambda found: found[-1])
    assert set(dict(plan)) == {"base/conv", "base/reduce", "again", "top"}
    built, x = materialize(model, plan, kernels), images_for(model)
    same(built(x, training=False), composed(model, plan, kernels)(x, training=False))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert json.dumps(model.get_config(), default=str) == config
    assert not {id(v) for v in model.variables} & {id(v) for v in built.variables}
    assert [layer.name for layer in built.layers][1:] == [layer.name for layer in model.layers][1:]
    assert [layer.name for layer in built.get_layer("base").layers][1:] == ["conv", "norm", "reduce"]


def test_what_is_not_factorized_is_copied_with_its_weights_and_its_state() -> None:
    model = transfer()
    plan, kernels = planned(model, lambda found: found[0])
    model.get_layer("base").get_layer("norm").trainable = False
    built = materialize(model, plan, kernels)
    old, new = (net.get_layer("base").get_layer("norm") for net in (model, built))
    assert all(np.array_equal(a, b) for a, b in zip(old.get_weights(), new.get_weights(), strict=True))
    assert not new.trainable
    assert built.get_layer("top").layers[-1].activation is keras.activations.softmax


def test_a_plan_of_intact_layers_builds_a_copy() -> None:
    model = transfer()
    built, x = materialize(model, Plan.of({"top": INTACT}), {}), images_for(model)
    assert np.array_equal(built(x, training=False), model(x, training=False))
    assert built.count_params() == model.count_params()


def test_a_frozen_extractor_stays_frozen() -> None:
    model = transfer()
    model.get_layer("base").trainable = False
    plan, kernels = planned(model, lambda found: found[0])
    built = materialize(model, plan, kernels)
    stages = sum(len(chain_of(s.op, plan[s.name]).stages) for s in find_sites(model).sites if "/" not in s.name)
    assert len(built.trainable_variables) == stages + 2
    assert not any("conv" in v.path or "reduce" in v.path or "norm" in v.path for v in built.trainable_variables)


def test_a_layer_that_cannot_be_copied_is_named() -> None:
    class Applied(layers.Layer):  # type: ignore[misc]
        """A layer that no configuration describes."""

        def __init__(self, function: Any, **how: Any) -> None:
            super().__init__(**how)
            self.function = function

        def call(self, inputs: Any) -> Any:
            return self.function(inputs)

    inputs = keras.Input((6, 10))
    model = keras.Model(inputs, Applied(lambda x: 2 * x, name="own")(layers.Dense(7, name="one")(inputs)))
    with pytest.raises(LrfError, match="the Applied layer 'own' cannot be copied: give it a get_config"):
        materialize(model, *planned(model, lambda found: found[0]))


def test_a_shared_layer_stays_one_layer() -> None:
    inputs = keras.Input((6, 10))
    shared = layers.EinsumDense("abc,cd->abd", (None, 10), bias_axes="d", name="shared")
    x = shared(layers.MaxPooling1D()(shared(inputs)))
    model = keras.Model(inputs, layers.Dense(5, name="top")(layers.GlobalAveragePooling1D()(x)))
    plan, kernels = planned(model, lambda found: found[0])
    built, x = materialize(model, plan, kernels), images_for(model)
    same(built(x, training=False), composed(model, plan, kernels)(x, training=False))
    assert sum(layer.name == "shared" for layer in built.layers) == 1
    assert find_sites(built).macs == sum(
        site.macs(chain_of(site.op, plan[site.name])) for site in find_sites(model).sites
    )


def test_a_shared_extractor_is_built_once() -> None:
    inputs = keras.Input((8, 8, 3))
    base = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(12, 3, name="conv")], name="base")
    both = layers.Subtract()([base(inputs), base(inputs[:, ::-1])])
    model = keras.Model(inputs, layers.Dense(5, name="top")(layers.Flatten()(both)))
    plan, kernels = planned(model, lambda found: found[0])
    built, x = materialize(model, plan, kernels), images_for(model)
    same(built(x, training=False), composed(model, plan, kernels)(x, training=False))
    assert sum(layer.name == "base" for layer in built.layers) == 1


@pytest.mark.parametrize("site", ["nowhere", "base/nowhere", "base"])
def test_a_plan_of_another_model_is_refused(site: str) -> None:
    with pytest.raises(LrfError, match=f"factorizes '{site}', which this model does not have"):
        materialize(transfer(), Plan.of({site: Choice("svd", (2,))}), {site: ()})


def test_a_plan_for_a_layer_that_cannot_be_factorized_is_refused() -> None:
    with pytest.raises(LrfError, match="but a BatchNormalization layer cannot be"):
        materialize(transfer(), Plan.of({"base/norm": Choice("svd", (2,))}), {"base/norm": ()})


LOADER = """
import importlib.util, json, sys
sys.path = [p for p in sys.path if "lrf" not in p.lower()]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "lrf_optuna":
            raise ImportError("blocked")
sys.meta_path.insert(0, Blocked())
import numpy as np, keras
folder = sys.argv[1]
worst = {}
for name in json.load(open(folder + "/names.json")):
    arrays = np.load(f"{folder}/{name}.npz")
    model = keras.models.load_model(f"{folder}/{name}.keras")
    worst[name] = float(np.abs(np.asarray(model(arrays["x"], training=False)).astype(float) - arrays["y"]).max())
assert not any(name.startswith("lrf_optuna") for name in sys.modules)
print(json.dumps(worst))
"""


def test_what_is_built_loads_where_lrf_optuna_cannot_be_imported(tmp_path: Path) -> None:
    models: dict[str, tuple[Any, Callable[[list[str]], str]]] = {
        f"transfer{i}": (transfer(), lambda found, i=i: found[i % len(found)])  # type: ignore[misc]
        for i in range(5)
    }
    for kind in FACTORIZED:
        if kind in MAKERS:
            for how in ("regularizers", "constraints", "float16", "frozen"):
                net = one_layer(kind, **MAKERS[kind][2][0], **HOWS[how])
                models[f"{kind}-{how}"] = net, lambda found: found[-1]
    for name, (model, pick) in models.items():
        built, x = materialize(model, *planned(model, pick)), images_for(model)
        built.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.asarray(built(x, training=False)).astype(float))
    (tmp_path / "names.json").write_text(json.dumps(list(models)))
    ran = subprocess.run(
        [sys.executable, "-c", LOADER, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    worst = json.loads(ran.stdout.splitlines()[-1])
    assert set(worst) == set(models)
    assert max(worst.values()) < 1e-6


def test_a_real_network_is_built_as_it_was_scored(trained: Callable[[str], Any]) -> None:
    from lrf_optuna.scoring.proxy import Proxy

    model = trained("resnet20_cifar10")
    x = np.random.default_rng(0).standard_normal((16, 32, 32, 3)).astype(np.float32)
    proxy = Proxy(model, x)
    choices = {}
    for i, name in enumerate(list(proxy.sites)[::4]):
        methods = proxy.methods_of(name)[1:]
        choices[name] = proxy.choice(name, methods[i % len(methods)], 0.5)
    plan = Plan.of(choices)
    built = materialize(model, plan, {name: proxy.kernels.stages(name, choice) for name, choice in plan})
    same(built(x, training=False), proxy.logits(plan, x), 1e-4)
    assert built.count_params() == proxy.measure(plan).params
    assert find_sites(built).macs == proxy.measure(plan).macs


def test_a_dense_layer_on_maps_of_several_sizes_is_built_too() -> None:
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(24, activation="relu", name="shared")
    inputs = keras.Input((12, 36))
    ends = [keras.layers.GlobalAveragePooling1D()(shared(x)) for x in (inputs, keras.layers.MaxPooling1D(2)(inputs))]
    model = keras.Model(inputs, keras.layers.Dense(6, name="top")(keras.layers.Concatenate()(ends)))
    (site, _) = find_sites(model).sites
    assert sorted(site.maps) == [(6,), (12,)]
    x = np.random.default_rng(0).standard_normal((5, 12, 36)).astype(np.float32)
    for method in saving_methods(site.op):
        choice = choice_of(site.op, method, 0.6)
        stages = fit(site.op, choice, read_kernel(shared), None)
        built = materialize(model, Plan.of({"shared": choice}), {"shared": stages})
        assert np.asarray(built(x)).shape == (5, 6)
        macs = sum(row.macs for row in find_sites(built).rows)
        assert macs == plan_counts(find_sites(model), Plan.of({"shared": choice}))[1]
    assert "kronecker" not in saving_methods(site.op)


def normalized(*kernels: Any) -> Any:
    """A classifier behind a Normalization layer that was adapted to images in 0..255."""
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).uniform(0, 255, (64, 12, 12, 3)))
    x = inputs = keras.Input((12, 12, 3))
    for layer in (norm, *kernels, layers.GlobalAveragePooling2D(), layers.Dense(5, name="top")):
        x = layer(x)
    return keras.Model(inputs, x)


def composed_in_place(model: Any, plan: Plan, kernels: dict[str, Any], x: Array) -> Array:
    """The outputs of a model while its own layers have the composed kernels."""
    held, before = dict(walk_layers(model)), [variable.numpy() for variable in model.weights]
    for site in find_sites(model).sites:
        layer = held[site.name]
        kernel_of(layer).assign(to_keras_kernel(layer, compose(site.op, plan[site.name], kernels[site.name])))
    found = np.asarray(model(x))
    for variable, value in zip(model.weights, before, strict=True):
        variable.assign(value)
    return found


def test_an_adapted_normalization_is_copied_with_its_constants() -> None:
    model = normalized(layers.Conv2D(16, 3, name="conv"))
    x = np.random.default_rng(1).uniform(0, 255, (4, 12, 12, 3)).astype(np.float32)
    same(materialize(model, Plan(()), {})(x), model(x))
    plan, kernels = planned(model, lambda found: found[0], keep=0.7)
    same(materialize(model, plan, kernels)(x), composed_in_place(model, plan, kernels, x))


def test_layers_that_hold_layers_are_copied_with_all_their_weights() -> None:
    inputs = keras.Input((6, 8))
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.TimeDistributed(layers.Dense(7))(x)
    model = keras.Model(inputs, layers.SpectralNormalization(layers.Dense(3))(layers.Flatten()(x)))
    model.set_weights([np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(model.get_weights())])
    images = np.random.default_rng(1).normal(size=(4, 6, 8)).astype(np.float32)
    same(materialize(model, Plan(()), {})(images), model(images))


def test_separable_convolutions_behind_a_normalization_are_split_into_the_same_network() -> None:
    model = normalized(layers.SeparableConv2D(16, 3, name="one"), layers.SeparableConv2D(16, 3, name="two"))
    x = np.random.default_rng(1).uniform(0, 255, (4, 12, 12, 3)).astype(np.float32)
    same(split_separable(model)(x), model(x))


class Forgetful(layers.Layer):
    """A layer with state that neither its configuration nor its variables hold."""

    offset = 0.0

    def call(self, inputs: Any) -> Any:
        return inputs + self.offset


def test_a_split_network_with_other_outputs_is_refused() -> None:
    layer = Forgetful()
    layer.offset = 1.0
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.SeparableConv2D(4, 3)(layer(inputs)))
    with pytest.raises(LrfError, match="splitting the model's separable convolutions changes its outputs by") as error:
        split_separable(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [12, None])
def test_stages_have_the_sizes_that_the_original_had(size: int | None) -> None:
    inputs = keras.Input((size, size, 8))
    x = layers.Conv2D(24, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(6, name="top")(layers.GlobalAveragePooling2D()(x)))
    (site, *_) = find_sites(model, (12, 12, 8)).sites
    choice = choice_of(site.op, "svd", 0.5)
    kernels = {"conv": fit(site.op, choice, read_kernel(model.get_layer("conv")), None)}
    built = materialize(model, Plan.of({"conv": choice}), kernels)
    shapes = [stage.output.shape[1:-1] for stage in built.get_layer("conv").layers]
    assert set(shapes) == {(size, size)}
    assert built.output.shape == model.output.shape
