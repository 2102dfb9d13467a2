"""What a plan's loss will be, learnt from the trials so far: which layer really hurts, and what plans alike came to.

The table of errors adds up layers that were measured one at a time. Trials show what it cannot see: a common factor, a
weight a layer (ridge regression on relative errors, non-negative), and interactions, as the residual of plans near by.
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
"""Distance, as a share of a plan's own predicted loss, over which residuals are alike."""
REMEMBERED = 512
"""Latest trials that are learnt from."""
LEAST, BROKEN = 1e-6, 0.5
"""Losses below are rounding; above, networks are broken and losses no longer add up: no layer's weight is in them."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Predicts losses. `errors` `(layers, options)`: the table's losses; `weights` `(layers,)`: what they really do."""

    errors: Array
    weights: Array
    known: Array
    """`(trials, layers)`: the weighted errors of the plans that were scored."""
    residuals: Array
    """`(trials,)`: the logarithm of a plan's loss over the sum of its weighted errors."""

    @classmethod
    def of(cls, errors: Array, picked: Picked, losses: Array) -> Surrogate:
        """Learnt from the losses `(trials,)` of plans that were scored."""
        picked, losses = picked[-REMEMBERED:], np.maximum(losses[-REMEMBERED:], LEAST)
        features = lookup(errors, picked)
        weights = weighed(features, losses)
        known = features * weights
        return cls(errors, weights, known, np.log(losses / np.maximum(known.sum(axis=1), LEAST)))

    def losses(self, picked: Picked) -> Array:
        """The losses that plans are expected to have, `(plans,)`."""
        parts = lookup(self.errors, picked) * self.weights
        whole = np.maximum(parts.sum(axis=1), LEAST)
        apart = cdist(parts, self.known, "cityblock") / whole[:, None]
        near = np.exp(-(apart - apart.min(axis=1, keepdims=True)) / NEAR)
        expected: Array = whole * np.exp((near @ self.residuals) / near.sum(axis=1))
        return np.minimum(expected, 1.0)


def lookup(errors: Array, picked: Picked) -> Array:
    """The errors of picked options, `(plans, layers)`."""
    return errors[np.arange(len(errors)), picked]


def weighed(features: Array, losses: Array) -> Array:
    """Non-negative weights w with features w ~ losses, in relative terms, pulled towards a common factor."""
    sums = features.sum(axis=1)
    used = (losses > LEAST) & (losses < BROKEN) & (sums > LEAST)
    layers = features.shape[1]
    if not used.any():
        return np.ones(layers)
    common = float(np.median(losses[used] / sums[used]))
    rows = common * features[used] / losses[used, None]
    pull = RIDGE * np.sqrt(len(rows) / layers)
    sides = np.vstack([rows, pull * np.eye(layers)]), np.concatenate([np.ones(len(rows)), pull * np.ones(layers)])
    solved: Array = nnls(*sides)[0]
    return common * solved
