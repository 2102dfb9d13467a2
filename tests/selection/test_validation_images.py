"""Plans of a run are measured on validation images, of a large network on fewer of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lrf_optuna.data.dataset import FEW_VALIDATION_IMAGES, LabeledImages
from lrf_optuna.data.tasks import OUTPUT
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection import validation as measuring
from lrf_optuna.selection.plan_refits import refits_on_validation
from lrf_optuna.selection.validation import validation_of

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data


@pytest.fixture(scope="module")
def known(digits: Data, digits_net: Any) -> Proxy:
    return Proxy(digits_net, digits.preprocess(digits.calibration(256, 0).pixels))


@pytest.mark.parametrize(("images", "measured"), [(10**6, None), (230, 230), (10, FEW_VALIDATION_IMAGES)])
def test_a_measurement_has_a_budget_but_at_least_a_few_images(
    known: Proxy, digits: Data, images: int, measured: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MEASURED_MACS", images * known.inventory.macs)
    validation = validation_of(known, digits, digits.calibration(256, 0).pixels[64:], seed=0)
    assert len(validation.images) == min(measured or len(digits.val), len(digits.val))
    labels = validation.labels[OUTPUT]
    shares = np.bincount(labels, minlength=digits.classes) / len(labels)
    wanted = np.bincount(digits.val.labels, minlength=digits.classes) / len(digits.val)
    np.testing.assert_allclose(shares, wanted, atol=2 / len(labels))


def test_every_prefix_of_the_images_holds_the_classes_in_about_their_shares(known: Proxy, digits: Data) -> None:
    labels = validation_of(known, digits, digits.calibration(256, 0).pixels[64:], seed=0).labels[OUTPUT]
    wanted = np.bincount(digits.val.labels, minlength=digits.classes) / len(digits.val)
    for count in (50, 100, len(labels)):
        shares = np.bincount(labels[:count], minlength=digits.classes) / count
        np.testing.assert_allclose(shares, wanted, atol=2 / count)


def test_whether_the_images_are_all_validation_images_is_known(
    known: Proxy, digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    unscored = digits.calibration(256, 0).pixels[64:]
    assert validation_of(known, digits, unscored, seed=0).whole
    few = replace(digits, val=digits.val.take(slice(20)))
    assert not validation_of(known, few, unscored, seed=0).whole, "training images are among them"
    monkeypatch.setattr(measuring, "MEASURED", 210)
    assert not validation_of(known, digits, unscored, seed=0).whole


def test_refits_start_from_what_the_original_reaches(known: Proxy, digits: Data) -> None:
    unscored = digits.calibration(256, 0).pixels[len(known.scored) :]
    validation = validation_of(known, digits, unscored, seed=0)
    refits = refits_on_validation(validation, unscored)
    assert refits(Plan(())) == validation.of({}) > 0.9
    np.testing.assert_array_equal(refits.images(), digits.preprocess(unscored))
    assert not refits.validation_was_fitted
    few = replace(digits, val=LabeledImages(digits.val.pixels[:20], digits.val.labels[:20]))
    small = validation_of(known, few, unscored, seed=0)
    assert refits_on_validation(small, unscored).validation_was_fitted
