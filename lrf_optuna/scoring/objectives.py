"""What a plan is judged by. Every objective is a cost: lower is better, and for shares the original is 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """What one forward pass and the chains say of a plan.

    `similarity`: per tap (feature map), 1 when equal to the original's; `params` and `macs`: absolute counts of the
    whole compressed network; `params_share` and `macs_share`: the same with the original as the unit.
    """

    similarity: Mapping[str, float]
    params: int
    macs: int
    params_share: float
    macs_share: float


def loss(measured: Measured) -> float:
    """One minus the mean similarity over the taps."""
    values = measured.similarity.values()
    return 1.0 - sum(values) / len(values)


OBJECTIVES: dict[str, Callable[[Measured], float]] = {
    "loss": loss,
    "params": lambda measured: measured.params_share,
    "macs": lambda measured: measured.macs_share,
}
