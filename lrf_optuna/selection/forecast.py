"""The drop of the metric after a fine-tune, as it is predicted from the drop before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrf_optuna.plans.plan import Candidate


@dataclass(frozen=True, slots=True)
class Prediction:
    """A drop in points of the metric that is predicted, and an interval that holds 80 % of the outcomes."""

    drop: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.drop:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a fine-tune changes a drop: a share of it is left."""

    share: float = 0.35
    """The share of the drop before tuning that is left."""
    low: float = 0.0
    """The share at the lower end of the interval."""
    high: float = 0.7
    """The share at the upper end of the interval."""

    def after(self, before: float) -> Prediction:
        """The drop after a fine-tune of a network that loses `before` points as built."""
        lost = max(before, 0.0)
        return Prediction(self.share * lost, self.low * lost, self.high * lost)

    def most_before(self, most: float) -> float:
        """The largest drop before a fine-tune whose prediction is at most `most` points."""
        return most / self.share


FORECAST = Forecast()


def drops_by_loss(points: Sequence[Candidate], known: Mapping[int, float]) -> dict[int, float]:
    """Trial -> its drop: the known one, else one between those of the points with the next losses.

    A point with more loss is not taken to drop less. Beyond the largest known loss the drop grows in proportion. Empty
    where no drop is known.
    """
    measured = sorted((point.costs["loss"], known[point.trial]) for point in points if point.trial in known)
    if not measured:
        return {}
    losses = np.array([0.0, *(loss for loss, _ in measured)])
    drops = np.maximum.accumulate([0.0, *(drop for _, drop in measured)])
    found = {point.trial: float(np.interp(point.costs["loss"], losses, drops)) for point in points}
    beyond = [point for point in points if point.costs["loss"] > losses[-1] > 0]
    found |= {point.trial: float(drops[-1] * point.costs["loss"] / losses[-1]) for point in beyond}
    return found | {point.trial: known[point.trial] for point in points if point.trial in known}
