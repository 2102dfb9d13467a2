"""Every layer of a model is a site or has a reason; counts are those of the model that is built."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from support.fitting import fit

from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, applicable_methods, choice_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.forward import ForwardPass
from lrf_optuna.models.inventory import Inventory, find_sites, inventory_rows, plan_counts
from lrf_optuna.models.layer_kinds import LAYERS, kernel_of, read_kernel, walk_layers
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy

Array = np.ndarray[Any, Any]


def base() -> Any:
    """A feature extractor, as transfer learning nests it."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, layers.Conv2D(16, 3, strides=2, activation="relu", name="reduce")(x), name="base")


def sequential() -> Any:
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(12, 3, name="conv"), layers.Flatten(), layers.Dense(7, name="top")]
    )


def nested() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(base()(inputs))
    return keras.Model(inputs, layers.Dense(7, name="top")(x))


def nested_in_sequential() -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), base(), layers.Flatten(), layers.Dense(7, name="top")])


def deeply_nested() -> Any:
    inner = keras.Sequential([base(), layers.Conv2D(10, 1, name="point")], name="inner")
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(inputs))
    return keras.Model(inputs, layers.Dense(7, name="top")(x))


def shared_layer() -> Any:
    """One convolution at two sizes, one Dense layer twice."""
    inputs = keras.Input((8, 8, 3))
    again = layers.Conv2D(8, 3, padding="same", name="again")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = again(layers.MaxPooling2D()(again(x)))
    dense = layers.Dense(8, name="dense")
    x = dense(dense(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(inputs, layers.Dense(3, name="top")(x))


def shared_model() -> Any:
    """One extractor on the image and on its mirror image."""
    inputs, extract = keras.Input((8, 8, 3)), base()
    both = layers.Add()([extract(inputs), extract(inputs[:, :, ::-1])])
    return keras.Model(inputs, layers.Dense(7, name="top")(layers.GlobalAveragePooling2D()(both)))


def layer_in_two_models() -> Any:
    """Two nested models that have a layer in common."""
    common = layers.Conv2D(8, 3, padding="same", name="common")
    one = keras.Sequential([keras.Input((8, 8, 3)), common], name="one")
    two = keras.Sequential([keras.Input((8, 8, 3)), common, layers.ReLU()], name="two")
    inputs = keras.Input((8, 8, 3))
    x = layers.Add()([one(inputs), two(inputs)])
    return keras.Model(inputs, layers.Dense(7, name="top")(layers.GlobalAveragePooling2D()(x)))


def with_lambda() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, name="conv")(layers.Lambda(lambda t: t * 2, name="twice")(inputs))
    x = keras.ops.mean(x, axis=(1, 2))
    return keras.Model(inputs, layers.Dense(7, name="top")(x))


def on_sequences() -> Any:
    inputs = keras.Input((6, 10))
    x = layers.Dense(12, activation="relu", name="tokens")(inputs)
    return keras.Model(inputs, layers.Dense(5, name="top")(layers.GlobalAveragePooling1D()(x)))


def with_many_kinds() -> Any:
    inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(inputs)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, name="transposed")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv")(x)
    x = layers.Reshape((-1, 8))(x)
    x = layers.Conv1D(8, 3, name="line")(x)
    x = layers.LSTM(6, name="lstm")(x)
    return keras.Model(inputs, layers.Dense(1, name="small")(x))


