"""Images whose maps are not finite are not similar at all, by every similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lrf_optuna.scoring.similarity import SIMILARITIES, similarity_of_finite

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
