"""What the table expects of an error: what was measured, and in between nothing that was not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.sensitivity import PROBED, error_to_loss_curve

KNOWN = [(0.01, 0.0001), (0.1, 0.002), (0.5, 0.3)]
pairs = st.lists(st.tuples(st.floats(1e-4, 1.0), st.floats(1e-5, 1.0)), min_size=1, max_size=6)


def test_an_error_that_was_measured_has_the_loss_that_it_had() -> None:
    harm = error_to_loss_curve(KNOWN)
    for error, loss in KNOWN:
        assert harm(error) == pytest.approx(loss, rel=0.02)


def test_outside_what_was_measured_the_loss_goes_with_the_error() -> None:
    harm = error_to_loss_curve(KNOWN)
    assert harm(0.0) == 0
    assert harm(0.001) == pytest.approx(harm(0.01) / 10, rel=0.02)
    assert harm(1.0) == pytest.approx(2 * harm(0.5), rel=1e-6)


def test_nothing_known_is_the_error_itself() -> None:
    assert error_to_loss_curve([])(0.25) == pytest.approx(0.25)


@given(pairs)
def test_a_larger_error_is_never_expected_to_hurt_less(known: list[tuple[float, float]]) -> None:
    harm = error_to_loss_curve(known)
    losses = [harm(error) for error in np.geomspace(1e-5, 1, 40)]
    assert all(b >= a * (1 - 1e-6) for a, b in pairwise(losses))
    assert all(loss >= 0 for loss in losses)


def test_the_table_expects_of_the_best_option_at_a_probed_keep_what_it_does_alone(proxy: Proxy, table: Any) -> None:
    keeps = sorted({option.keep for options in table.values() for option in options})
    probed = {min(keeps, key=lambda keep: abs(keep - near)) for near in PROBED}
    for site, options in table.items():
        alone = []
        for keep in sorted(probed):
            there = [o for o in options if o.keep == keep and o.choice != INTACT]
            if there:
                best = min(there, key=lambda o: proxy.kernels.error(site, o.choice))
                alone.append((best.loss, proxy.costs(Plan.of({site: best.choice}))["loss"]))
        expected = np.array(sorted(loss for loss, _ in alone))
        assert expected == pytest.approx(np.maximum.accumulate(sorted(loss for _, loss in alone)), rel=0.05, abs=1e-5)
