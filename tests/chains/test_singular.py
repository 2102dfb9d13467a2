"""Singular values from second moments are those of LAPACK, and pivots those of Householder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import qr as householder

from lrf_optuna.chains import linalg
from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.linalg import LARGE
from lrf_optuna.decompositions.base import factorize
from lrf_optuna.decompositions.qr import pivoted
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.decompositions.tt_matrix import split_size

Array = np.ndarray[Any, Any]


def matrix_of(rows: int, columns: int, dtype: type = np.float64) -> Array:
    rng = np.random.default_rng(rows)
    few = min(rows, columns)
    return ((rng.standard_normal((rows, few)) * 0.7 ** np.arange(few)) @ rng.standard_normal((few, columns))).astype(
        dtype
    )


@pytest.mark.parametrize(("rows", "columns"), [(30, 12), (12, 30), (7, 7), (1, 5), (5, 1)])
@pytest.mark.parametrize("left", [0, 0.5])
def test_a_truncation_is_that_of_the_singular_value_decomposition(rows: int, columns: int, left: float) -> None:
    matrix = matrix_of(rows, columns)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    for rank in (1, 3, min(rows, columns)):
        rank = min(rank, rows, columns)
        first, last = linalg.singular_vectors(matrix).truncated(rank, left)
        np.testing.assert_allclose(first @ last, (u[:, :rank] * values[:rank]) @ v[:rank], atol=1e-6)
        gram = np.diag(values[:rank]) if left else np.eye(rank)
        np.testing.assert_allclose(first.T @ first, gram, atol=1e-5)


def test_a_matrix_of_less_than_full_rank_and_one_of_zeros_are_cut_to_any_rank() -> None:
    low = matrix_of(9, 2) @ matrix_of(2, 6)
    for matrix in (low, low.T, np.zeros((9, 6)), np.zeros((6, 9), np.float32)):
        first, last = linalg.singular_vectors(matrix).truncated(5)
        assert (first.shape, last.shape) == ((len(matrix), 5), (5, matrix.shape[1]))
        np.testing.assert_allclose(first @ last, matrix, atol=1e-6)


def test_few_of_many_are_found_by_random_projections_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = matrix_of(120, 90, np.float32)
    exact = linalg.singular_vectors(matrix).truncated(4)
    monkeypatch.setattr(linalg, "LARGE", 16)
    first, second = (linalg.singular_vectors(matrix, 4).truncated(4) for _ in range(2))
    np.testing.assert_allclose(first[0] @ first[1], exact[0] @ exact[1], atol=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert LARGE > 10**6


@pytest.mark.parametrize(("rows", "columns"), [(30, 12), (12, 30), (9, 9)])
def test_the_pivots_and_r_are_those_of_householder(rows: int, columns: int) -> None:
    matrix = matrix_of(rows, columns)
    order, upper = pivoted(matrix)
    _, wanted, pivots = householder(matrix, mode="economic", pivoting=True)
    sure = 8  # the last pivots differ where what is left is rounding
    assert order[:sure].tolist() == pivots[:sure].tolist()
    np.testing.assert_allclose(np.abs(upper[:sure, :sure]), np.abs(wanted[:sure, :sure]), atol=1e-6)


def test_a_sum_of_kronecker_products_is_recovered_by_its_terms() -> None:
    op, rng = Conv((), 6 * 4, 3 * 5, (), ()), np.random.default_rng(0)
    # inputs from the larger factor, outputs from the smaller one
    terms = [(rng.standard_normal((6, 3)), rng.standard_normal((4, 5))) for _ in range(2)]
    kernel = sum(np.kron(a, b) for a, b in terms)
    method = DECOMPOSITIONS["kronecker"]
    chain = method.chain(op, (2,))
    assert chain.params == 2 * (6 * 3 + 4 * 5)
    np.testing.assert_allclose(chain.compose(factorize(method, op, kernel, (2,))), kernel, atol=1e-9)


@pytest.mark.parametrize("name", ["kronecker", "tt_matrix"])
@pytest.mark.parametrize("keep", [0.02, 0.1, 0.5, 1.0])
def test_a_tensorized_layer_never_takes_more_multiplications_than_the_layer(name: str, keep: float) -> None:
    op = Conv((), 784, 300, (), ())
    method = DECOMPOSITIONS[name]
    assert method.chain(op, method.ranks(op, keep)).macs(()) <= op.params


@pytest.mark.parametrize(
    ("size", "parts", "factors"),
    [
        (784, 2, [28, 28]),
        (300, 2, [15, 20]),
        (25088, 2, [128, 196]),
        (4096, 3, [16, 16, 16]),
        (7, 2, [1, 7]),
        (12, 1, [12]),
    ],
)
def test_a_size_is_split_into_factors_as_equal_as_can_be(size: int, parts: int, factors: list[int]) -> None:
    assert split_size(size, parts) == factors
