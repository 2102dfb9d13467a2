"""From the chosen plan to the best untuned model: what was scored, then two corrections on trial.

Both are kept only if they bring the logits for images that they have not seen closer to the original's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from lrf_optuna.asymmetric import refit_in_order
from lrf_optuna.batchnorm import alike, reestimate
from lrf_optuna.data import Data, augmented
from lrf_optuna.decompositions import chain_of
from lrf_optuna.layers import Inventory, counts, walk
from lrf_optuna.network import OUTPUT
from lrf_optuna.plan import Plan
from lrf_optuna.progress import SILENT, Progress
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


def build(
    model: Any, proxy: Proxy, plan: Plan, data: Data, calibration: Pixels, seed: int = 0, progress: Progress = SILENT
) -> Any:
    """The model of a plan: what was scored, then refitted in layer order, then with BatchNorm statistics re-estimated.

    `calibration`: the raw images that `proxy` was made from. Raises RuntimeError where what is built is not what was
    scored: that would be a bug.
    """
    keras.utils.set_random_seed(seed)
    kernels = {site: proxy.stages(site, choice) for site, choice in plan}
    built = materialise(model, plan, kernels)
    check_equal(built, proxy, plan)
    reference = proxy.reference[OUTPUT]
    unscored = calibration[len(proxy.scored) :]
    fitted = refit_in_order(proxy, plan, kernels, data.preprocess(unscored), progress)
    other = materialise(model, plan, fitted)
    before, after = alike(built, proxy.scored, reference), alike(other, proxy.scored, reference)
    log.info("refitted in order: cosine %.5f -> %.5f, %s", before, after, "kept" if after > before else "taken back")
    built = other if after > before else built
    kept, before, after = reestimate(built, shown(data, unscored, seed), proxy.scored, reference)
    log.info("BatchNorm re-estimated: cosine %.5f -> %.5f, %s", before, after, "kept" if kept else "taken back")
    return built


def shown(data: Data, images: Pixels, seed: int) -> Iterator[Array]:
    """Batches of raw images as they looked in training, preprocessed: what BatchNorm statistics are re-estimated on."""
    rng = np.random.default_rng(seed)
    for part in np.array_split(images[: BN_BATCHES * BN_BATCH], max(1, min(BN_BATCHES, len(images) // BN_BATCH))):
        yield data.preprocess(augmented(part, data.augment, rng))


def check_equal(built: Any, proxy: Proxy, plan: Plan) -> None:
    """A built network that is not what was scored is a bug: say so instead of going on."""
    scored = proxy.logits(plan, proxy.scored)
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
