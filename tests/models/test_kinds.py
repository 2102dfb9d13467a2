"""Every kind of layer with every decomposition: read, fitted, built, equal to the layer with the composed kernel."""

from math import prod

import keras
import numpy as np
import pytest
from support.fitting import error, fit
from support.sequences import SEQUENCE_KINDS

from lrf_optuna.chains.conv import split_groups
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, applicable_methods, choice_of, compose
from lrf_optuna.fitting.patches import patches, split_by_group
from lrf_optuna.fitting.second_moment import MomentAccumulator
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.models.layer_kinds import LAYERS, kernel_of, read_kernel, read_maps, to_keras_kernel
from lrf_optuna.models.separable import split_separable
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy

L = keras.layers
MAPS = {1: (11,), 2: (9, 8), 3: (6, 5, 6)}
CHANNELS = 8
CASES = {
    "Conv1D": lambda: L.Conv1D(12, 3, activation="relu"),
    "Conv1D causal": lambda: L.Conv1D(12, 3, padding="causal", dilation_rate=2),
    "Conv1D causal grouped": lambda: L.Conv1D(12, 3, padding="causal", groups=4),
    "Conv2D": lambda: L.Conv2D(12, 3, strides=2, padding="same", activation="relu"),
    "Conv2D dilated": lambda: L.Conv2D(12, 3, dilation_rate=2, padding="same", use_bias=False),
    "Conv2D even window": lambda: L.Conv2D(12, (4, 2), padding="same"),
    "Conv2D flat window": lambda: L.Conv2D(12, (1, 5), strides=(2, 1), padding="same"),
    "Conv2D pointwise": lambda: L.Conv2D(12, 1, strides=2),
    "Conv2D grouped": lambda: L.Conv2D(16, 3, groups=2, strides=2, activation="relu"),
    "Conv2D grouped pointwise": lambda: L.Conv2D(16, 1, groups=2),
    "Conv3D": lambda: L.Conv3D(12, 3, strides=2, padding="same"),
    "Conv3D grouped": lambda: L.Conv3D(16, 3, groups=2),
    "DepthwiseConv1D": lambda: L.DepthwiseConv1D(5, padding="same", depth_multiplier=3),
    "DepthwiseConv2D": lambda: L.DepthwiseConv2D(5, strides=2, padding="same"),
    "DepthwiseConv2D multiplied": lambda: L.DepthwiseConv2D(5, padding="same", depth_multiplier=3, activation="relu"),
    "Conv1DTranspose": lambda: L.Conv1DTranspose(10, 3, strides=2, padding="same"),
    "Conv2DTranspose": lambda: L.Conv2DTranspose(10, 4, strides=2, padding="same", activation="relu"),
    "Conv2DTranspose gaps": lambda: L.Conv2DTranspose(10, 2, strides=3),
    "Conv2DTranspose dilated": lambda: L.Conv2DTranspose(10, 3, dilation_rate=2, padding="same"),
    "Conv3DTranspose": lambda: L.Conv3DTranspose(10, 3, strides=2),
    "Dense": lambda: L.Dense(12, activation="relu"),
    "EinsumDense": lambda: L.EinsumDense("abc,cd->abd", (None, 12), bias_axes="d", activation="relu"),
    "EinsumDense at any rank": lambda: L.EinsumDense("...c,cd->...d", 12, bias_axes="d"),
    "EinsumDense without positions": lambda: L.EinsumDense("ab,bc->ac", 12, activation="softmax"),
    "EinsumDense into heads": lambda: L.EinsumDense("abc,cde->abde", (None, 4, 5), bias_axes="de"),
    "EinsumDense out of heads": lambda: L.EinsumDense("abcd,cde->abe", (None, 12), bias_axes="e"),
    "EinsumDense from heads to heads": lambda: L.EinsumDense("...bc,ecbd->...de", (3, 5), bias_axes="e"),
    "EinsumDense the other way round": lambda: L.EinsumDense("abc,dc->abd", (11, 12), bias_axes="bd"),
    "EinsumDense of mixed axes": lambda: L.EinsumDense("nhwcd,edfc->nhwef", (9, None, 3, 4), bias_axes="f"),
    "EinsumDense with a bias of positions": lambda: L.EinsumDense("...bc,cd->...bd", (8, 12), bias_axes="b"),
}
SHAPES = {
    "EinsumDense": (11, CHANNELS),
    "EinsumDense without positions": (24,),
    "EinsumDense into heads": (11, CHANNELS),
    "EinsumDense out of heads": (11, 4, 3),
    "EinsumDense from heads to heads": (11, 4, 3),
    "EinsumDense the other way round": (11, CHANNELS),
    "EinsumDense of mixed axes": (9, 8, 4, 3),
}
"""Input shapes of the cases that do not take the `MAPS`."""


def model_of(case, rng):
    """A one-layer model of a case with a random bias, its layer and inputs."""
    layer = CASES[case]()
    shape = SHAPES.get(case, (*MAPS[dims_of(layer)], CHANNELS))
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    for variable in layer.weights:
        variable.assign(rng.standard_normal(variable.shape) / 3)
    x = rng.standard_normal((24, *shape)).astype(np.float32)
    try:
        model(x)
    except Exception as reason:
        if "dilation rates" not in str(reason):
            raise
        pytest.skip("TensorFlow has no dilated transposed convolution on this processor")
    return model, layer, x


def dims_of(layer):
    return len(layer.kernel_size) if hasattr(layer, "kernel_size") else 2


