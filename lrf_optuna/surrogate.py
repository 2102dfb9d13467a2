"""What a plan's loss will be, learnt from the trials so far: which layer really hurts, and what plans alike came to.

The table of errors has layers that were measured one at a time. What adds up is their damage, minus the logarithm of
the similarity that is left: similarities multiply, so that the losses of broken networks stay below 1, some more and
some less. Trials show what the table cannot see: a common factor, a weight a layer (ridge regression on relative
errors, non-negative), and interactions, as the residual of plans near by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

from lrf_optuna.allocate import Picked
from lrf_optuna.stages import Array

RIDGE = 0.3
"""Pulls the layers' weights towards each other: the spread of relative errors that is taken for noise."""
NEAR = 0.15
"""Distance, as a share of a plan's own predicted damage, over which residuals are alike."""
REMEMBERED = 512
"""Latest trials that are learnt from."""
LEAST, MOST = 1e-6, 0.999
"""Losses below are rounding; above, nothing is left to tell apart."""
BROKEN = 0.5
"""Loss above which networks are broken and layers' damages no longer add up: no layer's weight is in it."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Predicts losses. `damages` `(layers, options)`: the table's; `weights` `(layers,)`: what they really do."""

    damages: Array
    weights: Array
    known: Array
    """`(trials, layers)`: the weighted damages of the plans that were scored."""
    residuals: Array
    """`(trials,)`: the logarithm of a plan's damage over the sum of its weighted ones."""

    @classmethod
    def of(cls, errors: Array, picked: Picked, losses: Array) -> Surrogate:
        """Learnt from the losses `(trials,)` of plans that were scored; `errors` are the table's losses."""
        damages, found = damage(errors), np.maximum(damage(losses[-REMEMBERED:]), LEAST)
        features = lookup(damages, picked[-REMEMBERED:])
        weights = weighed(features, found)
        known = features * weights
        return cls(damages, weights, known, np.log(found / np.maximum(known.sum(axis=1), LEAST)))

    def losses(self, picked: Picked) -> Array:
        """The losses that plans are expected to have, `(plans,)`."""
        parts = lookup(self.damages, picked) * self.weights
        whole = np.maximum(parts.sum(axis=1), LEAST)
        apart = cdist(parts, self.known, "cityblock") / whole[:, None]
        near = np.exp(-(apart - apart.min(axis=1, keepdims=True)) / NEAR)
        expected: Array = -np.expm1(-whole * np.exp((near @ self.residuals) / near.sum(axis=1)))
        return expected


def damage(losses: Array) -> Array:
    """What adds up over layers: minus the logarithm of the similarity that a loss leaves."""
    damages: Array = -np.log1p(-np.clip(losses, 0, MOST))
    return damages


def lookup(damages: Array, picked: Picked) -> Array:
    """The damages of picked options, `(plans, layers)`."""
    return damages[np.arange(len(damages)), picked]


def weighed(features: Array, damages: Array) -> Array:
    """Non-negative weights w with features w ~ damages, in relative terms, pulled towards a common factor."""
    sums = features.sum(axis=1)
    used = (damages > LEAST) & (damages < damage(np.array(BROKEN))) & (sums > LEAST)
    layers = features.shape[1]
    if not used.any():
        return np.ones(layers)
    common = float(np.median(damages[used] / sums[used]))
    rows = common * features[used] / damages[used, None]
    pull = RIDGE * np.sqrt(len(rows) / layers)
    sides = np.vstack([rows, pull * np.eye(layers)]), np.concatenate([np.ones(len(rows)), pull * np.ones(layers)])
    solved: Array = nnls(*sides)[0]
    return common * solved
