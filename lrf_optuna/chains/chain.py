"""The chain of small stages in the place of a layer: its counts, its composed kernel and their gradients.

All three are derived here, once, for every decomposition. The chain of a tensorized Dense layer is one of contractions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

    def shaped(self, factors: Iterable[Array]) -> Kernels:
        """The factors, one a stage, in the shapes of the stage kernels."""
        return tuple(factor.reshape(stage.kernel_shape) for factor, stage in zip(factors, self.stages, strict=True))

    def compose(self, kernels: Kernels) -> Array:
        """The dense kernel `(*window, cin, cout)` that the stages stand for.

        At most one stage looks along each axis (a law of decompositions), so windows join by broadcasting and
        channels by a matrix product.
        """
        return self.partial(kernels)[0 if self.tensorized else -1]

    def linearized(self, kernels: Kernels) -> tuple[Array, Callable[[Array], Kernels]]:
        """The composed kernel, and a function from its gradient to the gradients of the stage kernels."""
        products = self.partial(kernels)
        back, product = (backprop_contractions, products[0]) if self.tensorized else (backprop_chain, products[-1])
        return product, lambda gradient: back(self.stages, kernels, products, gradient.reshape(product.shape))

    @property
    def tensorized(self) -> bool:
        """Whether a stage is a contraction."""
        return any(stage.slices > 1 for stage in self.stages)

    def partial(self, kernels: Kernels) -> list[Array]:
        """The composed first i + 1 stages; for a tensorized chain those from the i-th on, for one slice."""
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
    return array.sum(axes, keepdims=True) if axes else array


def nested_products(stages: Sequence[Conv], kernels: Kernels) -> list[Array]:
    """For each stage the matrix of this and all later stages, for one slice of its `lead`: nested, so never large.

    The first stage has no lead and the last no trail (a law of decompositions). The outputs of a slice are
    `(added, rank)`: `added` joins the lead of the next stage, `rank` is contracted by its kernel.
    """
    products = [kernels[-1]]
    for i in range(len(stages) - 2, -1, -1):
        stage, added = stages[i], stages[i + 1].lead // stages[i].lead
        inside, outside = kernels[i].shape
        after = products[0].reshape(outside // added, -1)
        product = (kernels[i].reshape(-1, outside // added) @ after).reshape(inside, added, stage.trail, -1)
        products.insert(0, np.ascontiguousarray(product.swapaxes(1, 2)).reshape(inside * stage.trail, -1))
    return products


def backprop_contractions(
    stages: Sequence[Conv], kernels: Kernels, products: Sequence[Array], gradient: Array
) -> Kernels:
    """Backwards through the nested products of a tensorized chain."""
    gradients = []
    for i, kernel in enumerate(kernels[:-1]):
        (inside, outside), added, trail = kernel.shape, stages[i + 1].lead // stages[i].lead, stages[i].trail
        unfolded = gradient.reshape(inside, trail, added, -1).swapaxes(1, 2).reshape(inside * added, -1)
        after = products[i + 1].reshape(outside // added, -1)
        gradients.append((unfolded @ after.T).reshape(kernel.shape))
        gradient = (kernel.reshape(-1, outside // added).T @ unfolded).reshape(products[i + 1].shape)
    return *gradients, gradient
