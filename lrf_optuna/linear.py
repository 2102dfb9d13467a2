"""Products and solutions that know what a matrix looks like: about half the work of those that do not."""

from __future__ import annotations

import numpy as np

from lrf_optuna.stages import Array


def definite(gram: Array, right: Array) -> Array:
    """The X with G X = B, for a symmetric positive definite G, of which only half is looked at."""
    from scipy.linalg import lapack

    solve = lapack.dposv if gram.dtype == np.float64 else lapack.sposv
    _, found, failed = solve(gram.T, right)
    out: Array = found if not failed else np.linalg.solve(gram, right)
    return np.ascontiguousarray(out)


def upper(factor: Array, matrix: Array, transposed: bool = False) -> Array:
    """R M, or R'M, for an upper triangular R of single precision and a matrix M."""
    from scipy.linalg.blas import strmm

    if matrix.dtype != np.float32:
        wide: Array = (factor.T if transposed else factor) @ matrix
        return wide
    # BLAS counts by columns: there M is M' and R is R', which is lower triangular, and (R M)' = M' R'
    out: Array = strmm(1.0, factor.T, matrix.T, side=1, lower=1, trans_a=transposed)
    return out.T
