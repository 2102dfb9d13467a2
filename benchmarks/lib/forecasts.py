"""Predictors of the drop after a fine-tune, fitted to some networks and judged on the others, one left out in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Mapping[str, Any]
Values = NDArray[np.float64]
FEATURES = {
    "loss": "loss",
    "drop as scored": "scored",
    "drop refitted to few images": "sketched",
    "drop as built": "built",
    "drop as calibrated": "calibrated",
    "distance as built": "distance_built",
    "distance as calibrated": "distance_calibrated",
    "drop after a probe of 50 steps": "probe",
}
"""What may predict -> its key in a row."""
NOT_BEFORE = {"tuned": (), "calibrated": ("calibrated", "distance_calibrated", "probe")}
"""What is predicted -> features that are not known before it, or cost more than it does."""
POWERS = (0.5, 0.75, 1.0, 1.25, 1.5)
"""The powers that a fit chooses from."""
NOISE = 0.25
"""Points that a drop is uncertain by in any case: the standard error of an accuracy of 97 % on 5,000 images."""
INSIDE = 0.8
"""The share of outcomes that an interval should hold."""
USEFUL = 3.0
"""Points in the end up to which a prediction matters: the most that a small point of `named_points` loses."""
COLUMNS = ("scored", "sketched", "built", "calibrated", "probe", "tuned", "test_tuned")
"""The columns of the table of points, each a drop in points of the metric."""


@dataclass(frozen=True, slots=True)
class Fit:
    """drop in the end = factor x feature ^ power."""

    factor: float
    power: float

    @classmethod
    def of(cls, rows: Sequence[Row], key: str, goal: str, powers: Sequence[float] = POWERS) -> Fit:
        """The fit with the least absolute deviations, where every network counts as much as any other."""
        x, y = columns(rows, key, goal)
        weights = weights_of(rows)
        fits = [cls(weighted_median(y, np.maximum(x, 1e-9) ** power, weights), power) for power in powers]
        return min(fits, key=lambda fit: float((weights * np.abs(y - fit(x))).sum()))

    def __call__(self, x: Values) -> Values:
        """The predicted drops."""
        return self.factor * np.maximum(x, 0) ** self.power


@dataclass(frozen=True, slots=True)
class Judged:
    """What predictions were worth on networks that took no part in their fits.

    `errors`: points between outcome and prediction; `shares`: the same in units of prediction + noise, with a sign;
    `weights`: of the rows, where every network counts as much as any other.
    """

    errors: Values
    shares: Values
    weights: Values

    @classmethod
    def of(cls, rows: Sequence[Row], key: str, goal: str, powers: Sequence[float]) -> Judged:
        """Every row predicted by the fit to the other networks."""
        errors, shares = [], []
        for row in rows:
            fit = Fit.of([one for one in rows if one["network"] != row["network"]], key, goal, powers)
            found, outcome = float(fit(np.array([row[key]]))[0]), float(row[goal])
            errors.append(abs(outcome - found))
            shares.append((outcome - found) / (found + NOISE))
        return cls(np.array(errors), np.array(shares), weights_of(rows))

    @property
    def mean_error(self) -> float:
        """The mean error."""
        return float(np.average(self.errors, weights=self.weights))

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval that holds `INSIDE` of the outcomes, in units of prediction + noise."""
        order = np.argsort(self.shares)
        passed = np.cumsum(self.weights[order]) / self.weights.sum()
        low, high = (np.searchsorted(passed, share - 1e-9) for share in ((1 - INSIDE) / 2, (1 + INSIDE) / 2))
        return float(self.shares[order][low]), float(self.shares[order][high])


def weights_of(rows: Sequence[Row]) -> Values:
    """The weight of each row: all rows of a network together have 1."""
    counts = Counter(row["network"] for row in rows)
    return np.array([1 / counts[row["network"]] for row in rows])


def weighted_median(y: Values, scale: Values, weights: Values) -> float:
    """The factor a with the least sum of weight |y - a scale|, at least 0."""
    order = np.argsort(y / scale)
    passed = np.cumsum((weights * scale)[order])
    return max(0.0, float((y / scale)[order][np.searchsorted(passed, passed[-1] / 2)]))


def columns(rows: Sequence[Row], key: str, goal: str) -> tuple[Values, Values]:
    """A feature and the drop in the end, of all rows."""
    return np.array([float(row[key]) for row in rows]), np.array([float(row[goal]) for row in rows])


def forecast_table(rows: Sequence[Row], order: Sequence[str]) -> str:
    """The predictors, and the points that they were judged on, as Markdown."""
    ordered = sorted(rows, key=lambda row: (order.index(row["network"]), row["loss"]))
    parts = [points_table(ordered)]
    if len({row["network"] for row in rows}) > 2:
        parts = [predictor_table(ordered, "tuned"), predictor_table(ordered, "calibrated"), *parts]
    return "\n\n".join([*parts, ABOUT]) + "\n"


def predictor_table(rows: Sequence[Row], goal: str) -> str:
    """One row for each predictor of the drop after calibration or fine-tune."""
    lines = [
        f"| predictor of the drop as {goal} | fit to all | mean error | largest | 80 % of the outcomes |",
        "|---" * 5 + "|",
    ]
    useful = [row for row in rows if row[goal] <= USEFUL]
    for name, key in FEATURES.items():
        if key in NOT_BEFORE[goal]:
            continue
        for powers in ((1.0,), POWERS):
            fit, judged = Fit.of(useful, key, goal, powers), Judged.of(useful, key, goal, powers)
            low, high = judged.interval
            power = "" if len(powers) == 1 else f" ^ {fit.power:g}"
            figures = f"{judged.mean_error:.2f} | {judged.errors.max():.2f} | {low:+.2f} to {high:+.2f}"
            lines.append(f"| {name} | {fit.factor:.3g} x{power} | {figures} |")
    return "\n".join(lines)


def points_table(rows: Sequence[Row]) -> str:
    """One row for each point: sizes, loss, drops and distances."""
    names = "scored | refitted | built | calibrated | probe | tuned | tuned, test"
    head = f"| network | parameters | MACs | loss | {names} | distance built | calibrated | steps | optimizer |"
    lines = [head, "|---" * 15 + "|"]
    for row in rows:
        shares = f"{row['params']:.1%} | {row['macs']:.1%} | {row['loss']:.3f}"
        drops = " | ".join(f"{row[name]:.2f}" for name in COLUMNS)
        distances = f"{row['distance_built']:.3f} | {row['distance_calibrated']:.3f}"
        lines.append(f"| {row['network']} | {shares} | {drops} | {distances} | {row['steps']} | {row['optimizer']} |")
    return "\n".join(lines)


ABOUT = f"""Drops are points of the metric on validation images between the original and the network as it was scored,
refitted to few images, built, calibrated and tuned; below 0 the network is better than the original. The last of them
is also on test images. A fit has the least absolute deviations over the points that lose at most {USEFUL:g} points in
the end. Every network counts as much as any other, also in errors and ranges. Errors are points on networks that took
no part in the fit. The last column is where 80 % of these outcomes are: (outcome - prediction) / (prediction +
{NOISE:g} points)."""
