"""What a layer computes and what it is factorized into, as inert shapes: `Conv`, `Chain`, `Site`.

Parameters, MACs and the dense kernel of a chain are derived here, once, for every decomposition. A Dense layer is a
convolution whose window is `()`; its map is whatever positions it is applied to. A tensorized Dense layer is a chain of
contractions: convolutions with the window `()` that act on one axis of the channels, seen as (lead, axis, trail).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.conv import Array, Conv, Kernels, ungrouped


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

    def compose(self, kernels: Kernels) -> Array:
        """The dense kernel `(*window, cin, cout)` that the stages stand for.

        At most one stage looks along each axis (a law of decompositions), so windows join by broadcasting and
        channels by a matrix product.
        """
        return self.partial(kernels)[0 if self.tensorized else -1]

    def linearized(self, kernels: Kernels) -> tuple[Array, Callable[[Array], Kernels]]:
        """The composed kernel, and what turns a gradient by it into those by each stage kernel."""
        known = self.partial(kernels)
        back, whole = (backprop_contractions, known[0]) if self.tensorized else (backprop_chain, known[-1])
        return whole, lambda gradient: back(self.stages, kernels, known, gradient.reshape(whole.shape))

    @property
    def tensorized(self) -> bool:
        """Whether a stage is a contraction."""
        return any(stage.slices > 1 for stage in self.stages)

    def partial(self, kernels: Kernels) -> list[Array]:
        """What the first i + 1 stages compose to; of a tensorized chain what those from the i-th do, a slice."""
        if self.tensorized:
            return nested_products(self.stages, kernels)
        known = [ungrouped(self.stages[0], kernels[0])]
        for stage, kernel in zip(self.stages[1:], kernels[1:], strict=True):
            known.append(known[-1] * kernel if stage.depthwise else known[-1] @ ungrouped(stage, kernel))
        return known


def backprop_chain(stages: Sequence[Conv], kernels: Kernels, known: Sequence[Array], gradient: Array) -> Kernels:
    """Backwards through the products of a chain of convolutions, plain or depthwise."""
    found: list[Array] = []
    for i in range(len(stages) - 1, 0, -1):
        before, kernel = known[i - 1], kernels[i]
        if stages[i].depthwise:
            by_kernel, by_before = before * gradient, gradient * kernel
        else:
            by_kernel = np.swapaxes(before, -1, -2) @ gradient
            by_before = gradient @ np.swapaxes(kernel, -1, -2)
        found.append(unbroadcast(by_kernel, kernel.shape))
        gradient = unbroadcast(by_before, before.shape)
    return (gradient, *reversed(found))


def unbroadcast(array: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which an array of `shape` was broadcast."""
    axes = tuple(i for i, (size, own) in enumerate(zip(array.shape, shape, strict=True)) if own == 1 < size)
    out: Array = array.sum(axes, keepdims=True) if axes else array
    return out


def nested_products(stages: Sequence[Conv], kernels: Kernels) -> list[Array]:
    """For each stage the matrix of it and all after it, for one slice of its `lead`: nested, so never large.

    The first stage has no lead and the last no trail (a law of decompositions). A stage gives `(made, rank)` for each
    slice: `made` joins the lead of the next, `rank` goes into its kernel.
    """
    known = [kernels[-1]]
    for i in range(len(stages) - 2, -1, -1):
        stage, made = stages[i], stages[i + 1].lead // stages[i].lead
        inside, outside = kernels[i].shape
        after = known[0].reshape(outside // made, -1)
        whole = (kernels[i].reshape(-1, outside // made) @ after).reshape(inside, made, stage.trail, -1)
        known.insert(0, np.ascontiguousarray(whole.swapaxes(1, 2)).reshape(inside * stage.trail, -1))
    return known


def backprop_contractions(stages: Sequence[Conv], kernels: Kernels, known: Sequence[Array], gradient: Array) -> Kernels:
    """Backwards through `sliced`."""
    found = []
    for i, kernel in enumerate(kernels[:-1]):
        (inside, outside), made, trail = kernel.shape, stages[i + 1].lead // stages[i].lead, stages[i].trail
        apart = gradient.reshape(inside, trail, made, -1).swapaxes(1, 2).reshape(inside * made, -1)
        after = known[i + 1].reshape(outside // made, -1)
        found.append((apart @ after.T).reshape(kernel.shape))
        gradient = (kernel.reshape(-1, outside // made).T @ apart).reshape(known[i + 1].shape)
    return *found, gradient
