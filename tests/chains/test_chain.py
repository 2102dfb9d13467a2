"""Shapes, MACs, padding and composed kernels agree with what Keras does."""

from __future__ import annotations

from math import prod
from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Conv, along, pointwise, spatial, ungrouped
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS

Array = np.ndarray[Any, Any]
CONVS = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D]
CASES = {
    "3x3 same": (Conv((3, 3), 4, 6, (1, 1), (1, 1), "same"), (9, 8)),
    "3x3 valid": (Conv((3, 3), 4, 6, (1, 1), (1, 1), "valid"), (9, 8)),
    "3x3 same, stride 2": (Conv((3, 3), 4, 6, (2, 2), (1, 1), "same"), (9, 8)),
    "3x3 valid, stride 2": (Conv((3, 3), 4, 6, (2, 2), (1, 1), "valid"), (9, 8)),
    "3x3 same, stride 3": (Conv((3, 3), 4, 6, (3, 3), (1, 1), "same"), (9, 8)),
    "3x3 same, dilated": (Conv((3, 3), 4, 6, (1, 1), (2, 2), "same"), (9, 8)),
    "3x3 valid, dilated unequally": (Conv((3, 3), 4, 6, (1, 1), (3, 2), "valid"), (9, 8)),
    "even window": (Conv((2, 4), 4, 6, (1, 1), (1, 1), "same"), (9, 8)),
    "even window, stride 2": (Conv((4, 4), 4, 6, (2, 2), (1, 1), "same"), (9, 8)),
    "stride beyond the window": (Conv((2, 2), 4, 6, (3, 3), (1, 1), "same"), (9, 8)),
    "5x1": (Conv((5, 1), 4, 6, (1, 1), (1, 1), "same"), (9, 8)),
    "1x5, stride 2": (Conv((1, 5), 4, 6, (2, 2), (1, 1), "same"), (9, 8)),
    "1x1, stride 2": (Conv((1, 1), 4, 6, (2, 2), (1, 1), "valid"), (9, 8)),
    "one channel in": (Conv((3, 3), 1, 6, (1, 1), (1, 1), "same"), (9, 8)),
    "one channel out": (Conv((3, 3), 4, 1, (1, 1), (1, 1), "same"), (9, 8)),
    "1-D same, stride 2": (Conv((5,), 4, 6, (2,), (1,), "same"), (9,)),
    "1-D causal": (Conv((3,), 4, 6, (1,), (1,), "causal"), (9,)),
    "1-D causal, dilated": (Conv((3,), 4, 6, (1,), (2,), "causal"), (9,)),
    "1-D causal, stride 2": (Conv((3,), 4, 6, (2,), (1,), "causal"), (8,)),
    "3-D same": (Conv((3, 2, 3), 4, 6, (1, 1, 1), (1, 1, 1), "same"), (5, 4, 6)),
    "3-D valid, stride 2": (Conv((2, 3, 1), 4, 6, (2, 2, 2), (1, 1, 1), "valid"), (5, 4, 6)),
}
over_cases = pytest.mark.parametrize(("op", "shape"), CASES.values(), ids=CASES)


def keras_layer(op: Conv, kernel: Array, shape: tuple[int, ...]) -> Any:
    """The operation as a built Keras layer."""
    if not op.window:
        layer = keras.layers.Dense(op.cout, use_bias=False)
    else:
        layer = CONVS[len(op.window) - 1](
            op.cout,
            op.window,
            strides=op.strides,
            dilation_rate=op.dilation,
            padding=op.padding,
            groups=op.groups,
            use_bias=False,
        )
    layer.build((None, *shape, op.cin))
    layer.set_weights([kernel])
    return layer