def test_every_kind_in_the_table_has_a_case():
    assert {type(make()).__name__ for make in CASES.values()} == set(LAYERS) - set(SEQUENCE_KINDS)


@pytest.mark.parametrize("case", CASES)
def test_patches_times_the_kernel_are_the_layers_outputs(case):
    model, layer, x = model_of(case, np.random.default_rng(0))
    layer.activation = keras.activations.linear
    (site,) = find_sites(model).sites
    maps = read_maps(layer, x)
    assert site.maps == (maps.shape[1:-1],)
    out, given = (*site.op.out_map(maps.shape[1:-1]), site.op.cout), layer(x).shape[1:]
    assert out == given or (case.startswith("EinsumDense") and prod(out) == prod(given))
    rows = split_by_group(patches(maps, site.op, 10**9), site.op)
    parts = zip(rows, split_groups(read_kernel(layer), site.op.groups), strict=True)
    found = np.concatenate([row @ part.reshape(-1, part.shape[-1]) for row, part in parts], axis=-1)
    expected = np.asarray(layer(x)) - (0 if layer.bias is None else layer.bias.numpy())
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-5)


@pytest.mark.parametrize("method", [name for name in DECOMPOSITIONS if name != "intact"])
@pytest.mark.parametrize("case", CASES)
def test_the_built_layer_is_the_layer_with_the_composed_kernel(case, method):
    model, layer, x = model_of(case, np.random.default_rng(1))
    inventory = find_sites(model)
    (site,) = inventory.sites
    if method not in applicable_methods(site.op) or choice_of(site.op, method, 0.7) == INTACT:
        pytest.skip(f"{method} does not apply to, or does not save on, {case}")
    gathering = MomentAccumulator(site.op, 10**6)
    gathering.add(read_maps(layer, x))
    choice, kernel = choice_of(site.op, method, 0.7), read_kernel(layer)
    stages = fit(site.op, choice, kernel, gathering.moments())
    composed = compose(site.op, choice, stages)
    plain = compose(site.op, choice, fit(site.op, choice, kernel, None))
    assert (
        error(site.op, kernel, composed, gathering.moments())
        <= error(site.op, kernel, plain, gathering.moments()) + 0.02
    )
    plan = Plan.of({site.name: choice})
    built = materialize(model, plan, {site.name: stages})
    kernel_of(layer).assign(to_keras_kernel(layer, composed))
    np.testing.assert_allclose(np.asarray(built(x)), np.asarray(model(x)), atol=3e-5)
    assert (built.count_params(), sum(row.macs for row in find_sites(built).rows)) == plan_counts(inventory, plan)
    built.compile("sgd", "mse")
    assert np.isfinite(built.train_on_batch(x, np.asarray(model(x))))


@pytest.mark.parametrize("strides", [(2, 1), (1, 2), (3, 2)])
def test_a_depthwise_stage_of_uneven_strides_is_a_grouped_convolution_that_every_processor_has(strides):
    inputs = keras.Input((*MAPS[2], CHANNELS))
    layer = L.Conv2D(12, 3, strides=strides, padding="same")
    model = keras.Model(inputs, layer(inputs))
    (site,) = find_sites(model).sites
    choice = choice_of(site.op, "cp", 0.7)
    built = materialize(
        model, Plan.of({site.name: choice}), {site.name: fit(site.op, choice, read_kernel(layer), None)}
    )
    for made in built._flatten_layers():
        if isinstance(made, L.DepthwiseConv2D):
            assert len(set(made.strides)) == 1
    assert any(isinstance(made, L.Conv2D) and made.groups > 1 for made in built._flatten_layers())


@pytest.mark.parametrize("dims", [1, 2])
def test_a_separable_convolution_is_its_two_parts(dims):
    make = L.SeparableConv1D if dims == 1 else L.SeparableConv2D
    inputs = keras.Input((*MAPS[dims], CHANNELS))
    layer = make(20, 5, strides=2, padding="same", depth_multiplier=2, activation="relu", name="apart")
    model = keras.Model(inputs, layer(inputs))
    layer.bias.assign(np.random.default_rng(0).standard_normal(20))
    apart = split_separable(model)
    x = np.random.default_rng(1).standard_normal((3, *MAPS[dims], CHANNELS)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(apart(x)), np.asarray(model(x)), atol=1e-5)
    assert apart.count_params() == model.count_params()
    assert [row.path for row in find_sites(apart).rows][-2:] == ["apart/apart_depthwise", "apart/apart_pointwise"]
    assert find_sites(apart).sites[-1].name == "apart/apart_pointwise"


def test_a_model_without_separable_convolutions_is_left_as_it_is():
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3)])
    assert split_separable(model) is model


def test_a_network_of_many_kinds_is_scored_and_built_alike():
    rng = np.random.default_rng(2)
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    x = L.Conv2D(16, 3, padding="same", groups=2, activation="relu")(x)
    x = L.DepthwiseConv2D(5, strides=2, padding="same", activation="relu")(x)
    x = L.Conv2DTranspose(12, 3, strides=2, padding="same", activation="relu")(x)
    model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))
    images = rng.standard_normal((64, 16, 16, 3)).astype(np.float32)
    proxy = Proxy(model, images)
    plan = Plan.of({name: proxy.choice(name, proxy.methods_of(name)[1], 0.6) for name in proxy.sites})
    built = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    np.testing.assert_allclose(
        np.asarray(built(proxy.scored.images)), proxy.logits(plan, proxy.scored.images), atol=1e-5
    )
    assert built.count_params() == proxy.measure(plan).params