class Scale(keras.layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return inputs * self.scale


def with_custom_layer() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = Scale(name="own")(layers.Conv2D(12, 3, name="conv")(inputs))
    return keras.Model(inputs, layers.Dense(7, name="top")(layers.Flatten()(x)))


class Holder(keras.layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own with a layer of Keras inside."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.inner = layers.Dense(12)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


def with_a_layer_inside_another() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = Holder(name="own")(layers.Conv2D(12, 3, name="conv")(inputs))
    return keras.Model(inputs, layers.Dense(7, name="top")(layers.Flatten()(x)))


def with_a_subclassed_model_inside() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 3, padding="same", name="conv")(inputs)
    return keras.Model(inputs, layers.Dense(7, name="top")(Subclassed(name="own")(x)))


def with_attention() -> Any:
    """The layer of Keras, and the same written out of EinsumDense layers and products of its input."""
    inputs = keras.Input((6, 12))
    x = layers.MultiHeadAttention(2, 6, name="attention")(query=inputs, value=inputs)
    x = layers.GroupQueryAttention(6, 2, 1, name="grouped")(x, x)
    q, k, v = (layers.EinsumDense("btc,chd->bthd", (6, 2, 6), bias_axes="hd", name=name)(x) for name in "qkv")
    weights = layers.Softmax()(keras.ops.einsum("bthd,bshd->bhts", q, k))
    x = keras.ops.einsum("bhts,bshd->bthd", weights, v)
    x = layers.EinsumDense("...hd,hdc->...c", 12, bias_axes="c", name="out")(x)
    x = layers.EinsumDense("btc,tu->buc", (3, 12), bias_axes="u", name="mixed")(x)
    x = layers.EinsumDense("btc,tcd->btd", (3, 12), name="apart")(x)
    return keras.Model(inputs, layers.Dense(7, name="top")(layers.GlobalAveragePooling1D()(x)))


def partly_frozen() -> Any:
    model = nested()
    model.get_layer("base").trainable = False
    return model


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that is code, not a graph."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.conv, self.flat, self.top = layers.Conv2D(12, 3), layers.Flatten(), layers.Dense(7)

    def call(self, inputs: Any) -> Any:
        return self.top(self.flat(self.conv(inputs)))


MODELS: dict[str, Callable[[], Any]] = {
    f.__name__: f
    for f in (
        sequential,
        nested,
        nested_in_sequential,
        deeply_nested,
        shared_layer,
        shared_model,
        layer_in_two_models,
        with_lambda,
        on_sequences,
        with_many_kinds,
        with_custom_layer,
        with_a_layer_inside_another,
        with_a_subclassed_model_inside,
        with_attention,
        partly_frozen,
    )
}
SITES = {
    "sequential": ["conv", "top"],
    "nested": ["base/conv", "base/reduce", "top"],
    "nested_in_sequential": ["base/conv", "base/reduce", "top"],
    "deeply_nested": ["inner/base/conv", "inner/base/reduce", "inner/point", "top"],
    "shared_layer": ["stem", "again", "dense", "top"],
    "shared_model": ["base/conv", "base/reduce", "top"],
    "layer_in_two_models": ["one/common", "top"],
    "with_lambda": ["conv", "top"],
    "on_sequences": ["tokens", "top"],
    "with_many_kinds": ["depthwise", "transposed", "grouped", "conv", "line", "lstm"],
    "with_custom_layer": ["conv", "top"],
    "with_a_layer_inside_another": ["conv", "top"],
    "with_a_subclassed_model_inside": ["conv", "top"],
    "with_attention": ["attention/query", "attention/key", "attention/value", "q", "k", "v", "out", "top"],
    "partly_frozen": ["base/conv", "base/reduce", "top"],
}
over_models = pytest.mark.parametrize("name", MODELS)


def reasons(inventory: Inventory) -> dict[str, str]:
    return {row.path: row.reason for row in inventory.rows}


def a_plan(inventory: Inventory, keep: float = 0.4, turn: int = 0) -> Plan:
    """Every site by one of its methods that saves, in turn, where there is one."""
    choices = {}
    for i, site in enumerate(inventory.sites):
        found = [choice_of(site.op, method, keep) for method in applicable_methods(site.op)]
        saving = [choice for choice in found if choice != INTACT]
        choices[site.name] = saving[(i + turn) % len(saving)] if saving else INTACT
    return Plan.of(choices)


def built(model: Any, inventory: Inventory, plan: Plan) -> Any:
    held = dict(walk_layers(model))
    kernels = {s.name: fit(s.op, plan[s.name], read_kernel(held[s.name]), None) for s in inventory.sites}
    return materialize(model, plan, kernels)


@over_models
def test_every_layer_is_a_site_or_has_a_reason(name: str) -> None:
    inventory = find_sites(MODELS[name]())
    assert all(bool(row.site) != bool(row.reason) for row in inventory.rows)
    assert all(row.site is None or row.site.name == row.path for row in inventory.rows)


@over_models
def test_the_sites_of_a_model_are_found(name: str) -> None:
    found = [site.name for site in find_sites(MODELS[name]()).sites]
    assert set(found) == set(SITES[name])
    assert len(found) == len(set(found))


@over_models
def test_the_rows_hold_all_parameters_of_the_model(name: str) -> None:
    model = MODELS[name]()
    inventory = find_sites(model)
    assert inventory.params == model.count_params() == sum(row.params for row in inventory.rows)
    assert inventory.macs == sum(row.macs or 0 for row in inventory.rows)
    assert {row.path for row in inventory.rows if row.macs is None} <= set(inventory.uncounted)


@over_models
@pytest.mark.parametrize("turn", range(3))
def test_a_plan_is_counted_as_the_model_that_is_built_from_it(name: str, turn: int) -> None:
    model = MODELS[name]()
    inventory = find_sites(model)
    plan = a_plan(inventory, turn=turn)
    compressed = built(model, inventory, plan)
    params, macs = plan_counts(inventory, plan)
    assert params == compressed.count_params() < inventory.params
    assert macs == find_sites(compressed).macs


@over_models
def test_what_is_built_gives_what_is_scored(name: str) -> None:
    model = MODELS[name]()
    x = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype(np.float32)
    proxy = Proxy(model, x)
    plan = a_plan(proxy.inventory)
    compressed = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    wanted = np.asarray(compressed(x, training=False))
    np.testing.assert_allclose(proxy.logits(plan, x), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    before_attention = [layer for layer in compressed.layers if layer.name.startswith("attention_")]
    assert len(compressed.layers) == len(model.layers) + len(before_attention)
    assert len(before_attention) == sum(name.startswith("attention/") and choice != INTACT for name, choice in plan)


def test_counts_of_an_empty_plan_are_those_of_the_model() -> None:
    inventory = find_sites(nested())
    assert plan_counts(inventory, Plan(())) == (inventory.params, inventory.macs)
    assert plan_counts(inventory, Plan.of(dict.fromkeys(SITES["nested"], INTACT))) == (inventory.params, inventory.macs)


def test_a_site_is_the_operation_of_its_layer() -> None:
    inputs = keras.Input((9, 8, 4))
    x = layers.Conv2D(6, (3, 2), strides=(2, 1), padding="same", name="a")(inputs)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="b")(x)
    model = keras.Model(inputs, layers.Dense(5, name="c")(x))
    assert find_sites(model).sites == (
        Site("a", Conv((3, 2), 4, 6, (2, 1), (1, 1), "same"), ((9, 8),)),
        Site("b", Conv((3, 3), 6, 8, (1, 1), (2, 2), "same"), ((5, 8),)),
        Site("c", Conv((), 8, 5, (), ()), ((5, 8),)),
    )


def test_macs_are_those_of_the_closed_form() -> None:
    rows = {row.path: row.macs for row in find_sites(with_many_kinds()).rows}
    assert rows["depthwise"] == 6 * 6 * 9 * 4 * 2
    assert rows["separable"] == 4 * 4 * (9 * 8 + 8 * 6)
    assert rows["transposed"] == 4 * 4 * 9 * 6 * 8
    assert rows["grouped"] == 7 * 7 * 9 * 4 * 8
    assert rows["conv"] == 7 * 7 * 9 * 8 * 8
    assert rows["line"] == 47 * 3 * 8 * 8
    assert rows["small"] == 6 * 1
    assert find_sites(on_sequences()).macs == 6 * 10 * 12 + 12 * 5
    rows = {row.path: row.macs for row in find_sites(with_attention()).rows}
    assert rows["q"] == rows["out"] == 6 * 12 * 12
    assert rows["mixed"] == 6 * 3 * 12
    assert rows["apart"] == 3 * 12 * 12
    assert [rows[f"attention/{name}"] for name in ("query", "attention_output")] == [6 * 12 * 2 * 6] * 2
    assert rows["attention"] == 2 * 6 * 6 * (6 + 6)
    assert rows["grouped/key"] == 6 * 12 * 1 * 6
    assert rows["grouped"] == 2 * 6 * 6 * (6 + 6)


def test_a_shared_layer_is_one_site_with_a_map_for_each_call() -> None:
    sites = {site.name: site for site in find_sites(shared_layer()).sites}
    assert sites["again"].maps == ((8, 8), (4, 4))
    assert sites["dense"].maps == ((), ())
    rows = {row.path: row.macs for row in find_sites(shared_layer()).rows}
    assert rows["again"] == (64 + 16) * 9 * 8 * 8


def test_a_shared_model_has_a_map_for_each_call() -> None:
    sites = {site.name: site for site in find_sites(shared_model()).sites}
    assert sites["base/conv"].maps == ((8, 8), (8, 8))


def test_reasons_say_why_a_layer_is_left_out() -> None:
    found = reasons(find_sites(with_many_kinds()))
    assert found["separable"].startswith("two layers in one: split it first")
    assert not any(found[name] for name in ("depthwise", "transposed", "grouped", "line"))
    assert found["small"].startswith("too small")
    assert reasons(find_sites(with_custom_layer()))["own"] == "custom layer Scale: not known here"
    assert reasons(find_sites(with_a_layer_inside_another()))["own"] == "custom layer Holder: not known here"
    assert reasons(find_sites(with_a_subclassed_model_inside()))["own"] == "subclassed model Subclassed: not known here"
    found = reasons(find_sites(with_attention()))
    for name in ("attention", "grouped"):
        assert found[name] == "its weights are in its projections, which are listed below it"
    assert found["attention/attention_output"].endswith("only query, key and value are factorized")
    assert found["grouped/query"] == "a projection of a GroupedQueryAttention layer that wants inputs of equal sizes"
    assert found["mixed"] == "an EinsumDense layer that does not sum over the last axes of its input"
    assert found["apart"] == "an EinsumDense layer that has a kernel with axes of the batch or the positions"
    assert reasons(find_sites(with_lambda()))["twice"] == "no weights"


def test_channels_first_is_left_out_with_a_reason() -> None:
    inputs = keras.Input((8, 8, 3))
    dead = layers.Conv2D(16, 3, data_format="channels_first", name="first")
    dead.build((None, 12, 8, 8))
    x = layers.Conv2D(12, 3, name="last")(inputs)
    model = keras.Model(inputs, x)
    inside = layers.Permute((3, 1, 2))(x)
    try:
        keras.Model(inputs, dead(inside))(np.zeros((1, 8, 8, 3)))
    except Exception as reason:  # a CPU without oneDNN cannot run it
        pytest.skip(f"TensorFlow runs no channels_first here: {type(reason).__name__}")
    found = reasons(find_sites(keras.Model(inputs, dead(inside))))
    assert found["first"].startswith("channels_first: only channels_last is factorized; build the same model with")
    assert find_sites(model).sites[0].name == "last"


def test_a_layer_with_lora_is_left_out_with_a_reason() -> None:
    model = sequential()
    model.get_layer("conv").enable_lora(2)
    assert reasons(find_sites(model))["conv"] == "has LoRA or quantized weights: factorize before that"


def test_open_sizes_are_settled_by_the_input_shape() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(12, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(7, name="top")(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(LrfError, match=r"takes inputs of shape .*None.*: "):
        find_sites(model)
    small, large = find_sites(model, (8, 8, 3)), find_sites(model, (16, 8, 3))
    assert small.sites[0].maps == ((8, 8),)
    assert large.sites[0].maps == ((16, 8),)
    assert large.macs - small.macs == 64 * 9 * 3 * 12
    assert large.params == small.params


def test_images_that_the_model_does_not_take_are_refused_in_one_line() -> None:
    with pytest.raises(LrfError, match=r"does not take images of shape \(5, 5, 1\)") as error:
        find_sites(sequential(), (5, 5, 1))
    assert "\n" not in str(error.value)


def test_a_sequential_model_without_an_input_is_understood_with_a_shape() -> None:
    model = keras.Sequential([layers.Conv2D(12, 3, name="conv"), layers.Flatten(), layers.Dense(7, name="top")])
    with pytest.raises(LrfError, match="takes inputs of shape None"):
        find_sites(model)
    assert [site.name for site in find_sites(model, (8, 8, 3)).sites] == ["conv", "top"]


def test_a_subclassed_model_has_reasons_and_no_sites() -> None:
    model = Subclassed()
    with pytest.raises(LrfError, match="takes inputs of shape None"):
        find_sites(model)
    inventory = find_sites(model, (8, 8, 3))
    assert inventory.sites == ()
    assert inventory.params == model.count_params() == sum(row.params for row in inventory.rows)
    weighted = [row.reason for row in inventory.rows if row.params]
    assert weighted == ["inside the subclassed model Subclassed, which cannot be rebuilt: make it functional"] * 2


def test_listening_leaves_the_model_as_it_was() -> None:
    model = with_lambda()
    calls = {path: layer.call for path, layer in walk_layers(model)}
    find_sites(model)
    assert {path: layer.call for path, layer in walk_layers(model)} == calls


def test_described_rows_name_the_methods_or_the_reason() -> None:
    rows = inventory_rows(find_sites(with_many_kinds()))
    assert sum(row["params_share"] for row in rows) == pytest.approx(1)
    assert sum(row["macs_share"] for row in rows) == pytest.approx(1)
    for row in rows:
        assert bool(row["methods"]) != bool(row["reason"])
    conv = next(row for row in rows if row["layer"] == "conv")
    assert conv["methods"].split(", ") == [
        n for n, d in DECOMPOSITIONS.items() if n != "intact" and d.applies(Conv((3, 3), 8, 8, (1, 1), (1, 1)))
    ]


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_in_the_table_is_a_keras_layer(kind: str) -> None:
    assert issubclass(getattr(keras.layers, kind), keras.layers.Layer)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "with_many_kinds"])
def test_a_pass_with_other_kernels_is_that_of_the_model_with_these_kernels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_optuna.models.model_inputs.PASS_BATCH", 2)
    model, other = MODELS[name](), MODELS[name]()
    sites = [site.name for site in find_sites(model).sites]
    held, goal = dict(walk_layers(model)), dict(walk_layers(other))
    for layer, like in zip(goal.values(), held.values(), strict=True):
        layer.set_weights(like.get_weights())
    taken = {path: held[path] for path in sites}
    shape = model.input_shape[1:]
    network = ForwardPass(model, taken)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, *shape)).astype(np.float32)
    before = np.asarray(model(x, training=False))
    kernels = {path: rng.normal(size=kernel_of(goal[path]).shape).astype(np.float32) for path in sites[1:]}
    for path, kernel in kernels.items():
        kernel_of(goal[path]).assign(kernel)
    found = network.run(network.as_tensors(x), kernels)
    wanted = np.asarray(other(x, training=False))
    np.testing.assert_allclose(found["logits"], wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(network.logits(x, {}), before, rtol=1e-5, atol=1e-6)
    assert np.array_equal(np.asarray(model(x, training=False)), before)
    assert set(found) == {"logits"}


def test_what_goes_into_a_layer_is_heard_call_by_call() -> None:
    model = shared_layer()
    taken = {path: layer for path, layer in walk_layers(model) if path in ("again", "top")}
    network = ForwardPass(model, taken)
    x = np.random.default_rng(0).standard_normal((3, 8, 8, 3)).astype(np.float32)
    first, second = network.inputs(x)["again"]
    stem = np.asarray(model.get_layer("stem")(x))
    np.testing.assert_allclose(first, stem, atol=1e-5)
    pooled = layers.MaxPooling2D()(model.get_layer("again")(stem))
    np.testing.assert_allclose(second, pooled, atol=1e-5)


def test_mobilenet_is_counted_in_full_and_every_layer_is_a_site_or_has_a_reason() -> None:
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    inventory = find_sites(model)
    assert inventory.params == model.count_params() == 3_538_984 == sum(row.params for row in inventory.rows)
    assert all(bool(row.site) != bool(row.reason) for row in inventory.rows)
    weights = {row.path: row.params for row in inventory.rows}
    assert sum(weights.values()) == sum(prod(v.shape) for v in model.weights)
    points = [row for row in inventory.rows if row.kind == "Conv2D"]
    assert all(row.site or "too small" in row.reason for row in points)
    assert len(inventory.sites) >= 34
    assert inventory.macs == pytest.approx(56e6, rel=0.1)  # 300 M at 224 pixels (Sandler et al. 2018), by the area


@pytest.mark.parametrize("shape", [(9, 9, 3), (8, 8), (8, 8, 1)])
def test_images_of_another_shape_than_the_models_are_refused(net: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(LrfError, match=r"does not take images of shape .*: it takes \(8, 8, 3\)"):
        find_sites(net, shape)
