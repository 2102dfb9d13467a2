"""How sensitive the network's loss is to the error of one layer: a curve for each layer.

Each layer is compressed alone to a few degrees, and the network's loss is interpolated between them. A single factor
for each layer is not enough: in ResNet-20's last convolution large errors cost 26 times more than small ones predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrf_optuna.decompositions.registry import is_built_in
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.objectives import dissimilarity
from lrf_optuna.scoring.screening import nearest_keeps

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

PROBED = (0.0, 0.07, 0.2, 0.4, 0.7)
"""Near these keeps each layer is compressed alone: losses between them differ by 3 % in the mean from those of seven
keeps (ResNet-20, keeps of 0.25 to 0.75)."""
ROUNDING_OF_LOSSES = 1e-6
"""Errors and losses below this are rounding."""
SIMILARITIES_HOME = "lrf_optuna.scoring.similarity"


def error_to_loss_curve(measured: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The network's loss by the error of one layer, from pairs of both: interpolated, both as logarithms.

    The loss never falls with the error. Below the least measured error and above the largest one the loss is
    proportional to the error.
    """
    pairs = np.array(sorted(measured) or [(1.0, 1.0)]) + ROUNDING_OF_LOSSES
    errors, losses = pairs[:, 0], np.maximum.accumulate(pairs[:, 1])

    def expected_loss(error: float) -> float:
        ratio = np.interp(np.log(error + ROUNDING_OF_LOSSES), np.log(errors), np.log(losses / errors))
        return error * float(np.exp(ratio))

    return expected_loss


def measure_sensitivity(
    proxy: Proxy, site: str, keeps: Sequence[float], errors: Mapping[Choice, float]
) -> Callable[[float], float]:
    """The curve of a site, measured with the choice of least error at each of a few keeps.

    The pairs are stored, unless a method or the similarity is a user's own: that may change under its name.
    """
    stored, key = proxy.kernels.record(site).losses, sensitivity_key(proxy, site, keeps)
    if key in stored:
        return error_to_loss_curve(stored[key])
    pairs: dict[Choice, tuple[float, float]] = {}
    for keep in nearest_keeps(keeps, PROBED):
        choices = {proxy.choice(site, method, keep) for method in proxy.methods_of(site)} & errors.keys() - {INTACT}
        if choices:
            best = min((choice for choice in errors if choice in choices), key=errors.__getitem__)
            pairs[best] = errors[best], dissimilarity(proxy.measure(Plan.of({site: best})))
    similarities = proxy.similarity.functions.values()
    if all(map(is_built_in, proxy.methods_of(site))) and all(
        one.__module__ == SIMILARITIES_HOME for one in similarities
    ):
        stored[key] = list(pairs.values())
    return error_to_loss_curve(list(pairs.values()))


def sensitivity_key(proxy: Proxy, site: str, keeps: Sequence[float]) -> str:
    """All that decides a site's curve besides the network and its images."""
    return str((proxy.options_key(site), nearest_keeps(keeps, PROBED)))
