"""What a plan is scored by. Every objective is a cost: lower is better, and for shares the original is 1.

An objective of one's own is a function of `Measured` and a row of `OBJECTIVES`; it may look at the similarity of any
output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lrf_optuna.errors import LrfError
from lrf_optuna.scoring.similarity import weighted_mean


@dataclass(frozen=True, slots=True)
class Measured:
    """What one forward pass and the chains say of a plan.

    `similarity`: name of a head -> 1 where its logits equal the original's; `params` and `macs`: counts of the whole
    compressed network; `params_share` and `macs_share`: their ratios to the original's; `latency_share`: that of its
    milliseconds, None where no layers were timed.
    """

    similarity: Mapping[str, float]
    params: int
    macs: int
    params_share: float
    macs_share: float
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the heads; a head without one counts 1."""
    latency_share: float | None = None


Objective = Callable[[Measured], float]


def dissimilarity(measured: Measured) -> float:
    """One minus the mean similarity over the heads, by weight."""
    return 1.0 - weighted_mean(measured.similarity, measured.weights)


def latency(measured: Measured) -> float:
    """The share of the original's milliseconds. Raises LrfError where no layers were timed."""
    if measured.latency_share is None:
        raise LrfError("the objective latency needs the milliseconds of layers: give a `timer`, and call `table` first")
    return measured.latency_share


OBJECTIVES: dict[str, Objective] = {
    "loss": dissimilarity,
    "params": lambda measured: measured.params_share,
    "macs": lambda measured: measured.macs_share,
    "latency": latency,
}
