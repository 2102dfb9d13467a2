"""Column-pivoted QR decomposition of a Dense or 1 x 1 kernel: r columns of the kernel span the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from lrf_optuna.chains.conv import Array, Conv, Kernels
from lrf_optuna.decompositions.svd import matrix_chain, matrix_kernels, matrix_ranks

Pivoted = tuple[Array, Array, Array]
"""The matrix, the order of its columns, and R with its columns in that order."""


@final
@dataclass(frozen=True, slots=True)
class QR:
    """W P = Q R cut after r rows of R (Businger and Golub 1965): two pointwise stages, Q and R P'."""

    name: str = "qr"

    def applies(self, op: Conv) -> bool:
        return op.pointwise

    ranks = staticmethod(matrix_ranks)
    chain = staticmethod(matrix_chain)

    def prepare(self, op: Conv, kernel: Array) -> Pivoted:
        matrix = kernel.reshape(-1, op.cout)
        return matrix, *pivoted(matrix)

    def truncate(self, op: Conv, prepared: Pivoted, ranks: tuple[int, ...]) -> Kernels:
        from scipy.linalg import solve_triangular

        (r,), (matrix, order, upper) = ranks, prepared
        rank = min(r, len(upper))
        first, last = np.zeros((len(matrix), r), matrix.dtype), np.zeros((r, op.cout), matrix.dtype)
        corner = upper[:rank, :rank]
        first[:, :rank] = solve_triangular(corner, matrix[:, order[:rank]].T, trans="T", lower=False).T
        last[:rank, order] = upper[:rank]
        return matrix_kernels(op, first, last)


def pivoted(matrix: Array) -> tuple[Array, Array]:
    """Pivots and R of a column-pivoted QR, from the pivoted Cholesky factor of the columns' second moments.

    The pivots equal those of Householder's algorithm, at the speed of a matrix product. Rows of R that are only
    rounding are left out.
    """
    from scipy.linalg.lapack import dpstrf

    exact = matrix.astype(np.float64)
    upper, order, rank, _ = dpstrf(exact.T @ exact, tol=-1.0)
    rank = max(1, min(rank, *matrix.shape))
    return order - 1, np.triu(upper)[:rank].astype(matrix.dtype)
