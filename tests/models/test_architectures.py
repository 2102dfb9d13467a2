"""Whole architectures through sites, a random plan, build and file; benchmarks/coverage/architectures.py has all."""

import importlib

import keras
import numpy as np
import pytest

L = keras.layers


@pytest.fixture(scope="module")
def architectures():
    return importlib.import_module("benchmarks.coverage.architectures")


def separable():
    """Like Xception: separable convolutions with residuals, and the middle block in a nest that runs twice."""
    keras.utils.set_random_seed(0)
    nested = keras.Input((8, 8, 24))
    y = L.SeparableConv2D(24, 3, padding="same", use_bias=False, name="middle")(L.ReLU()(nested))
    block = keras.Model(nested, L.Add()([nested, L.BatchNormalization()(y)]), name="block")
    inputs = keras.Input((16, 16, 3))
    x = L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(inputs))
    y = L.SeparableConv2D(24, 3, strides=2, padding="same", depth_multiplier=2, activation="relu", name="entry")(x)
    x = L.Add()([y, L.Conv2D(24, 1, strides=2, name="short")(x)])
    x = block(block(x))
    return keras.Model(inputs, L.Dense(10, name="top")(L.GlobalAveragePooling2D()(x)))


def dense_block():
    """Like DenseNet: every layer sees all maps before it, joined."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(16, 7, strides=2, padding="same", use_bias=False, name="stem")(x)
    for i in range(3):
        y = L.Conv2D(32, 1, use_bias=False, name=f"narrow{i}")(L.ReLU()(L.BatchNormalization()(x)))
        y = L.Conv2D(12, 3, padding="same", use_bias=False, name=f"grow{i}")(L.ReLU()(L.BatchNormalization()(y)))
        x = L.Concatenate()([x, y])
    x = L.AveragePooling2D(2)(L.Conv2D(26, 1, name="transition")(x))
    return keras.Model(inputs, L.Dense(10, name="top")(L.GlobalAveragePooling2D()(x)))


def gated():
    """Like MobileNet v3 and EfficientNet: depthwise after a zero padding, squeeze-and-excitation, hard sigmoids."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 3))
    x = L.Rescaling(1 / 127.5, offset=-1)(x)
    x = L.Activation("hard_silu")(L.Conv2D(24, 3, strides=2, padding="same", name="stem")(x))
    x = L.DepthwiseConv2D(5, strides=2, use_bias=False, name="spread")(L.ZeroPadding2D(2)(x))
    x = L.BatchNormalization()(x)
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Conv2D(24, 1, activation="hard_sigmoid", name="excite")(L.Conv2D(8, 1, activation="relu", name="squeeze")(y))
    x = L.Conv2D(32, 1, name="project")(L.Multiply()([x, y]))
    return keras.Model(inputs, L.Dense(10, activation="softmax", name="top")(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(("make", "sites"), [(separable, 7), (dense_block, 9), (gated, 6)])
def test_a_network_of_this_shape_is_built_as_it_was_scored(architectures, make, sites):
    found = {}
    architectures.passed(architectures.stirred(make()), 0, found)
    assert found["sites"] == sites
    assert found["difference"] < max(architectures.AGREES, architectures.ROUNDING * found["rounding"])
    assert found["after"]["params"] < 0.8 * found["before"]["params"]


@pytest.mark.parametrize(
    ("name", "options", "share"), [("MobileNetV2", {"alpha": 0.35}, 0.9), ("MobileNetV3Small", {"alpha": 0.5}, 0.9)]
)
def test_an_application_is_built_as_it_was_scored(architectures, name, options, share):
    found = {}
    architectures.passed(architectures.application(name, 32, **options), 0, found)
    assert found["share"] > share
    assert found["difference"] < max(architectures.AGREES, architectures.ROUNDING * found["rounding"])
    assert found["after"]["params"] < 0.7 * found["before"]["params"]


def test_what_breaks_is_the_networks_line(architectures):
    nothing = keras.Sequential([keras.Input((8, 8, 3)), L.GlobalAveragePooling2D()])
    wrong = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(8, 3)])
    assert architectures.tried(lambda: nothing, 0)["result"] == "ok"
    assert "Error" in architectures.row("wrong", architectures.tried(lambda: wrong, 0))
    with pytest.raises(AssertionError, match="of their spread"):
        architectures.agree("them", np.ones((2, 1)), np.array([[0.0], [1.0]]))
