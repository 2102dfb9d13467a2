"""A metric on some images, and how sure a difference of two networks is.

The standard error is that of a jackknife, which works for any metric (Efron 1981).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

from lrf_optuna.chains.conv import Array

FOLDS = 20
"""Parts of the images that are left out in turn: the error of the standard error is about a sixth."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The metric of a network on some images, and that on the images without each of `FOLDS` parts."""

    metric: float
    without_fold: Array
    images: int

    def difference(self, other: Measurement) -> tuple[float, float]:
        """By how much this network is better than another on the same images, and the standard error of that."""
        apart = self.without_fold - other.without_fold
        folds = len(apart)
        error = sqrt((folds - 1) / folds * float(((apart - apart.mean()) ** 2).sum())) if folds > 1 else inf
        return self.metric - other.metric, error
