"""Every similarity is 1 for equal maps and falls with noise; every objective is a cost, the original its unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.similarity import SIMILARITIES

Array = np.ndarray[Any, Any]
ORIGINAL = Measured({"a": 1.0, "b": 1.0}, 1000, 50_000, 1.0, 1.0)
over_similarities = pytest.mark.parametrize("similar", SIMILARITIES.values(), ids=SIMILARITIES)


def maps(seed: int, shape: tuple[int, ...] = (40, 4, 4, 3)) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@over_similarities
@pytest.mark.parametrize("shape", [(40, 4, 4, 3), (12, 10), (2, 5)])
def test_equal_maps_are_alike_to_the_full(similar: Callable[..., float], shape: tuple[int, ...]) -> None:
    assert similar(maps(0, shape), maps(0, shape)) == pytest.approx(1.0, abs=1e-6)


@over_similarities
def test_the_more_noise_the_less_alike(similar: Callable[..., float]) -> None:
    reference, noise = maps(0, (200, 10)), maps(1, (200, 10))
    found = [similar(reference, reference + scale * noise) for scale in (0, 0.1, 0.5, 2)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 0.3


@over_similarities
def test_a_similarity_is_a_number_of_at_most_one_for_dead_and_for_opposite_maps(similar: Callable[..., float]) -> None:
    reference = maps(0)
    for other in (np.zeros_like(reference), -reference, 1e6 * reference, maps(3)):
        for pair in ((reference, other), (other, reference)):
            value = similar(*pair)
            assert np.isfinite(value)
            assert -1 - 1e-6 <= value <= 1 + 1e-6


@over_similarities
def test_what_is_compared_is_left_as_it_is(similar: Callable[..., float]) -> None:
    a, b = maps(0), maps(1)
    similar(a, b)
    assert np.array_equal(a, maps(0))
    assert np.array_equal(b, maps(1))


def test_cosine_is_the_mean_cosine_of_the_images() -> None:
    a, b = np.array([[1.0, 0], [1, 0], [0, 3]]), np.array([[2.0, 0], [1, 1], [0, -1]])
    assert SIMILARITIES["cosine"](a, b) == pytest.approx((1 + 2**-0.5 - 1) / 3)


def test_explained_is_one_minus_the_relative_squared_error() -> None:
    a = np.array([[3.0, 0], [0, 4]])
    assert SIMILARITIES["explained"](a, 0.5 * a) == pytest.approx(0.75)
    assert SIMILARITIES["explained"](a, -a) == 0


def test_agreement_is_the_share_of_equal_labels() -> None:
    a, b = np.eye(4), np.eye(4)[[0, 1, 3, 2]]
    assert SIMILARITIES["agreement"](a, b) == 0.5


def test_cka_is_the_centred_alignment_of_the_features() -> None:
    a, b = maps(0, (30, 6)).astype(float), maps(1, (30, 4)).astype(float)
    x, y = a - a.mean(0), b - b.mean(0)
    wanted = np.sum((y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))  # Kornblith et al. 2019
    assert SIMILARITIES["cka"](a, b) == pytest.approx(wanted, rel=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 5))
def test_cka_knows_no_scale_no_shift_and_no_rotation(scale: float, seed: int) -> None:
    a, b = maps(0, (20, 5)).astype(float), maps(1, (20, 5)).astype(float)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0]
    assert SIMILARITIES["cka"](a, scale * b @ turn + 3) == pytest.approx(SIMILARITIES["cka"](a, b), rel=1e-6)


def test_the_original_costs_no_loss_and_one_of_everything_else() -> None:
    assert {name: cost(ORIGINAL) for name, cost in OBJECTIVES.items()} == {
        name: 0.0 if name == "loss" else 1.0 for name in OBJECTIVES
    }


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_network_that_is_smaller_or_more_alike_costs_no_more(objective: str) -> None:
    worse = Measured({"a": 0.5, "b": 0.7}, 600, 40_000, 0.6, 0.8)
    better = Measured({"a": 0.6, "b": 0.7}, 500, 30_000, 0.5, 0.6)
    assert OBJECTIVES[objective](better) < OBJECTIVES[objective](worse)


def test_loss_is_one_minus_the_mean_similarity_and_sizes_are_shares() -> None:
    measured = Measured({"a": 0.5, "b": 0.9}, 600, 40_000, 0.6, 0.8)
    assert OBJECTIVES["loss"](measured) == pytest.approx(0.3)
    assert (OBJECTIVES["params"](measured), OBJECTIVES["macs"](measured)) == (0.6, 0.8)


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LrfError, match=r"unknown similarity 'cosin' \(did you mean 'cosine'\?\); there is: ") as error:
        lookup(SIMILARITIES, "cosin", "similarity")
    assert all(name in str(error.value) for name in SIMILARITIES)
    with pytest.raises(LrfError, match="unknown objective 'zzz'; there is: loss, macs, params"):
        lookup(OBJECTIVES, "zzz", "objective")
