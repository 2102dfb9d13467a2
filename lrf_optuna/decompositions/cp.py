"""Canonical polyadic (CP) decompositions of a convolution kernel: `cp` and `cp3`.

Alternating least squares with a small ridge: the ridge bounds the components, so that none diverges against another
(Phan et al. 2020), and fine-tuning starts from well-conditioned stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, along, entering, pointwise, spatial, window_axes
from lrf_optuna.chains.linalg import solve_positive_definite
from lrf_optuna.decompositions.ranks import largest_ranks, one_rank

ALS_SWEEPS, FEWEST_ALS_SWEEPS = 30, 5
"""Sweeps of alternating least squares (ALS): at most, and at least for large kernels."""
ALS_PRODUCTS = 1e10
"""Multiplications of a factorization: a large kernel gets fewer sweeps, so that it takes about a second."""
RIDGE_OF_NORMAL_EQUATIONS = 1e-6
"""Share of the mean diagonal of the normal equations."""
ALS_TOLERANCE = 1e-5
"""Decrease of the relative squared error in a sweep below which ALS ends."""


@final
@dataclass(frozen=True, slots=True)
class CP:
    """CP: 1 x 1 to r channels, depthwise stages with the window, 1 x 1 (Lebedev et al. 2015).

    `by_axis`: whether there is a depthwise stage along each axis of the window, or one with the whole window.
    """

    name: str
    by_axis: bool

    def applies(self, op: Conv) -> bool:
        # a stride along one axis of two makes a grouped convolution, which TensorFlow runs 50 times slower
        uneven = self.by_axis and len(op.window) > 1 and max(op.strides) > 1
        return not op.pointwise and not op.transposed and not uneven  # nor has Keras transposed depthwise layers

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        # no generic kernel of this shape has a larger rank than all entries over the longest mode
        most = op.params // max(*op.window, op.cin, op.cout)
        return largest_ranks(partial(self.chain, op), one_rank, most, keep * op.params)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        last = pointwise(op, r, op.cout)
        if not self.by_axis:
            return Chain((pointwise(op, op.cin, r), spatial(op, r, r, groups=r), last))
        return Chain((entering(op, r), *(along(op, axis, r, r, groups=r) for axis in window_axes(op)), last))

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        sizes = [op.window[axis] for axis in window_axes(op)] if self.by_axis else [-1]
        *middle, inside, outside = als(kernel.reshape(*sizes, op.cin, op.cout), *ranks)
        return self.chain(op, ranks).shaped((inside, *middle, outside.T))


def als(tensor: Array, rank: int) -> list[Array]:
    """CP factors, one `(size, rank)` matrix a mode, of `tensor` by alternating least squares.

    Sweeps are extrapolated with Nesterov's momentum, restarted when the error rises (Mitchell, Ye and De Sterck 2020).
    The columns of all factors but the last have unit norm. Deterministic.
    """
    factors = [initial_factor(tensor, mode, rank) for mode in range(tensor.ndim)]
    best, least, momentum = factors, np.inf, 0
    for _ in range(int(np.clip(ALS_PRODUCTS / (2 * tensor.size * rank), FEWEST_ALS_SWEEPS, ALS_SWEEPS))):
        swept, error = sweep(tensor, factors)
        if error > least:
            factors, least, momentum = best, np.inf, 0
            continue
        if least - error < ALS_TOLERANCE:
            return swept
        weight = momentum / (momentum + 3)
        factors = [new + weight * (new - old) for new, old in zip(swept, best, strict=True)]
        best, least, momentum = swept, error, momentum + 1
    return best


def sweep(tensor: Array, factors: list[Array]) -> tuple[list[Array], float]:
    """One least-squares update of every factor, and the squared error relative to the tensor's norm.

    The last mode, the longest, is contracted once for all the others, and elementwise products remain.
    """
    factors, rank = list(factors), factors[0].shape[1]
    *sizes, last = tensor.shape
    matrix = tensor.reshape(-1, last)
    contracted = (matrix @ factors[-1]).reshape(*sizes, rank)
    grams = [factor.T @ factor for factor in factors]
    for mode in range(len(sizes)):
        others = [i for i in range(len(sizes)) if i != mode]
        target = reduce(np.multiply, [broadcastable(factors[i], i, len(sizes)) for i in others], contracted).sum(
            tuple(others)
        )
        found = solve_with_ridge(reduce(np.multiply, [grams[i] for i in (*others, -1)]), target)
        factors[mode] = found / np.maximum(np.linalg.norm(found, axis=0), 1e-30)
        grams[mode] = factors[mode].T @ factors[mode]
    khatri_rao = reduce(np.multiply, [broadcastable(factor, i, len(sizes)) for i, factor in enumerate(factors[:-1])])
    target, normal = matrix.T @ khatri_rao.reshape(-1, rank), reduce(np.multiply, grams[:-1])
    factors[-1] = solve_with_ridge(normal, target)
    # |T - T'|^2 = |T|^2 - 2 <T, T'> + |T'|^2
    distance = np.sum(normal * (factors[-1].T @ factors[-1])) - 2 * np.vdot(target, factors[-1])
    return factors, 1 + float(distance) / (float(np.vdot(tensor, tensor)) or 1.0)


def solve_with_ridge(normal: Array, target: Array) -> Array:
    """target (normal + ridge)^-1, where the ridge bounds the components."""
    rank = len(normal)
    ridge = (RIDGE_OF_NORMAL_EQUATIONS * np.trace(normal) / rank + 1e-30) * np.eye(rank, dtype=normal.dtype)
    return solve_positive_definite(normal + ridge, target.T).T


def broadcastable(factor: Array, mode: int, modes: int) -> Array:
    """A `(size, rank)` factor as an array of all modes and the rank, for broadcasting."""
    shape = [1] * modes
    shape[mode] = len(factor)
    return factor.reshape(*shape, -1)


def initial_factor(tensor: Array, mode: int, rank: int) -> Array:
    """The leading singular vectors of a mode; random unit columns, always equal, where the rank exceeds its size."""
    size = tensor.shape[mode]
    matrix = np.moveaxis(tensor, mode, 0).reshape(size, -1)
    vectors = np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
    if rank > size:
        more = np.random.default_rng(rank).standard_normal((size, rank - size))
        vectors = np.concatenate([vectors, more / np.linalg.norm(more, axis=0)], axis=1)
    return vectors.astype(matrix.dtype)
