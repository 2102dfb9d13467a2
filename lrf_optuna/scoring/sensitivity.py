"""The table of errors: what every option of every layer costs, and what it should make the network lose.

An option's loss is what its data-aware error does to the network: each layer is compressed alone to a few degrees, and
the network's loss is interpolated between them. One factor a layer would not do: in ResNet-20's last convolution the
largest errors hurt 26 times more than the small ones say. Every method is fitted at a few keeps; at the others only
those that no other method clearly beats there. What is worked out goes to the proxy's cache, layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.decompositions.registry import is_built_in
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.screening import SMALL, nearest_keeps

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

PROBED = (0.0, SMALL, 0.07, 0.15, 0.26, 0.4, 0.7)
"""Near these keeps each layer is compressed alone, to see what its errors do to the network."""
LEAST = 1e-6
"""Errors and losses below are rounding."""
SIMILARITIES_HOME = "lrf_optuna.scoring.similarity"


@dataclass(frozen=True)
class ErrorToLossCurve:
    """What the errors of one layer do to the network's loss: known for some, interpolated as logarithms between them.

    Below the least of them and above the largest the loss goes with the error.
    """

    errors: Array
    losses: Array

    @classmethod
    def of(cls, known: Sequence[tuple[float, float]]) -> ErrorToLossCurve:
        """From pairs of an error and the loss that it led to; the loss does not fall with the error."""
        pairs = np.array(sorted(known) or [(1.0, 1.0)]) + LEAST
        return cls(pairs[:, 0], np.maximum.accumulate(pairs[:, 1]))

    def __call__(self, error: float) -> float:
        """The loss that is expected of an error."""
        ratio = np.interp(np.log(error + LEAST), np.log(self.errors), np.log(self.losses / self.errors))
        return error * float(np.exp(ratio))


def measure_sensitivity(
    proxy: Proxy, site: str, keeps: Sequence[float], errors: Mapping[Choice, float]
) -> ErrorToLossCurve:
    """What errors of a site do to the network; measured with the best choice at each of a few keeps."""
    known, words = proxy.fits.of(site).harms, sensitivity_key(proxy, keeps)
    if words in known:
        return ErrorToLossCurve.of(known[words])
    found: dict[Choice, tuple[float, float]] = {}
    for share in nearest_keeps(keeps, PROBED):
        choices = {proxy.choice(site, method, share) for method in proxy.methods_of(site)} & errors.keys() - {INTACT}
        if choices:
            best = min((choice for choice in errors if choice in choices), key=errors.__getitem__)
            alike = proxy.measure(Plan.of({site: best})).similarity.values()
            found[best] = errors[best], 1 - float(np.mean(list(alike)))
    if all(map(is_built_in, proxy.methods)) and proxy.similar.__module__ == SIMILARITIES_HOME:
        known[words] = list(found.values())
    return ErrorToLossCurve.of(list(found.values()))


def sensitivity_key(proxy: Proxy, keeps: Sequence[float]) -> str:
    """What decides how harmful errors are found to be, besides the network and its images."""
    return str((proxy.sense, nearest_keeps(keeps, PROBED)))
