"""Costs and candidates for tests of the front and of the choice off it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.selection.measurement import FOLDS, Measurement


def candidate(trial: int, loss: float, params: float, macs: float | None = None) -> Candidate:
    costs = {"loss": loss, "params": params} | ({} if macs is None else {"macs": macs})
    return Candidate(trial, Plan.of({"a": Choice("svd", (trial + 1,))}), costs)


CANDIDATES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])] * 3), min_size=1, max_size=40).map(
    lambda rows: [candidate(i, *row) for i, row in enumerate(rows)]
)

COSTS = st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.6, 0.85, 1.0, 1.3])
"""Few values, so that many are equal; some at the original's and beyond."""


def rows(most: int = 14) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Points `(n, costs)` of 1 to 4 costs."""
    return st.integers(1, 4).flatmap(
        lambda dims: st.lists(st.tuples(*[COSTS] * dims), min_size=1, max_size=most).map(np.array)
    )


def measurement_of(right: np.ndarray[Any, Any]) -> Measurement:
    """The accuracy of a network that gets some images `(n,)` right, as `Validation.measured` gives it."""
    folds = np.arange(len(right)) % FOLDS
    return Measurement(float(right.mean()), np.array([right[folds != i].mean() for i in range(FOLDS)]), len(right))
