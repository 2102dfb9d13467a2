"""The drop of the metric after a fine-tune, as it is predicted from the drop before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Prediction

NOISE_IMAGES = 5000
"""Validation images of the networks of benchmarks/quality/after_tuning.py, about."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left of a drop after a step that follows the build: a share of it.

    `step`: its name; `low` and `high`: the ends of the interval of 80 %, as shares of the predicted drop and `noise`
    together. Figures are of benchmarks/quality/after_tuning.py.
    """

    step: str
    share: float
    low: float
    high: float
    noise: float = 0.25
    """Points by which an accuracy is uncertain in any case: its standard error at 97 % on `NOISE_IMAGES` images."""

    def on(self, images: int) -> Forecast:
        """The forecast of a metric on a number of validation images: of fewer, it is less certain."""
        return replace(self, noise=self.noise * sqrt(max(1.0, NOISE_IMAGES / max(1, images))))

    def after(self, before: float) -> Prediction:
        """The drop after the step of a network that loses `before` points as built."""
        drop = self.share * max(before, 0.0)
        scale = drop + self.noise
        return Prediction(drop, drop + self.low * scale, drop + self.high * scale)

    def most_before(self, most: float) -> float:
        """The largest drop as built whose prediction is at most `most` points."""
        return most / self.share


FORECASTS = {
    "tuned": Forecast("the fine-tune", share=0.32, low=-1.19, high=1.34),
    "calibrated": Forecast("the calibration", share=0.45, low=-0.40, high=0.63),
}
"""State of a network that comes after the built one -> what is predicted of it."""


def forecast_of(state: str, images: int) -> Forecast | None:
    """The forecast of a state on a number of images; None for the built network, which is measured itself.

    Where the number is not known (0), the images of the benchmark are taken.
    """
    return FORECASTS[state].on(images or NOISE_IMAGES) if state in FORECASTS else None


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
