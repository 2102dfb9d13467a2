"""Small classic networks, untrained: each is made by a function of a seed and a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import keras
from keras import layers


def digits_cnn(seed: int = 0, name: str = "digits_cnn") -> keras.Model:
    """An untrained VGG-like net for the 8 x 8 digits: 83 k parameters."""
    init = initializers(seed)
    x = inputs = keras.Input((8, 8, 1))
    for width in (32, 64):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=next(init))(x)
            x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu", kernel_initializer=next(init))(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def lenet5(seed: int = 0, name: str = "lenet5") -> keras.Model:
    """The untrained LeNet-5 of Caffe: 431,080 parameters."""
    init = initializers(seed)
    x = inputs = keras.Input((28, 28, 1))
    for width in (20, 50):
        x = layers.MaxPooling2D()(layers.Conv2D(width, 5, kernel_initializer=next(init))(x))
    x = layers.Dense(500, activation="relu", kernel_initializer=next(init))(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def lenet300100(seed: int = 0, name: str = "lenet300100") -> keras.Model:
    """The untrained LeNet-300-100: three Dense layers, 266,610 parameters."""
    init = initializers(seed)
    inputs = keras.Input((28, 28, 1))
    x = layers.Flatten()(inputs)
    for width in (300, 100):
        x = layers.Dense(width, activation="relu", kernel_initializer=next(init))(x)
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def initializers(seed: int) -> Iterator[keras.Initializer]:
    """A He initializer a layer, each with a seed of its own, so that no global seed is needed."""
    return (keras.initializers.HeNormal(seed=100 * seed + layer) for layer in count())


ZOO: dict[str, Callable[[int, str], keras.Model]] = {net.__name__: net for net in (digits_cnn, lenet300100, lenet5)}
