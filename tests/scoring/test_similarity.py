"""Every similarity is 1 for equal maps and falls with noise, and maps that are not finite are not similar at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.scoring.similarity import SIMILARITIES, Similarity, similarity_of_finite

Array = np.ndarray[Any, Any]
over_similarities = pytest.mark.parametrize("similarity", SIMILARITIES.values(), ids=SIMILARITIES)


@pytest.fixture
def maps(rng: np.random.Generator) -> Array:
    return rng.standard_normal((12, 3, 4)).astype(np.float32)


@over_similarities
def test_finite_maps_have_the_plain_similarity(similarity: Any, maps: Array, rng: np.random.Generator) -> None:
    other = maps + rng.standard_normal(maps.shape).astype(np.float32)
    assert similarity_of_finite(similarity, maps, other) == similarity(maps, other)
    assert similarity_of_finite(similarity, maps, maps) == pytest.approx(1)


@over_similarities
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_nowhere_finite_are_not_similar(similarity: Any, maps: Array, value: float) -> None:
    for other in (np.full_like(maps, value), np.where(np.arange(4) == 1, value, maps).astype(np.float32)):
        assert similarity_of_finite(similarity, maps, other) == 0


@over_similarities
def test_an_image_with_a_value_that_is_not_finite_counts_as_not_similar(similarity: Any, maps: Array) -> None:
    other = maps.copy()
    other[:3, 0, 0] = np.nan
    assert similarity_of_finite(similarity, maps, other) == pytest.approx(9 / 12)


@over_similarities
def test_maps_that_overflow_are_no_more_similar_than_equal_ones(similarity: Any, maps: Array) -> None:
    with np.errstate(all="ignore"):
        assert 0 <= similarity_of_finite(similarity, maps, maps * np.float32(1e38)) <= 1


def random_maps(seed: int, shape: tuple[int, ...] = (40, 4, 4, 3)) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@over_similarities
@pytest.mark.parametrize("shape", [(40, 4, 4, 3), (12, 10), (2, 5)])
def test_equal_maps_are_alike_to_the_full(similarity: Similarity, shape: tuple[int, ...]) -> None:
    assert similarity(random_maps(0, shape), random_maps(0, shape)) == pytest.approx(1.0, abs=1e-6)


@over_similarities
def test_the_more_noise_the_less_alike(similarity: Similarity) -> None:
    reference, noise = random_maps(0, (200, 10)), random_maps(1, (200, 10))
    found = [similarity(reference, reference + scale * noise) for scale in (0, 0.1, 0.5, 2)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 0.3


@over_similarities
def test_a_similarity_is_a_number_of_at_most_one_for_dead_and_for_opposite_maps(similarity: Similarity) -> None:
    reference = random_maps(0)
    for other in (np.zeros_like(reference), -reference, 1e6 * reference, random_maps(3)):
        for pair in ((reference, other), (other, reference)):
            value = similarity(*pair)
            assert np.isfinite(value)
            assert -1 - 1e-6 <= value <= 1 + 1e-6


@over_similarities
def test_what_is_compared_is_left_as_it_is(similarity: Similarity) -> None:
    a, b = random_maps(0), random_maps(1)
    similarity(a, b)
    assert np.array_equal(a, random_maps(0))
    assert np.array_equal(b, random_maps(1))


def test_cosine_is_the_mean_cosine_of_the_images() -> None:
    a, b = np.array([[1.0, 0], [1, 0], [0, 3]]), np.array([[2.0, 0], [1, 1], [0, -1]])
    assert SIMILARITIES["cosine"](a, b) == pytest.approx((1 + 2**-0.5 - 1) / 3)


def test_explained_is_the_mean_r2_of_the_units() -> None:
    a = np.array([[3.0, 0], [0, 4], [1, -1], [2, 7]])
    b = a + np.array([[0.5, -1], [0.2, 0], [0, 1], [-0.5, 2]])
    each = [1 - np.sum((a[:, i] - b[:, i]) ** 2) / np.sum((a[:, i] - a[:, i].mean()) ** 2) for i in range(2)]
    assert SIMILARITIES["explained"](a, b) == pytest.approx(np.mean(each))
    assert SIMILARITIES["explained"](a, -a) == 0


def test_agreement_is_the_share_of_equal_labels() -> None:
    a, b = np.eye(4), np.eye(4)[[0, 1, 3, 2]]
    assert SIMILARITIES["agreement"](a, b) == 0.5


def test_cka_is_the_centered_alignment_of_the_features() -> None:
    a, b = random_maps(0, (30, 6)).astype(float), random_maps(1, (30, 4)).astype(float)
    x, y = a - a.mean(0), b - b.mean(0)
    wanted = np.sum((y.T @ x) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))  # Kornblith et al. 2019
    assert SIMILARITIES["cka"](a, b) == pytest.approx(wanted, rel=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 5))
def test_cka_knows_no_scale_no_shift_and_no_rotation(scale: float, seed: int) -> None:
    a, b = random_maps(0, (20, 5)).astype(float), random_maps(1, (20, 5)).astype(float)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0]
    assert SIMILARITIES["cka"](a, scale * b @ turn + 3) == pytest.approx(SIMILARITIES["cka"](a, b), rel=1e-6)


def test_an_unknown_similarity_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LrfError, match=r"unknown similarity 'cosin' \(did you mean 'cosine'\?\); there is: ") as error:
        lookup(SIMILARITIES, "cosin", "similarity")
    assert all(name in str(error.value) for name in SIMILARITIES)
