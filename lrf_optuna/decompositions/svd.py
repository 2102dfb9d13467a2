"""Truncated singular value decompositions of the kernel as a matrix: `svd`, `channel_svd`, `spatial_svd`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, along, pointwise, spatial
from lrf_optuna.chains.linalg import SingularVectors, singular_vectors
from lrf_optuna.decompositions.ranks import largest_ranks, one_rank


def matrix_ranks(op: Conv, keep: float) -> tuple[int, ...]:
    """The largest rank of a (window x cin) by cout matrix whose two factors have this share of the weights."""
    full = min(op.params // op.cout, op.cout)
    return largest_ranks(partial(matrix_chain, op), one_rank, full, keep * op.params)


def matrix_chain(op: Conv, ranks: tuple[int, ...]) -> Chain:
    """The chain of a matrix factorization of rank r: the whole window into r channels, then 1 x 1."""
    (r,) = ranks
    return Chain((spatial(op, op.cin, r), pointwise(op, r, op.cout)))


def matrix_kernels(op: Conv, first: Array, last: Array) -> Kernels:
    """The factors `(window x cin, r)` and `(r, cout)` as the kernels of a matrix chain."""
    return first.reshape(*op.window, op.cin, -1), last.reshape(*(1,) * len(op.window), -1, op.cout)


@final
@dataclass(frozen=True, slots=True)
class MatrixSVD:
    """SVD of the (window x cin) by cout matrix: the whole window into r channels, then 1 x 1 (Zhang et al. 2015).

    `pointwise`: whether it is for Dense and 1 x 1 kernels, whose stride goes to the first stage, or for all others.
    """

    name: str
    pointwise: bool

    def applies(self, op: Conv) -> bool:
        return op.pointwise == self.pointwise

    ranks = staticmethod(matrix_ranks)
    chain = staticmethod(matrix_chain)

    def prepare(self, op: Conv, kernel: Array) -> SingularVectors:
        return singular_vectors(kernel.reshape(-1, op.cout))

    def truncate(self, op: Conv, prepared: SingularVectors, ranks: tuple[int, ...]) -> Kernels:
        return matrix_kernels(op, *prepared.truncated(ranks[0]))


@final
@dataclass(frozen=True, slots=True)
class SpatialSVD:
    """Spatial SVD: the window's first axis into r channels, then the others into cout (Jaderberg et al. 2014)."""

    name: str = "spatial_svd"

    def applies(self, op: Conv) -> bool:
        return len(op.window) > 1 and op.window[0] > 1 and max(op.window[1:]) > 1

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        first = op.window[0] * op.cin
        full = min(first, op.params // first)
        return largest_ranks(partial(self.chain, op), one_rank, full, keep * op.params)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        window, strides, dilation = ((1, *sizes[1:]) for sizes in (op.window, op.strides, op.dilation))
        others = replace(op, window=window, strides=strides, dilation=dilation, cin=r)
        return Chain((along(op, 0, op.cin, r), others))

    def prepare(self, op: Conv, kernel: Array) -> SingularVectors:
        return singular_vectors(np.moveaxis(kernel, -2, 1).reshape(op.window[0] * op.cin, -1))

    def truncate(self, op: Conv, prepared: SingularVectors, ranks: tuple[int, ...]) -> Kernels:
        first, last = prepared.truncated(ranks[0])
        others = np.moveaxis(last.reshape(-1, *op.window[1:], op.cout), 0, -2)
        return self.chain(op, ranks).shaped((first, np.ascontiguousarray(others)))
