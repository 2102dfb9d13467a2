"""What a plan's loss will be, learnt from the trials so far: which layer really hurts, and what plans alike came to.

The table of errors has layers that were measured one at a time. What adds up is their damage, minus the logarithm of
the similarity that is left: similarities multiply, so that the losses of broken networks stay below 1, some more and
some less. Trials show what the table cannot see. For where to look there is a weight a layer (ridge regression on
relative errors, non-negative). For what a plan comes to, the logarithm of its damage over the layers' sum is a Gaussian
process (Rasmussen and Williams 2006, equation 2.25): linear in the layers' shares of the sum, as weights would be, and
else alike where the roots of the layers' damages are, which go about with how far each layer moves the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import nnls
from scipy.spatial.distance import cdist

from lrf_optuna.chains.conv import Array
from lrf_optuna.scoring.option_table import OptionIndices

RIDGE = 0.3
"""Pulls the layers' weights towards each other: the spread of relative errors that is taken for noise."""
SPREAD, STEEP = 0.15, 2.0
"""Standard deviation of interactions, as logarithms, and how fast they become others with the distance of plans."""
LINEAR = 0.3
"""The same of a layer's weight."""
NOISE, VAGUE = 0.02, 0.3
"""The same of what nothing explains; of that in losses above `NOTHING_LEFT`, which say little of the damage."""
REMEMBERED = 512
"""Latest trials that are learnt from."""
LEAST, MOST = 1e-6, 0.999
"""Losses below are rounding; above, nothing is left to tell apart."""
BROKEN, NOTHING_LEFT = 0.5, 0.9
"""Losses above which networks are broken, and no layer's weight is in them; and say hardly more than that."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Predicts losses. `damages` `(layers, options)`: the table's; `weights` `(layers,)`: what they really do."""

    damages: Array
    weights: Array
    common: float
    """What the sum of a plan's damages is multiplied by."""
    known: Array
    """`(trials, layers)`: the damages of the plans that were scored."""
    pulls: Array
    """`(trials,)`: what each of them has to say of one that is just alike."""

    @classmethod
    def of(cls, errors: Array, picked: OptionIndices, losses: Array) -> Surrogate:
        """Learnt from the losses `(trials,)` of plans that were scored; `errors` are the table's losses."""
        damages, usable = damage(errors), np.flatnonzero(losses > LEAST)[-REMEMBERED:]
        found, known = damage(losses[usable]), lookup(damages, picked[usable])
        sums = summed(known)
        common = float(np.median(found / sums)) if len(usable) else 1.0
        noise = np.where(losses[usable] > NOTHING_LEFT, VAGUE, NOISE) ** 2
        factor = cho_factor(covariance(known, known) + np.diag(noise), lower=True)
        return cls(damages, weighed(known, found), common, known, cho_solve(factor, np.log(found / sums / common)))

    def losses(self, picked: OptionIndices) -> Array:
        """The losses that plans are expected to have, `(plans,)`."""
        parts = lookup(self.damages, picked)
        beyond = covariance(parts, self.known) @ self.pulls
        expected: Array = -np.expm1(-self.common * summed(parts) * np.exp(beyond))
        return expected


def covariance(one: Array, other: Array) -> Array:
    """That of two sets of plans by their layers' damages, `(plans, layers)` and `(others, layers)`."""
    apart = cdist(np.sqrt(one), np.sqrt(other), "cityblock") / np.sqrt(one.shape[1])
    alike: Array = SPREAD**2 * np.exp(-STEEP * apart) + LINEAR**2 * shares(one) @ shares(other).T
    return alike


def shares(parts: Array) -> Array:
    """What each layer has of the sum of plans' damages `(plans, layers)`."""
    found: Array = parts / summed(parts)[:, None]
    return found


def summed(parts: Array) -> Array:
    """The sum of the layers' damages of plans `(plans, layers)`."""
    sums: Array = np.maximum(parts.sum(axis=1), LEAST)
    return sums


def damage(losses: Array) -> Array:
    """What adds up over layers: minus the logarithm of the similarity that a loss leaves."""
    damages: Array = -np.log1p(-np.clip(losses, 0, MOST))
    return damages


def lookup(damages: Array, picked: OptionIndices) -> Array:
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
