"""The chain of small stages in the place of a layer: its counts, its composed kernel and their gradients.

All three are derived here, once, for every decomposition. The chain of a tensorized Dense layer is one of contractions.
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
        products = self.partial(kernels)
        back, whole = (backprop_contractions, products[0]) if self.tensorized else (backprop_chain, products[-1])
        return whole, lambda gradient: back(self.stages, kernels, products, gradient.reshape(whole.shape))

    @property
    def tensorized(self) -> bool:
        """Whether a stage is a contraction."""
        return any(stage.slices > 1 for stage in self.stages)

    def partial(self, kernels: Kernels) -> list[Array]:
        """What the first i + 1 stages compose to; of a tensorized chain what those from the i-th do, a slice."""
        if self.tensorized:
            return nested_products(self.stages, kernels)
        products = [ungrouped(self.stages[0], kernels[0])]
        for stage, kernel in zip(self.stages[1:], kernels[1:], strict=True):
            products.append(products[-1] * kernel if stage.depthwise else products[-1] @ ungrouped(stage, kernel))
        return products


def backprop_chain(stages: Sequence[Conv], kernels: Kernels, products: Sequence[Array], gradient: Array) -> Kernels:
    """Backwards through the products of a chain of convolutions, plain or depthwise."""
    gradients: list[Array] = []
    for i in range(len(stages) - 1, 0, -1):
        before, kernel = products[i - 1], kernels[i]
        if stages[i].depthwise:
            by_kernel, by_before = before * gradient, gradient * kernel
        else:
            by_kernel = np.swapaxes(before, -1, -2) @ gradient
            by_before = gradient @ np.swapaxes(kernel, -1, -2)
        gradients.append(unbroadcast(by_kernel, kernel.shape))
        gradient = unbroadcast(by_before, before.shape)
    return (gradient, *reversed(gradients))


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
    products = [kernels[-1]]
    for i in range(len(stages) - 2, -1, -1):
        stage, made = stages[i], stages[i + 1].lead // stages[i].lead
        inside, outside = kernels[i].shape
        after = products[0].reshape(outside // made, -1)
        whole = (kernels[i].reshape(-1, outside // made) @ after).reshape(inside, made, stage.trail, -1)
        products.insert(0, np.ascontiguousarray(whole.swapaxes(1, 2)).reshape(inside * stage.trail, -1))
    return products


def backprop_contractions(
    stages: Sequence[Conv], kernels: Kernels, products: Sequence[Array], gradient: Array
) -> Kernels:
    """Backwards through `sliced`."""
    gradients = []
    for i, kernel in enumerate(kernels[:-1]):
        (inside, outside), made, trail = kernel.shape, stages[i + 1].lead // stages[i].lead, stages[i].trail
        apart = gradient.reshape(inside, trail, made, -1).swapaxes(1, 2).reshape(inside * made, -1)
        after = products[i + 1].reshape(outside // made, -1)
        gradients.append((apart @ after.T).reshape(kernel.shape))
        gradient = (kernel.reshape(-1, outside // made).T @ apart).reshape(products[i + 1].shape)
    return *gradients, gradient
