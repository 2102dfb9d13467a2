"""What a plan's loss will be, learnt from the trials so far.

The option table has every layer measured alone. What adds up over layers is their damage, minus the logarithm of the
similarity that is left, because similarities multiply. Trials show what the table cannot see: a Gaussian process over
the logarithm of the ratio between a plan's damage and the sum of the table's says what plans alike came to (Rasmussen
and Williams 2006, equation 2.25).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.distance import cdist

from lrf_optuna.chains.conv import Array
from lrf_optuna.scoring.option_table import OptionIndices

INTERACTION_STD, INTERACTION_DECAY = 0.15, 2.0
"""Prior standard deviation of the log ratio through interactions, and its decay with the distance of two plans."""
LINEAR_STD = 0.3
"""Prior standard deviation of one layer's log weight."""
NOISE_STD, BROKEN_NOISE_STD = 0.02, 0.3
"""Noise of the log ratio; the second for losses above `BROKEN_LOSS`, which say little about the damage."""
TRAINING_PLANS = 512
"""Latest plans that the surrogate is fitted to: the Cholesky factor of 512 plans takes about a millisecond."""
LEAST_LOSS, MOST_LOSS = 1e-6, 0.999
"""Losses below are rounding; above, nothing is left of the similarity."""
BROKEN_LOSS = 0.9
"""Loss above which a plan counts as broken."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Predicts losses of plans from those that were scored.

    `damages` `(layers, options)`: of the table; `scale`: the median ratio of a plan's damage to its sum of the table's;
    `plans` `(n, layers)`: damages of the scored plans; `coefficients` `(n,)`: of the Gaussian process's mean.
    """

    damages: Array
    scale: float
    plans: Array
    coefficients: Array

    @classmethod
    def fit(cls, table_losses: Array, plans: OptionIndices, losses: Array) -> Surrogate:
        """Fitted to the losses `(n,)` of scored plans `(n, layers)`; `table_losses` `(layers, options)`."""
        damages, usable = damage(table_losses), np.flatnonzero(losses > LEAST_LOSS)[-TRAINING_PLANS:]
        found, parts = damage(losses[usable]), layer_damages(damages, plans[usable])
        sums = total_damage(parts)
        scale = float(np.median(found / sums)) if len(usable) else 1.0
        noise = np.where(losses[usable] > BROKEN_LOSS, BROKEN_NOISE_STD, NOISE_STD) ** 2
        factor = cho_factor(covariance(parts, parts) + np.diag(noise), lower=True)
        return cls(damages, scale, parts, cho_solve(factor, np.log(found / sums / scale)))

    def losses(self, plans: OptionIndices) -> Array:
        """The expected losses `(n,)` of plans `(n, layers)`."""
        parts = layer_damages(self.damages, plans)
        log_ratio = covariance(parts, self.plans) @ self.coefficients
        expected: Array = -np.expm1(-self.scale * total_damage(parts) * np.exp(log_ratio))
        return expected


def covariance(one: Array, other: Array) -> Array:
    """Prior covariance of two sets of plans by their layers' damages `(n, layers)` and `(m, layers)`: `(n, m)`.

    A linear kernel of the layers' shares, and an exponential one of the distance of the damages' square roots.
    """
    distance = cdist(np.sqrt(one), np.sqrt(other), "cityblock") / np.sqrt(one.shape[1])
    shares = (one / total_damage(one)[:, None]) @ (other / total_damage(other)[:, None]).T
    found: Array = INTERACTION_STD**2 * np.exp(-INTERACTION_DECAY * distance) + LINEAR_STD**2 * shares
    return found


def damage(losses: Array) -> Array:
    """Minus the logarithm of the similarity that a loss leaves: what adds up over layers."""
    damages: Array = -np.log1p(-np.clip(losses, 0, MOST_LOSS))
    return damages


def total_damage(parts: Array) -> Array:
    """The sum over the layers of plans' damages `(n, layers)`, never 0."""
    sums: Array = np.maximum(parts.sum(axis=1), LEAST_LOSS)
    return sums


def layer_damages(damages: Array, plans: OptionIndices) -> Array:
    """The damages of plans' options, `(n, layers)`."""
    return damages[np.arange(len(damages)), plans]
