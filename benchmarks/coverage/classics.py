"""Untrained classic networks that keras.applications does not have: each is made by a function of a seed and a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import layers

from lrf_optuna.models.zoo import initializers


def alexnet(seed: int = 0, name: str = "alexnet") -> keras.Model:
    """AlexNet (Krizhevsky et al. 2012) with its two groups, for 227 x 227 pixels: 60,965,224 parameters.

    Without the local response normalization, which has no weights and no Keras layer.
    """
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
    """SqueezeNet 1.1 (Iandola et al. 2016) for 224 x 224 pixels: 1,235,496 parameters."""
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
    x = layers.Conv2D(squeeze, 1, activation="relu", kernel_initializer=next(init))(x)
    wide = [layers.Conv2D(expand, k, padding="same", kernel_initializer=next(init))(x) for k in (1, 3)]
    return layers.ReLU()(layers.Concatenate()(wide))


CLASSICS = {"alexnet": alexnet, "squeezenet": squeezenet}
"""Name -> function of a seed and a name."""
