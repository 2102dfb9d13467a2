"""One linear operation as an inert shape: a convolution, a Dense layer or a contraction, and its counts.

A Dense layer is a convolution whose window is `()`; its map is whatever positions it is applied to. A contraction acts
on one axis of the channels, seen as (lead, axis, trail).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Kernels = tuple[Array, ...]
"""The kernels of a chain's stages."""
Index = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Conv:
    """One convolution without bias; its kernel has the shape `(*window, cin // groups, cout)`, as in Keras.

    With `lead` or `trail` above 1 it is a contraction: the channels are `(lead, inside, trail)` before and
    `(lead, outside, trail)` after, and the kernel `(inside, outside)` acts on the axis in the middle.
    """

    window: tuple[int, ...]
    cin: int
    cout: int
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str = "valid"
    groups: int = 1
    transposed: bool = False
    lead: int = 1
    trail: int = 1

    @property
    def slices(self) -> int:
        """How many slices of the channels the kernel is applied to."""
        return self.lead * self.trail

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """`(*window, cin // groups, cout)`; of a contraction `(inside, outside)`."""
        return (*self.window, self.cin // self.groups // self.slices, self.cout // self.slices)

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
        return prod(shape if self.transposed else self.out_map(shape)) * self.params * self.slices

    @property
    def part(self) -> Conv:
        """The convolution of one group."""
        return replace(self, cin=self.cin // self.groups, cout=self.cout // self.groups, groups=1)

    def times(self, groups: int) -> Conv:
        """Several of this convolution side by side, each on its own channels."""
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


def ungrouped(op: Conv, kernel: Array) -> Array:
    """The kernel `(*window, cin, cout)` of the same convolution without groups: block-diagonal in the channels."""
    if op.groups == 1:
        return kernel
    dense = np.zeros((*op.window, op.cin, op.cout), kernel.dtype)
    each_in, each_out = op.cin // op.groups, op.cout // op.groups
    for g in range(op.groups):
        inside, outside = slice(g * each_in, (g + 1) * each_in), slice(g * each_out, (g + 1) * each_out)
        dense[..., inside, outside] = kernel[..., outside]
    return dense


def split_groups(kernel: Array, groups: int) -> list[Array]:
    """The kernels of the groups, each `(*window, cin // groups, cout // groups)`."""
    return np.split(kernel, groups, axis=-1)


def join_groups(kernels: Sequence[Array]) -> Array:
    """One kernel of all groups."""
    return np.concatenate(kernels, axis=-1) if len(kernels) > 1 else kernels[0]


def contraction(lead: int, inside: int, outside: int, trail: int) -> Conv:
    """A stage that acts on one axis of the channels: `(lead, inside, trail)` to `(lead, outside, trail)`."""
    slices = lead * trail
    return Conv((), slices * inside, slices * outside, (), (), lead=lead, trail=trail)


def window_axes(op: Conv) -> list[int]:
    """The axes along which the window is more than a point."""
    return [axis for axis, size in enumerate(op.window) if size > 1]


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
    window, strides, dilation = (
        tuple(size if i == axis else 1 for i, size in enumerate(sizes))
        for sizes in (op.window, op.strides, op.dilation)
    )
    return replace(spatial(op, cin, cout, groups), window=window, strides=strides, dilation=dilation)
