"""What a layer computes and what it is factorized into, as inert shapes: `Conv`, `Chain`, `Site`.

Parameters, MACs and the dense kernel of a chain are derived here, once, for every decomposition. A Dense layer is a
convolution whose window is `()`; its map is whatever positions it is applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Index = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Conv:
    """One convolution without bias; its kernel has the shape `(*window, cin // groups, cout)`, as in Keras."""

    window: tuple[int, ...]
    cin: int
    cout: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str = "valid"
    groups: int = 1
    transposed: bool = False

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """`(*window, cin // groups, cout)`."""
        return (*self.window, self.cin // self.groups, self.cout)

    @property
    def params(self) -> int:
        """Weights of the kernel; the bias belongs to the layer, not to the operation."""
        return prod(self.kernel_shape)

    @property
    def pointwise(self) -> bool:
        """Whether the window is a single point: a Dense layer or a 1 x 1 convolution."""
        return all(size == 1 for size in self.window)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is filtered on its own, one filter a channel."""
        return self.groups == self.cin == self.cout and self.groups > 1

    def out_map(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial shape that comes out of an input map of spatial `shape`."""
        if not self.window:
            return shape
        pairs = zip(shape, self.window, self.strides, self.dilation, strict=True)
        if self.transposed:
            more = 0 if self.padding == "same" else 1
            return tuple(n * s + more * max((k - 1) * d + 1 - s, 0) for n, k, s, d in pairs)
        if self.padding == "valid":
            return tuple(-(-(n - (k - 1) * d) // s) for n, k, s, d in pairs)
        return tuple(-(-n // s) for n, _, s, _ in pairs)

    def macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates for one image whose input map has the spatial `shape`."""
        return prod(shape if self.transposed else self.out_map(shape)) * self.params

    @property
    def part(self) -> Conv:
        """The convolution of one group."""
        return replace(self, cin=self.cin // self.groups, cout=self.cout // self.groups, groups=1)

    def times(self, groups: int) -> Conv:
        """That many of this convolution side by side, each on its own channels."""
        return replace(self, cin=self.cin * groups, cout=self.cout * groups, groups=self.groups * groups)

    def pads(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Zeros before and after each axis of an input map of spatial `shape`, as Keras pads."""
        if self.padding == "valid":
            return ((0, 0),) * len(self.window)
        if self.padding == "causal":
            return tuple(((k - 1) * d, 0) for k, d in zip(self.window, self.dilation, strict=True))
        out = self.out_map(shape)
        pairs = zip(shape, out, self.window, self.strides, self.dilation, strict=True)
        total = [max(0, (o - 1) * s + (k - 1) * d + 1 - n) for n, o, k, s, d in pairs]
        return tuple((t // 2, t - t // 2) for t in total)


@dataclass(frozen=True, slots=True)
class Chain:
    """Convolutions one after the other, without anything in between; the bias and activation follow the last."""

    stages: tuple[Conv, ...]

    @property
    def params(self) -> int:
        """Weights of all stage kernels."""
        return sum(stage.params for stage in self.stages)

    def macs(self, shape: tuple[int, ...]) -> int:
        """Multiply-accumulates for one image whose input map has the spatial `shape`."""
        total = 0
        for stage in self.stages:
            total += stage.macs(shape)
            shape = stage.out_map(shape)
        return total

    def compose(self, kernels: tuple[Array, ...]) -> Array:
        """The dense kernel `(*window, cin, cout)` that the stages stand for.

        At most one stage looks along each axis (a law of decompositions), so windows join by broadcasting and
        channels by a matrix product.
        """
        whole = ungrouped(self.stages[0], kernels[0])
        for stage, kernel in zip(self.stages[1:], kernels[1:], strict=True):
            whole = whole * kernel if stage.depthwise else whole @ ungrouped(stage, kernel)
        return whole


def ungrouped(op: Conv, kernel: Array) -> Array:
    """The kernel `(*window, cin, cout)` of the same convolution without groups: block-diagonal in the channels."""
    if op.groups == 1:
        return kernel
    whole = np.zeros((*op.window, op.cin, op.cout), kernel.dtype)
    each_in, each_out = op.cin // op.groups, op.cout // op.groups
    for g in range(op.groups):
        inside, outside = slice(g * each_in, (g + 1) * each_in), slice(g * each_out, (g + 1) * each_out)
        whole[..., inside, outside] = kernel[..., outside]
    return whole


def split(kernel: Array, groups: int) -> list[Array]:
    """The kernels of the groups, each `(*window, cin // groups, cout // groups)`."""
    return np.split(kernel, groups, axis=-1)


def joined(kernels: Sequence[Array]) -> Array:
    """One kernel of all groups."""
    return np.concatenate(kernels, axis=-1) if len(kernels) > 1 else kernels[0]


def pointwise(op: Conv, cin: int, cout: int) -> Conv:
    """A 1 x 1 stage of a chain for `op`: channels only, no stride."""
    ones = (1,) * len(op.window)
    return Conv(ones, cin, cout, ones, ones)


def entering(op: Conv, cout: int) -> Conv:
    """The 1 x 1 stage that opens a chain of stages `along` axes: it has the strides of the axes without a window."""
    strides = tuple(s if size == 1 else 1 for size, s in zip(op.window, op.strides, strict=True))
    return replace(pointwise(op, op.cin, cout), strides=strides)


def spatial(op: Conv, cin: int, cout: int, groups: int = 1) -> Conv:
    """The stage of a chain for `op` that has its window, strides, dilation and padding."""
    return replace(op, cin=cin, cout=cout, groups=groups)


def along(op: Conv, axis: int, cin: int, cout: int, groups: int = 1) -> Conv:
    """The stage of a chain for `op` that has its window, stride and dilation along one axis only."""

    def only(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(size if i == axis else 1 for i, size in enumerate(sizes))

    return replace(
        op,
        window=only(op.window),
        strides=only(op.strides),
        dilation=only(op.dilation),
        cin=cin,
        cout=cout,
        groups=groups,
    )


@dataclass(frozen=True, slots=True)
class Site:
    """A layer that can be factorized: `name` (path in the model), its operation, its input map, how often it runs."""

    name: str
    op: Conv
    maps: tuple[tuple[int, ...], ...]
    """The spatial shape of the input map of each call: several where the layer is shared."""

    def macs(self, chain: Chain) -> int:
        """Multiply-accumulates of `chain` in this layer's place, for one image."""
        return sum(chain.macs(shape) for shape in self.maps)