def in_pieces(op: Conv, kernel: Array, x: Array) -> Array:
    """A convolution by Keras, group by group: TensorFlow has no grouped 3-D convolution on a CPU."""
    if op.groups == 1 or len(op.window) < 3:
        return np.asarray(keras_layer(op, kernel, x.shape[1:-1])(x))
    wide = op.cin // op.groups
    alone = Conv(op.window, wide, op.cout // op.groups, op.strides, op.dilation, op.padding)
    parts = zip(np.split(kernel, op.groups, -1), np.split(x, op.groups, -1), strict=True)
    return np.concatenate([np.asarray(keras_layer(alone, k, x.shape[1:-1])(part)) for k, part in parts], -1)


@over_cases
def test_the_output_map_and_the_macs_are_those_of_the_keras_layer(op: Conv, shape: tuple[int, ...]) -> None:
    layer = keras_layer(op, np.zeros(op.kernel_shape), shape)
    *out, channels = layer(np.zeros((1, *shape, op.cin), np.float32)).shape[1:]
    assert (op.out_map(shape), op.cout) == (tuple(out), channels)
    assert op.macs(shape) == prod(out) * prod(layer.kernel.shape)
    assert op.params == layer.count_params()


@over_cases
def test_padding_by_hand_gives_what_keras_pads(op: Conv, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, *shape, op.cin)).astype(np.float32)
    kernel = rng.standard_normal(op.kernel_shape).astype(np.float32)
    bare = Conv(op.window, op.cin, op.cout, op.strides, op.dilation, "valid")
    padded = np.pad(x, ((0, 0), *op.pads(shape), (0, 0)))
    wanted = keras_layer(op, kernel, shape)(x)
    found = keras_layer(bare, kernel, padded.shape[1:-1])(padded)
    out = np.asarray(found)[(slice(None), *(slice(size) for size in op.out_map(shape)))]
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shape", "method"),
    [
        pytest.param(op, shape, name, id=f"{name}: {case}")
        for name, decomposition in DECOMPOSITIONS.items()
        for case, (op, shape) in CASES.items()
        if decomposition.applies(op)
    ],
)
def test_a_composed_kernel_does_what_its_stages_do_one_after_the_other(
    op: Conv, shape: tuple[int, ...], method: str, rng: np.random.Generator
) -> None:
    chain = DECOMPOSITIONS[method].chain(op, DECOMPOSITIONS[method].ranks(op, 0.7))
    kernels = tuple(rng.standard_normal(stage.kernel_shape).astype(np.float32) for stage in chain.stages)
    x = staged = rng.standard_normal((2, *shape, op.cin)).astype(np.float32)
    for stage, kernel in zip(chain.stages, kernels, strict=True):
        staged = in_pieces(stage, kernel, staged)
    whole = np.asarray(keras_layer(op, chain.compose(kernels), shape)(x))
    np.testing.assert_allclose(staged, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@over_cases
def test_the_macs_of_a_chain_are_summed_over_the_maps_that_its_stages_see(op: Conv, shape: tuple[int, ...]) -> None:
    wide = Chain((pointwise(op, op.cin, 5), spatial(op, 5, 7), pointwise(op, 7, op.cout)))
    before, after = prod(shape), prod(op.out_map(shape))
    assert wide.macs(shape) == before * op.cin * 5 + after * prod(op.window) * 35 + after * 7 * op.cout
    assert wide.params == op.cin * 5 + prod(op.window) * 35 + 7 * op.cout


@pytest.mark.parametrize("groups", [2, 3, 6])
@pytest.mark.parametrize("cout", [6, 12])
def test_an_ungrouped_kernel_does_what_the_grouped_convolution_does(
    groups: int, cout: int, rng: np.random.Generator
) -> None:
    op = Conv((3, 3), 6, cout, (1, 1), (1, 1), "same", groups)
    kernel = rng.standard_normal(op.kernel_shape).astype(np.float32)
    x = rng.standard_normal((2, 7, 7, 6)).astype(np.float32)
    whole = Conv((3, 3), 6, cout, (1, 1), (1, 1), "same")
    found = keras_layer(whole, ungrouped(op, kernel), (7, 7))(x)
    np.testing.assert_allclose(found, keras_layer(op, kernel, (7, 7))(x), rtol=0, atol=1e-5)


def test_a_stage_along_one_axis_keeps_only_that_axis_of_the_operation() -> None:
    op = Conv((3, 5), 4, 6, (1, 2), (2, 1), "same")
    assert along(op, 0, 3, 3, groups=3) == Conv((3, 1), 3, 3, (1, 1), (2, 1), "same", 3)
    assert along(op, 1, 3, 2) == Conv((1, 5), 3, 2, (1, 2), (1, 1), "same")


def test_a_dense_layer_is_counted_at_every_position_and_a_shared_one_at_every_call() -> None:
    op = Conv((), 10, 4, (), ())
    chain = Chain((pointwise(op, 10, 2), pointwise(op, 2, 4)))
    assert (op.macs(()), op.macs((7,))) == (40, 280)
    assert (op.pointwise, op.depthwise, op.kernel_shape) == (True, False, (10, 4))
    assert Site("shared", op, ((7,), (), (2, 3))).macs(chain) == 28 * (7 + 1 + 6)
