"""From the chosen plan to the best untuned model, and the proof that it is what was scored and measured."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lrf_optuna.corrections import Corrected, composed
from lrf_optuna.data import Data, augmented
from lrf_optuna.decompositions import chain_of
from lrf_optuna.layers import Inventory, counts, norms_of, walk
from lrf_optuna.network import OUTPUT
from lrf_optuna.plan import Plan
from lrf_optuna.proxy import Proxy
from lrf_optuna.result import LayerPart
from lrf_optuna.sources import Array as Pixels
from lrf_optuna.stages import Array
from lrf_optuna.surgery import materialise

log = logging.getLogger(__name__)
BN_BATCHES, BN_BATCH = 8, 128
EQUAL = 1e-4
"""Most that a built network's logits may differ from the scored ones, relative to the largest."""
COARSE = {"float16": 20 * 2**-10, "bfloat16": 20 * 2**-7}
"""The same for layers that compute in half precision: twenty times its rounding."""


def build(model: Any, proxy: Proxy, plan: Plan, corrected: Corrected, seed: int = 0) -> Any:
    """The model of a plan, with the stage kernels and BatchNorm statistics that are best before training.

    Raises RuntimeError where what is built is not what was scored, or not what was measured: that would be a bug.
    """
    keras.utils.set_random_seed(seed)
    built = materialise(model, plan, {site: proxy.stages(site, choice) for site, choice in plan})
    check_equal(built, proxy, plan, proxy.swaps(plan))
    if corrected.refitted:
        built = materialise(model, plan, corrected.stages)
    if corrected.statistics:
        own = [moving for norm in norms_of(built) for moving in (norm.moving_mean, norm.moving_variance)]
        for variable, value in zip(own, corrected.statistics, strict=True):
            variable.assign(value)
    if corrected.refitted or corrected.statistics:
        check_equal(built, proxy, plan, composed(proxy, plan, corrected.stages), corrected.statistics)
    return built


def shown(data: Data, images: Pixels, seed: int) -> Iterator[Array]:
    """Batches of raw images as they looked in training, preprocessed: what BatchNorm statistics are re-estimated on."""
    rng = np.random.default_rng(seed)
    for part in np.array_split(images[: BN_BATCHES * BN_BATCH], max(1, min(BN_BATCHES, len(images) // BN_BATCH))):
        yield data.preprocess(augmented(part, data.augment, rng))


def check_equal(
    built: Any, proxy: Proxy, plan: Plan, kernels: Mapping[str, Array], statistics: list[Any] | None = None
) -> None:
    """A built network that is not what was scored with these kernels is a bug: say so instead of going on."""
    scored = proxy.network.run(proxy.pixels, kernels, statistics)[OUTPUT]
    found = proxy.network.comparable(built, proxy.scored)
    apart = float(np.abs(found - scored).max() / max(np.abs(scored).max(), 1e-30))
    params = counts(proxy.inventory, plan)[0]
    log.info("built against scored: logits differ by %.1e of the largest, %d parameters", apart, params)
    most = max([EQUAL, *(COARSE.get(layer.compute_dtype, 0.0) for _, layer in walk(built))])
    if apart > most or built.count_params() != params:
        raise RuntimeError(f"built differs from scored: {apart=:.2e}, {built.count_params()} of {params} parameters")


def parts_of(inventory: Inventory, plan: Plan) -> list[LayerPart]:
    """What every layer with weights gets from a plan."""
    found = []
    for row in inventory.rows:
        if not row.params:
            continue
        choice, params, macs = plan[row.path], row.params, row.macs
        if row.site:
            chain = chain_of(row.site.op, choice)
            params, macs = params + chain.params - row.site.op.params, row.site.macs(chain)
        sizes = row.params, params, row.macs, macs
        found.append(LayerPart(row.path, row.kind, choice.method, choice.ranks, *sizes, row.reason))
    return found
