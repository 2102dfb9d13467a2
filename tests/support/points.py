"""Candidates of given costs, for tests of the front and of the choice off it."""

from __future__ import annotations

from hypothesis import strategies as st

from lrf_optuna.plans.plan import Candidate, Choice, Plan


def candidate(trial: int, loss: float, params: float, macs: float | None = None) -> Candidate:
    costs = {"loss": loss, "params": params} | ({} if macs is None else {"macs": macs})
    return Candidate(trial, Plan.of({"a": Choice("svd", (trial + 1,))}), costs)


CANDIDATES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])] * 3), min_size=1, max_size=40).map(
    lambda rows: [candidate(i, *row) for i, row in enumerate(rows)]
)
