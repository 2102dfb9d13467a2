"""Column-pivoted QR decomposition of a Dense or 1 x 1 kernel: the outputs that say most span the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.conv import Array, Conv
from lrf_optuna.decompositions.svd import SVD

Pivoted = tuple[Array, Array, Array]
"""The matrix, the order of its columns, and R with its columns in that order."""


@dataclass(frozen=True, slots=True)
class QR(SVD):
    """W P = Q R cut after r rows of R (Businger and Golub 1965): two pointwise stages, Q and R P'."""

    name: str = "qr"

    def prepare(self, op: Conv, kernel: Array) -> Pivoted:  # type: ignore[override]
        matrix = kernel.reshape(-1, op.cout)
        return matrix, *pivoted(matrix)

    def truncate(self, op: Conv, prepared: Pivoted, ranks: tuple[int, ...]) -> tuple[Array, ...]:  # type: ignore[override]
        from scipy.linalg import solve_triangular

        (r,), (matrix, order, upper) = ranks, prepared
        alive = min(r, len(upper))
        first, last = np.zeros((len(matrix), r), matrix.dtype), np.zeros((r, op.cout), matrix.dtype)
        corner = upper[:alive, :alive]
        first[:, :alive] = solve_triangular(corner, matrix[:, order[:alive]].T, trans="T", lower=False).T
        last[:alive, order] = upper[:alive]
        ones = (1,) * len(op.window)
        return first.reshape(*ones, op.cin, r), last.reshape(*ones, r, op.cout)


def pivoted(matrix: Array) -> tuple[Array, Array]:
    """Pivots and R of a column-pivoted QR: the Cholesky factor, pivoted, of the columns' second moments.

    The pivots are the same as those of Householder's way, at the speed of a matrix product. Rows of R that are
    nothing but rounding are left out.
    """
    from scipy.linalg.lapack import dpstrf

    wide = matrix.astype(np.float64)
    upper, order, rank, _ = dpstrf(wide.T @ wide, tol=-1.0)
    rank = max(1, min(rank, *matrix.shape))
    return order - 1, np.triu(upper)[:rank].astype(matrix.dtype)
