"""Stages of a chain as plain Keras layers, with what they keep of the original layer's configuration."""

from __future__ import annotations

from typing import Any

import keras

from lrf_optuna import einsum
from lrf_optuna.stages import Conv


def stage_config(layer: Any, name: str, last: bool) -> dict[str, Any]:
    """What a stage has of the original's configuration: the bias, the activation and the constraint go to the last."""
    config = layer.get_config()
    kernel = "depthwise" if "depthwise_initializer" in config else "kernel"
    kept = {key: config[key] for key in ("trainable", "dtype")} | {"name": name}
    kept |= {f"kernel_{part}": config[f"{kernel}_{part}"] for part in ("initializer", "regularizer")}
    if not last:
        return kept | {"use_bias": False}
    ends = ("activation", "use_bias", "bias_initializer", "bias_regularizer", "bias_constraint", "activity_regularizer")
    return (
        kept
        | {key: config[key] for key in ends if key in config}
        | {"kernel_constraint": config[f"{kernel}_constraint"]}
    )


def convolution(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a convolution's chain."""
    config, dims = stage_config(layer, name, last), f"{len(stage.window)}D"
    config |= {
        "kernel_size": stage.window,
        "strides": stage.strides,
        "dilation_rate": stage.dilation,
        "padding": stage.padding,
    }
    if stage.transposed:
        return [getattr(keras.layers, f"Conv{dims}Transpose").from_config(config | {"filters": stage.cout})]
    depthwise = getattr(keras.layers, f"DepthwiseConv{dims}", None)
    uneven = len(set(stage.strides)) > 1  # of depthwise layers TensorFlow has that for some processors only
    if depthwise is None or stage.groups == 1 or stage.groups != stage.cin or stage.padding == "causal" or uneven:
        config |= {"filters": stage.cout, "groups": stage.groups}
        return [getattr(keras.layers, f"Conv{dims}").from_config(config)]
    for part in ("initializer", "regularizer", "constraint"):
        config[f"depthwise_{part}"] = config.pop(f"kernel_{part}", None) or (
            "glorot_uniform" if part == "initializer" else None
        )
    return [depthwise.from_config(config | {"depth_multiplier": stage.cout // stage.cin})]


def dense(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of a Dense layer's chain."""
    config = stage_config(layer, name, last)
    if stage.slices == 1:
        return [keras.layers.Dense.from_config(config | {"units": stage.cout})]
    ends = {key: config.pop(key) for key in ("activation", "activity_regularizer") if key in config}
    made, free = contraction(layer, stage, config), positions(layer)
    shared = {"dtype": layer.dtype_policy}
    if last:
        made.append(keras.layers.Reshape((*free, stage.cout), name=f"{name}_flat", **shared))
    if last and (ends.get("activity_regularizer") or ends["activation"] != "linear"):  # softmax looks at all channels
        made.append(keras.layers.Activation(name=f"{name}_end", **shared, **ends))
    return made


def contraction(layer: Any, stage: Conv, config: dict[str, Any]) -> list[Any]:
    """The channels seen as (lead, axis, trail), and the kernel on the axis, with the bias that `config` speaks of."""
    axes = {"l": stage.lead, "i": stage.kernel_shape[0], "t": stage.trail}
    before = {axis: size for axis, size in axes.items() if axis == "i" or size > 1}
    after = {axis.replace("i", "o"): stage.kernel_shape[1] if axis == "i" else n for axis, n in before.items()}
    free, taken, made = positions(layer), "".join(before), "".join(after)
    kept = "abcdefgh"[: 1 + len(free)]
    bias = {"bias_axes": made} if config.pop("use_bias") else {}
    view = keras.layers.Reshape((*free, *before.values()), name=f"{config['name']}_view", dtype=layer.dtype_policy)
    sizes = (*(None if size == -1 else size for size in free), *after.values())
    return [view, keras.layers.EinsumDense(f"{kept}{taken},io->{kept}{made}", sizes, **config | bias)]


def positions(layer: Any) -> tuple[int, ...]:
    """The axes between the batch and the channels that the layer was built with, as Reshape takes them: -1 for any."""
    return tuple(-1 if size is None else size for size in layer.get_build_config()["input_shape"][1:-1])


def einsum_dense(layer: Any, stage: Conv, name: str, first: bool, last: bool) -> list[Any]:
    """One stage of an EinsumDense layer's chain."""
    config = stage_config(layer, name, last) | einsum.stage_config(layer, stage, first, last)
    config["kernel_initializer"] = einsum.without_axes(config["kernel_initializer"])
    config.pop("use_bias", None)
    return [keras.layers.EinsumDense.from_config(config)]
