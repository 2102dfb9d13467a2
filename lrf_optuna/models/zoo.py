"""Small classic networks, untrained: each is made by a function of a seed and a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def digits_cnn(seed: int = 0, name: str = "digits_cnn") -> keras.Model:
    """An untrained VGG-like net for the 8 x 8 digits: 83 k parameters."""
    import keras
    from keras import layers

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
    import keras
    from keras import layers

    init = initializers(seed)
    x = inputs = keras.Input((28, 28, 1))
    for width in (20, 50):
        x = layers.MaxPooling2D()(layers.Conv2D(width, 5, kernel_initializer=next(init))(x))
    x = layers.Dense(500, activation="relu", kernel_initializer=next(init))(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def lenet300100(seed: int = 0, name: str = "lenet300100") -> keras.Model:
    """The untrained LeNet-300-100: three Dense layers, 266,610 parameters."""
    import keras
    from keras import layers

    init = initializers(seed)
    inputs = keras.Input((28, 28, 1))
    x = layers.Flatten()(inputs)
    for width in (300, 100):
        x = layers.Dense(width, activation="relu", kernel_initializer=next(init))(x)
    return keras.Model(inputs, layers.Dense(10, kernel_initializer=next(init))(x), name=name)


def alexnet(seed: int = 0, name: str = "alexnet") -> keras.Model:
    """The untrained AlexNet (Krizhevsky et al. 2012) with its two groups, for 227 x 227 pixels: 60,965,224 parameters.

    Without the local response normalization, which has no weights and no Keras layer.
    """
    import keras
    from keras import layers

    init = initializers(seed)
    x = inputs = keras.Input((227, 227, 3))
    x = layers.Conv2D(96, 11, strides=4, activation="relu", kernel_initializer=next(init))(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    for width, window, groups, pooled in ((256, 5, 2, True), (384, 3, 1, False), (384, 3, 2, False), (256, 3, 2, True)):
        shape = {"padding": "same", "groups": groups, "activation": "relu"}
        x = layers.Conv2D(width, window, **shape, kernel_initializer=next(init))(x)
        x = layers.MaxPooling2D(3, strides=2)(x) if pooled else x
    x = layers.Flatten()(x)
    for i in range(2):
        x = layers.Dense(4096, activation="relu", kernel_initializer=next(init))(x)
        x = layers.Dropout(0.5, seed=100 * seed + i)(x)
    return keras.Model(inputs, layers.Dense(1000, kernel_initializer=next(init))(x), name=name)


def squeezenet(seed: int = 0, name: str = "squeezenet") -> keras.Model:
    """The untrained SqueezeNet 1.1 (Iandola et al. 2016) for 224 x 224 pixels: 1,235,496 parameters."""
    import keras
    from keras import layers

    init = initializers(seed)
    x = inputs = keras.Input((224, 224, 3))
    x = layers.Conv2D(64, 3, strides=2, activation="relu", kernel_initializer=next(init))(x)
    for stage in (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192),) * 2 + ((64, 256),) * 2):
        x = layers.MaxPooling2D(3, strides=2)(x)
        for squeeze, expand in stage:
            x = fire(x, squeeze, expand, init)
    x = layers.Dropout(0.5, seed=seed)(x)
    x = layers.Conv2D(1000, 1, activation="relu", kernel_initializer=next(init))(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name=name)


def fire(x: Any, squeeze: int, expand: int, init: Iterator[keras.Initializer]) -> Any:
    """A fire module: 1 x 1 to a few channels, then 1 x 1 and 3 x 3 side by side."""
    from keras import layers

    x = layers.Conv2D(squeeze, 1, activation="relu", kernel_initializer=next(init))(x)
    wide = [layers.Conv2D(expand, k, padding="same", kernel_initializer=next(init))(x) for k in (1, 3)]
    return layers.ReLU()(layers.Concatenate()(wide))


def initializers(seed: int) -> Iterator[keras.Initializer]:
    """A He initializer a layer, each with a seed of its own, so that no global seed is needed."""
    import keras

    return (keras.initializers.HeNormal(seed=100 * seed + layer) for layer in count())


ZOO: dict[str, Callable[[int, str], keras.Model]] = {
    "alexnet": alexnet,
    "digits_cnn": digits_cnn,
    "lenet300100": lenet300100,
    "lenet5": lenet5,
    "squeezenet": squeezenet,
}
