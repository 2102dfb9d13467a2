"""Canonical polyadic (CP) decompositions of a convolution kernel: `cp` and `cp3`.

Alternating least squares with a small ridge: the ridge bounds the components, so that none diverges against another
(Phan et al. 2020) and fine-tuning starts from well-conditioned stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from lrf_optuna.decompositions.budget import largest
from lrf_optuna.stages import Array, Chain, Conv, along, pointwise, spatial

SWEEPS = 50
RIDGE = 1e-6
"""Of the mean diagonal of the normal equations."""
TOLERANCE = 1e-5
"""ALS ends when a sweep lowers the relative error by less."""


@dataclass(frozen=True, slots=True)
class CP:
    """CP: 1 x 1 to r channels, a depthwise stage along each axis of the window, 1 x 1 (Lebedev et al. 2015)."""

    name: str = "cp"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise and op.groups == 1

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (largest(lambda r: self.chain(op, (r,)).params, most_terms(op), keep * op.params),)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        middle = [along(op, axis, r, r, groups=r) for axis in axes(op)]
        return Chain((pointwise(op, op.cin, r), *middle, pointwise(op, r, op.cout)))

    def factorise(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        (r,) = ranks
        sizes = tuple(op.window[axis] for axis in axes(op))
        *middle, inside, outside = als(kernel.reshape(*sizes, op.cin, op.cout), r)
        windows = [on_axis(op, axis, factor) for axis, factor in zip(axes(op), middle, strict=True)]
        ones = (1,) * len(op.window)
        return inside.reshape(*ones, op.cin, r), *windows, outside.T.reshape(*ones, r, op.cout)


@dataclass(frozen=True, slots=True)
class CP3(CP):
    """CP with the window in one piece: 1 x 1 to r channels, one depthwise stage, 1 x 1 to cout."""

    name: str = "cp3"

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        return Chain((pointwise(op, op.cin, r), spatial(op, r, r, groups=r), pointwise(op, r, op.cout)))

    def factorise(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        (r,) = ranks
        window, inside, outside = als(kernel.reshape(-1, op.cin, op.cout), r)
        ones = (1,) * len(op.window)
        return inside.reshape(*ones, op.cin, r), window.reshape(*op.window, 1, r), outside.T.reshape(*ones, r, op.cout)


def axes(op: Conv) -> list[int]:
    """The axes along which the window is more than a point."""
    return [axis for axis, size in enumerate(op.window) if size > 1]


def on_axis(op: Conv, axis: int, factor: Array) -> Array:
    """A (size, r) factor as the kernel of a depthwise stage along one axis."""
    shape = [1] * len(op.window)
    shape[axis] = op.window[axis]
    return factor.reshape(*shape, 1, -1)


def most_terms(op: Conv) -> int:
    """A rank that no generic kernel of this shape exceeds: all entries over the longest mode."""
    return op.params // max(*op.window, op.cin, op.cout)


def als(tensor: Array, rank: int) -> list[Array]:
    """CP factors, one `(size, rank)` matrix a mode, of `tensor` by alternating least squares.

    The columns of all factors but the last have unit norm. Deterministic.
    """
    unfolded = [
        np.ascontiguousarray(np.moveaxis(tensor, mode, 0).reshape(size, -1)) for mode, size in enumerate(tensor.shape)
    ]
    factors = [start(matrix, rank) for matrix in unfolded]
    grams = [factor.T @ factor for factor in factors]
    squared = float(np.vdot(tensor, tensor)) or 1.0
    before = np.inf
    for _ in range(SWEEPS):
        for mode, matrix in enumerate(unfolded):
            others = [i for i in range(tensor.ndim) if i != mode]
            normal: Array = reduce(np.multiply, [grams[i] for i in others])
            normal = normal + RIDGE * np.trace(normal) / rank * np.eye(rank, dtype=tensor.dtype)
            target = matrix @ reduce(khatri_rao, [factors[i] for i in others])
            factors[mode] = np.linalg.solve(normal, target.T).T
            if mode < tensor.ndim - 1:
                factors[mode] = factors[mode] / np.maximum(np.linalg.norm(factors[mode], axis=0), 1e-30)
            grams[mode] = factors[mode].T @ factors[mode]
        # |T - T'|^2 = |T|^2 - 2 <T, T'> + |T'|^2, all from the last mode's products
        error = 1 + (np.sum(normal * grams[-1]) - 2 * np.vdot(target, factors[-1])) / squared
        if before - error < TOLERANCE:
            break
        before = float(error)
    return factors


def start(unfolded: Array, rank: int) -> Array:
    """The leading left singular vectors, and where the rank exceeds the mode's size, fixed random unit columns."""
    size = len(unfolded)
    vectors = np.linalg.eigh(unfolded @ unfolded.T)[1][:, ::-1][:, :rank]
    if rank > size:
        more = np.random.default_rng(rank).standard_normal((size, rank - size))
        vectors = np.concatenate([vectors, more / np.linalg.norm(more, axis=0)], axis=1)
    return vectors.astype(unfolded.dtype)


def khatri_rao(left: Array, right: Array) -> Array:
    """Column-wise Kronecker product: `(m, r), (n, r) -> (m n, r)`."""
    out: Array = (left[:, None] * right[None]).reshape(-1, left.shape[1])
    return out
