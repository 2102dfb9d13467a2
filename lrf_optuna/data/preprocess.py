"""Preprocessing: raw pixels become what the network takes, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.data.arrays import Images, map_inputs
from lrf_optuna.data.sources import Pixels
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.input_sections import DataSpec


@dataclass(frozen=True)
class Preprocess:
    """Raw pixels -> the network's input: (x / divide - mean) / std, channel by channel, as float32."""

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pixels: Images) -> Any:
        """The network's input, float32, of raw `pixels`: (N, H, W, C), or any other shape with channels last."""
        return map_inputs(pixels, self.array)

    def array(self, pixels: Pixels) -> NDArray[np.float32]:
        """The network's input of one array."""
        pixels = np.asarray(pixels)
        if pixels.ndim == 1:
            return ((pixels / self.divide - self.mean[0]) / self.std[0]).astype(np.float32)
        width = pixels.shape[-1] * (pixels.shape[-2] if pixels.ndim > 2 else 1)  # rows are 5 times faster than pixels
        mean, std = np.resize(self.mean, width), np.resize(self.std, width)
        rows = pixels.astype(np.float32).reshape(-1, width)
        rows *= (1 / (self.divide * std)).astype(np.float32)
        rows -= (mean / std).astype(np.float32)
        return rows.reshape(pixels.shape)


@dataclass(frozen=True)
class KerasPreprocess:
    """Raw pixels of 0..255 -> what `keras.applications.MODULE.preprocess_input` makes of them, as float32."""

    module: str

    def __call__(self, pixels: Images) -> Any:
        """The network's input, float32, of raw images `(N, H, W, 3)`."""
        return map_inputs(pixels, self.array)

    def array(self, pixels: Pixels) -> NDArray[np.float32]:
        """The network's input of one array. Raises LrfError where it has no images of three channels."""
        if pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise LrfError(f"preprocess keras:{self.module} is for images (N, H, W, 3), but got {pixels.shape}")
        return np.asarray(preprocess_functions()[self.module](np.array(pixels, np.float32)), np.float32)


@dataclass(frozen=True)
class NoPreprocess:
    """Raw inputs -> the same inputs, of any type."""

    def __call__(self, pixels: Images) -> Any:
        """The same inputs."""
        return pixels

    def array(self, pixels: Pixels) -> Pixels:
        """The same array."""
        return pixels


AnyPreprocess: TypeAlias = Preprocess | KerasPreprocess | NoPreprocess


@cache
def preprocess_functions() -> dict[str, Callable[[Any], Any]]:
    """Module of keras.applications -> its `preprocess_input`."""
    from keras import applications

    modules = {name: module for name, module in vars(applications).items() if hasattr(module, "preprocess_input")}
    return {name: module.preprocess_input for name, module in modules.items() if name != "imagenet_utils"}


def module_of_network(name: str) -> str | None:
    """The module of keras.applications that prepares pixels for a network, such as `resnet` for ResNet50."""
    from keras import applications

    network = getattr(applications, name, None)
    module = str(getattr(network, "__module__", "")).rpartition(".")[2]
    return module if module in preprocess_functions() else None


def preprocess_of(spec: DataSpec, channels: set[int] | int) -> AnyPreprocess:
    """The preprocessing that the settings ask for. Raises LrfError where they do not fit the number of channels."""
    counts = {channels} if isinstance(channels, int) else channels
    if spec.preprocess not in (None, "none"):
        module = str(spec.preprocess).removeprefix("keras:")
        lookup(preprocess_functions(), module, "module of keras.applications with preprocess_input")
        if counts != {3}:
            given = f"the inputs have {', '.join(map(str, sorted(counts)))} channels"
            raise LrfError(
                f"preprocess keras:{module} is for images of three channels, but {given}: give divide, mean, std"
            )
        return KerasPreprocess(module)
    mean, std = spec.mean or (0.0,), spec.std or (1.0,)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 1 and counts != {len(values)}:
            (most,) = sorted(counts)[-1:]
            count = "1 number" if most == 1 else f"1 or {most} numbers, one a channel"
            raise LrfError(f"{name} should have {count}, but got {list(values)}")
    return Preprocess(spec.divide or 1.0, mean, std)
