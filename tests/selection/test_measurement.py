"""The jackknife's standard error of a difference is that of the closed forms."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from support.points import measurement_of

from lrf_optuna.selection.measurement import FOLDS, Measurement

IMAGES, NETWORKS = 2000, 60


def test_the_standard_error_of_two_accuracies_is_about_the_paired_binomial_one(rng: np.random.Generator) -> None:
    """The mean over pairs of networks of which the second differs from the first on a tenth of the images."""
    found, wanted = [], []
    for _ in range(NETWORKS):
        first = rng.random(IMAGES) < 0.9
        second = np.where(rng.random(IMAGES) < 0.1, rng.random(IMAGES) < 0.8, first)
        apart = first.astype(float) - second
        gain, error = measurement_of(first).difference(measurement_of(second))
        assert gain == pytest.approx(apart.mean())
        found.append(error)
        wanted.append(sqrt(apart.var() / IMAGES))
    assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.05)
    assert np.std(np.divide(found, wanted)) == pytest.approx(1 / sqrt(2 * (FOLDS - 1)), rel=0.35)


def test_networks_that_are_right_on_the_same_images_differ_by_nothing_for_sure(rng: np.random.Generator) -> None:
    right = rng.random(IMAGES) < 0.7
    assert measurement_of(right).difference(measurement_of(right)) == (0, 0)


def test_of_a_single_image_nothing_is_sure() -> None:
    one, other = (Measurement(metric, np.array([]), 1) for metric in (1.0, 0.0))
    assert one.difference(other) == (1, inf)
