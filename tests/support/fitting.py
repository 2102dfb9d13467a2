"""Operations, maps that look like those of a network, and their moments: for the tests of what is fitted to data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from lrf_optuna.chains.conv import Conv, Kernels
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.fitting.second_moment import MomentAccumulator, SecondMoment, SecondMoments
from lrf_optuna.plans.plan import Choice

Array = np.ndarray[Any, Any]
EVERY = 10**9
CONVS = [keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D]
CASES = {
    "3x3 same": (Conv((3, 3), 4, 6, (1, 1), (1, 1), "same"), (7, 6)),
    "3x3 same, stride 2": (Conv((3, 3), 4, 6, (2, 2), (1, 1), "same"), (7, 6)),
    "3x3 valid, strides 2 and 1": (Conv((3, 3), 4, 6, (2, 1), (1, 1), "valid"), (7, 6)),
    "3x3 same, dilated": (Conv((3, 3), 4, 6, (1, 1), (2, 2), "same"), (7, 6)),
    "3x3 valid, dilated": (Conv((3, 3), 4, 6, (1, 1), (2, 2), "valid"), (7, 6)),
    "even window, stride 3": (Conv((4, 2), 4, 6, (3, 3), (1, 1), "same"), (7, 6)),
    "1x5": (Conv((1, 5), 4, 6, (1, 1), (1, 1), "same"), (7, 6)),
    "1x1, stride 2": (Conv((1, 1), 4, 6, (2, 2), (1, 1)), (7, 6)),
    "1-D same, stride 2": (Conv((5,), 4, 6, (2,), (1,), "same"), (9,)),
    "1-D causal, dilated": (Conv((3,), 4, 6, (1,), (2,), "causal"), (9,)),
    "1-D causal, stride 2": (Conv((3,), 4, 6, (2,), (1,), "causal"), (8,)),
    "3-D same": (Conv((3, 2, 3), 2, 3, (1, 1, 1), (1, 1, 1), "same"), (4, 5, 4)),
    "3-D valid, stride 2": (Conv((2, 2, 3), 2, 3, (2, 2, 2), (1, 1, 1), "valid"), (4, 5, 4)),
    "dense": (Conv((), 6, 5, (), ()), ()),
    "dense on a sequence": (Conv((), 6, 5, (), ()), (4,)),
    "dense on a map": (Conv((), 6, 5, (), ()), (4, 3)),
}
FITTED = {
    "3x3": Conv((3, 3), 6, 8, (1, 1), (1, 1), "same"),
    "3x3, stride 2": Conv((3, 3), 6, 8, (2, 2), (1, 1), "same"),
    "1x5": Conv((1, 5), 6, 8, (1, 1), (1, 1), "same"),
    "1x1": Conv((1, 1), 12, 10, (1, 1), (1, 1)),
    "dense": Conv((), 20, 12, (), ()),
}


def keras_output(op: Conv, kernel: Array, x: Array) -> Array:
    if not op.window:
        layer = keras.layers.Dense(op.cout, use_bias=False)
    else:
        layer = CONVS[len(op.window) - 1](
            op.cout, op.window, strides=op.strides, dilation_rate=op.dilation, padding=op.padding, use_bias=False
        )
    layer.build(x.shape)
    layer.set_weights([kernel])
    return np.asarray(layer(x))


def correlated_maps(op: Conv, count: int = 60) -> Array:
    """Maps whose neighbours and channels are alike, with a mean: as between the layers of a network."""
    rng = np.random.default_rng(5)
    coarse = rng.standard_normal((count, *(4,) * len(op.window), op.cin)) @ rng.standard_normal((op.cin, op.cin))
    return np.maximum(np.kron(coarse, np.ones((1, *(2,) * len(op.window), 1))), 0).astype(np.float32)


def gathered(op: Conv, maps: Array, batch: int = 16) -> SecondMoment:
    adding = MomentAccumulator(op, EVERY)
    for i in range(0, len(maps), batch):
        adding.add(maps[i : i + batch])
    (moment,) = adding.moments()
    return moment


def kernel_for(op: Conv, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(op.kernel_shape).astype(np.float32)


def over(ops: dict[str, Conv]) -> pytest.MarkDecorator:
    """Every method with each of the operations that it applies to."""
    pairs = [
        pytest.param(name, op, id=f"{name}: {case}")
        for name, method in DECOMPOSITIONS.items()
        for case, op in ops.items()
        if name != "intact" and method.applies(op)
    ]
    return pytest.mark.parametrize(("method", "op"), pairs)


def fit(op: Conv, choice: Choice, kernel: Array, moments: SecondMoments | None) -> Kernels:
    """Stage kernels of one choice for one layer."""
    return LayerFitter(op, kernel, moments).fit(choice)


def error(op: Conv, kernel: Array, composed: Array, moments: SecondMoments | None) -> float:
    """Relative squared error of one layer's outputs; of its weights without moments."""
    return LayerFitter(op, kernel, moments).error(composed)
