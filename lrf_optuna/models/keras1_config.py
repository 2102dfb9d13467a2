"""Layers of Keras 1 under the names that Keras 2 and 3 have for them and their options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]

KERAS1_CLASSES = {
    **{f"Convolution{n}D": f"Conv{n}D" for n in (1, 2, 3)},
    **{"AtrousConvolution1D": "Conv1D", "AtrousConvolution2D": "Conv2D", "AtrousConv2D": "Conv2D"},
    **{"SeparableConvolution2D": "SeparableConv2D", "Deconvolution2D": "Conv2DTranspose"},
}
"""Class of Keras 1 -> of Keras 3."""
KERAS1_OPTIONS = {
    **{"init": "kernel_initializer", "inner_init": "recurrent_initializer", "inner_activation": "recurrent_activation"},
    **{"W_regularizer": "kernel_regularizer", "W_constraint": "kernel_constraint"},
    **{"U_regularizer": "recurrent_regularizer", "U_constraint": "recurrent_constraint"},
    **{"b_regularizer": "bias_regularizer", "b_constraint": "bias_constraint", "bias": "use_bias"},
    **{"depthwise_init": "depthwise_initializer", "pointwise_init": "pointwise_initializer"},
    **{"border_mode": "padding", "nb_filter": "filters", "output_dim": "units", "filter_length": "kernel_size"},
    **{"subsample": "strides", "subsample_length": "strides", "stride": "strides", "pool_length": "pool_size"},
    **{"atrous_rate": "dilation_rate", "p": "rate", "sigma": "stddev", "length": "size", "dim_ordering": "data_format"},
    **{"dropout_W": "dropout", "dropout_U": "recurrent_dropout", "beta_init": "beta_initializer"},
    **{"gamma_init": "gamma_initializer"},
}
"""Option of Keras 1 -> of Keras 3."""
EMBEDDING = {"W_regularizer": "embeddings_regularizer", "W_constraint": "embeddings_constraint"} | {
    "init": "embeddings_initializer",
    "output_dim": "output_dim",
}
"""What these options are called in an Embedding layer."""
WITHOUT_EFFECT = ("consume_less", "forget_bias_init", "input_dtype", "activity_regularizer")
"""Options of Keras 1 that have no part in the outputs of a trained network."""
KERAS1_DATA_FORMATS = {"tf": "channels_last", "th": "channels_first"}
MERGES = {
    **{"sum": "Add", "mul": "Multiply", "concat": "Concatenate", "ave": "Average", "max": "Maximum", "dot": "Dot"},
    "cos": "Dot",
}
"""Mode of a Merge layer -> the layer of Keras 3."""
INITIALIZERS = {"zero": "zeros", "one": "ones", "normal": "random_normal", "uniform": "random_uniform"}


def entry_from_keras1(entry: Config, notes: Counter[str]) -> Config:
    """The entry of a layer of Keras 1 as one of Keras 2; an entry without old names stays as it is."""
    config = entry["config"]
    if not isinstance(config, dict) or ("layers" in config and entry["class_name"] != "Merge"):
        return entry
    name, config = entry["class_name"], dict(config)
    if name == "Merge":
        return merge_layer(entry, config, notes)
    old = dict(config)
    for option in WITHOUT_EFFECT:
        if option in config and option != "activity_regularizer":
            config.pop(option)
    config = with_windows(name, config)
    names = KERAS1_OPTIONS | EMBEDDING if name == "Embedding" else KERAS1_OPTIONS
    config = {renamed(names, key, config): value for key, value in config.items()}
    if name == "BatchNormalization" and config.get("mode") == 0:
        config.pop("mode")
    if name == "Embedding" and not config.get("dropout"):
        config.pop("dropout", None)
    if "data_format" in config:
        config["data_format"] = KERAS1_DATA_FORMATS.get(config["data_format"], "channels_last")
    for key, value in config.items():
        if key.endswith("_initializer") and isinstance(value, str):
            config[key] = INITIALIZERS.get(value, value)
        if key.endswith("_regularizer") and isinstance(value, dict):
            config[key] = regularizer(value)
    if config != old or name in KERAS1_CLASSES:
        notes["names of Keras 1"] += 1
    return entry | {"class_name": KERAS1_CLASSES.get(name, name), "config": config}


def renamed(names: Mapping[str, str], key: str, config: Config) -> str:
    """The new name of an option; the old one where the configuration has the new one already."""
    return names[key] if key in names and (names[key] == key or names[key] not in config) else key


def with_windows(name: str, config: Config) -> Config:
    """The options of a convolution with its window in one place; the output shape of a deconvolution goes."""
    if "nb_row" in config:
        config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
    if "kernel_dim1" in config:
        config["kernel_size"] = [config.pop(f"kernel_dim{i}") for i in (1, 2, 3)]
    if name == "Deconvolution2D":
        config.pop("output_shape", None)
    if name == "UpSampling1D" and isinstance(config.get("length"), list):
        config["length"] = config["length"][0]
    return config


def regularizer(value: Config) -> Config | None:
    """A weight regularizer of Keras 1, `{name, l1, l2}`, as L1L2."""
    if "class_name" in value:
        return value
    amounts = {key: float(value.get(key) or 0) for key in ("l1", "l2")}
    if not any(amounts.values()):
        return None
    return {"module": "keras.regularizers", "class_name": "L1L2", "config": amounts, "registered_name": None}


def merge_layer(entry: Config, config: Config, notes: Counter[str]) -> Config:
    """A Merge layer of a functional model as the layer of its mode; one that holds its branches stays as it is."""
    mode = config.get("mode")
    if mode not in MERGES or config.get("layers"):
        return entry
    kept: Config = {"name": config["name"]}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    if mode in ("dot", "cos"):
        kept |= {"axes": config.get("dot_axes", -1), "normalize": mode == "cos"}
    notes["names of Keras 1"] += 1
    return entry | {"class_name": MERGES[mode], "config": kept}
