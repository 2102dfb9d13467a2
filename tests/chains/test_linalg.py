"""Solutions and products that look at half a matrix are those of the whole one."""

from __future__ import annotations

import numpy as np
import pytest

from lrf_optuna.chains.linalg import multiply_triangular, solve_positive_definite


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 5])
def test_a_definite_system_is_solved(rng: np.random.Generator, dtype: type, columns: int) -> None:
    half = rng.standard_normal((9, 30)).astype(dtype)
    gram, right = half @ half.T, rng.standard_normal((9, columns)).astype(dtype)
    before = gram.copy(), right.copy()
    found = solve_positive_definite(gram, right)
    np.testing.assert_allclose(found, np.linalg.solve(gram, right), rtol=1e-3, atol=1e-4)
    assert found.dtype == dtype
    assert found.flags.c_contiguous
    assert all(np.array_equal(a, b) for a, b in zip(before, (gram, right), strict=True))


def test_a_system_that_is_not_definite_is_solved_all_the_same(rng: np.random.Generator) -> None:
    gram, right = np.diag([1.0, -2.0, 3.0]), rng.standard_normal((3, 2))
    np.testing.assert_allclose(gram @ solve_positive_definite(gram, right), right)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("columns", [0, 1, 6])
def test_a_triangular_product_is_the_product(
    rng: np.random.Generator, dtype: type, transposed: bool, columns: int
) -> None:
    factor = np.triu(rng.standard_normal((7, 7))).astype(np.float32)
    matrix = rng.standard_normal((7, 2 * columns)).astype(dtype)[:, ::2]
    before = matrix.copy()
    whole = (factor.T if transposed else factor) @ matrix
    found = multiply_triangular(factor, matrix, transposed)
    assert found.shape == whole.shape
    assert found.dtype == whole.dtype
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(matrix, before)
