"""Hypervolume and domination of costs, where the original network is the unit of every cost and less is better.

`moocore` has the algorithms: Guerreiro, Fonseca and Paquete, The Hypervolume Indicator, ACM Comput. Surv. 54 (2021).
"""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array


def hypervolume(costs: Array) -> float:
    """The volume that points `(n, costs)` dominate below (1, ..., 1)."""
    return float(moocore.hypervolume(costs, ref=np.ones(costs.shape[1])))


def dominated_by(front: Array, points: Array) -> NDArray[np.bool_]:
    """For each of the points `(n, costs)`, whether a row of `front` `(m, costs)` is as good in every cost."""
    as_good = np.ones((len(front), len(points)), bool)
    for cost in range(points.shape[1]):
        as_good &= front[:, cost, None] <= points[:, cost]
    covered: NDArray[np.bool_] = np.any(as_good, axis=0, keepdims=True)[0]
    return covered


def hypervolume_gains(front: Array, points: Array) -> Array:
    """The hypervolume that each of the points `(n, costs)` alone would add to a front `(m, costs)`, `(n,)`."""
    volume_below_one = moocore.Hypervolume(ref=np.ones(points.shape[1]))
    before, gains = volume_below_one(front), np.zeros(len(points))
    rows = np.vstack([front, front[:1]])
    for i in np.flatnonzero(~dominated_by(front, points) & np.all(points < 1, axis=1)):
        rows[-1] = points[i]
        gains[i] = max(volume_below_one(rows) - before, 0.0)
    return gains
