"""Solutions, products and singular vectors that use the structure of a matrix, for about half the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.conv import Array


def solve_positive_definite(gram: Array, right: Array) -> Array:
    """The X with G X = B for a symmetric positive definite G; LAPACK reads only one half of G."""
    from scipy.linalg import lapack

    solve = lapack.dposv if gram.dtype == np.float64 else lapack.sposv
    _, found, failed = solve(gram.T, right)
    out: Array = found if not failed else np.linalg.solve(gram, right)
    return np.ascontiguousarray(out)


def multiply_triangular(factor: Array, matrix: Array, transposed: bool = False) -> Array:
    """R M, or R'M, for an upper triangular R of single precision and a matrix M."""
    from scipy.linalg.blas import strmm

    if matrix.dtype != np.float32:
        return (factor.T if transposed else factor) @ matrix
    # BLAS counts by columns: there M is M' and R is R', which is lower triangular, and (R M)' = M' R'
    out: Array = strmm(1.0, factor.T, matrix.T, side=1, lower=1, trans_a=transposed)
    return out.T


LARGE = 2**25
"""Entries of a matrix above which its second moments are summed in its own precision, to halve their memory."""
RANDOMIZED_RATIO = 8
"""Ratio of all singular vectors to the wanted ones from which the randomized method is the cheaper one."""


@dataclass(frozen=True, slots=True)
class SingularVectors:
    """A matrix and its singular vectors on the smaller side, in the order of falling values."""

    matrix: Array
    vectors: Array
    values: Array
    columns: bool
    """Whether the vectors are right ones, `(n, k)`, or left ones, `(m, k)`."""

    def truncated(self, rank: int, left: float = 0.5) -> tuple[Array, Array]:
        """The best `(m, rank) @ (rank, n)` in the Frobenius norm (Eckart and Young 1936).

        The values are on both sides, to the power `left` on the left one: with 0 its columns are orthonormal.
        """
        vectors, values = self.vectors[:, :rank], self.values[:rank]
        nonzero = values > 1e-7 * max(float(self.values[0]), 1e-30)
        values = np.where(nonzero, values, 1)
        if self.columns:
            first, last = self.matrix @ (vectors * (nonzero * values ** (left - 1))), (vectors * values ** (1 - left)).T
        else:
            first, last = vectors * values**left, (vectors * (nonzero * values**-left)).T @ self.matrix
        return padded(first, rank, 1), padded(last, rank, 0)


def singular_vectors(matrix: Array, count: int | None = None) -> SingularVectors:
    """The singular vectors and values of an `(m, n)` matrix: all, or those of the `count` largest values.

    Few vectors of a large matrix come from random projections (Halko et al. 2011) with a fixed seed.
    """
    columns = matrix.shape[1] <= matrix.shape[0]
    if count is not None and RANDOMIZED_RATIO * count < min(matrix.shape) and matrix.size > LARGE // 16:
        from sklearn.utils.extmath import randomized_svd

        left, values, right = randomized_svd(matrix, count, n_iter=4, random_state=0)
        vectors = right.T if columns else left
    else:
        rows = matrix if matrix.size > LARGE else matrix.astype(np.float64)
        squares, vectors = np.linalg.eigh((rows.T @ rows if columns else rows @ rows.T).astype(np.float64))
        values, vectors = np.sqrt(np.maximum(squares[::-1], 0)), vectors[:, ::-1]
    return SingularVectors(matrix, vectors.astype(matrix.dtype), values.astype(matrix.dtype), columns)


def padded(matrix: Array, rank: int, axis: int) -> Array:
    """The matrix with zeros on one axis up to `rank`, where there are fewer singular vectors."""
    missing = rank - matrix.shape[axis]
    if missing <= 0:
        return np.ascontiguousarray(matrix)
    return np.pad(matrix, [(0, missing if i == axis else 0) for i in range(2)])
