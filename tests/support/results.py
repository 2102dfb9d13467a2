"""Results of points for tests of the files that they stand in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Evaluation, Result

ORIGINAL = Evaluation(1000, 10_000, 0.95, 0.94, milliseconds={"litert": 2.0})


def result_of(point: Candidate, built: float, tuned: float | None = None, **changes: Any) -> Result:
    """The result of a point with these metrics on validation images; its digest says what was made."""
    network = replace(ORIGINAL, params=400, val_metric=built, milliseconds={})
    last = None if tuned is None else replace(network, val_metric=tuned, epochs=1, milliseconds={"litert": 1.0})
    given: dict[str, Any] = {"built": network, "tuned": last, "model_digest": f"{built} {tuned}"}
    return Result("net", 5, 5, 64, {"search": 1.0}, ORIGINAL, point, "the knee", **(given | changes))
