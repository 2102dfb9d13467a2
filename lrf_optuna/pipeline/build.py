"""From the chosen plan to the best untuned model, and the proof that it is what was scored and measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.models.inventory import Inventory, plan_counts
from lrf_optuna.models.layer_kinds import norms_of, walk_layers
from lrf_optuna.models.outputs import OUTPUT
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan
from lrf_optuna.plans.result import LayerResult
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.sequential_refit import RefitResult, composed

log = logging.getLogger(__name__)
EQUAL = 1e-4
"""Most that a built network's logits may differ from the scored ones, relative to the largest."""
COARSE = {"float16": 20 * 2**-10, "bfloat16": 20 * 2**-7}
"""The same for layers that compute in half precision: twenty times its rounding."""


def build(model: Any, proxy: Proxy, plan: Plan, corrected: RefitResult) -> Any:
    """The model of a plan, with the stage kernels and BatchNorm statistics that are best before training.

    Raises RuntimeError where what is built is not what was scored, or not what was measured: that would be a bug.
    """
    built = materialize(model, plan, {site: proxy.kernels.stages(site, choice) for site, choice in plan})
    check_equal(built, proxy, plan, proxy.dense_kernels(plan))
    if corrected.refitted:
        built = materialize(model, plan, corrected.stages)
    if corrected.statistics:
        own = [moving for norm in norms_of(built) for moving in (norm.moving_mean, norm.moving_variance)]
        for variable, value in zip(own, corrected.statistics, strict=True):
            variable.assign(value)
    if corrected.refitted or corrected.statistics:
        check_equal(built, proxy, plan, composed(proxy, plan, corrected.stages), corrected.statistics)
    return built


def check_equal(
    built: Any, proxy: Proxy, plan: Plan, kernels: Mapping[str, Array], statistics: list[Any] | None = None
) -> None:
    """A built network that is not what was scored with these kernels is a bug: say so instead of going on."""
    scored = proxy.network.run(proxy.scored.tensors, kernels, statistics)[OUTPUT]
    found = proxy.network.logits_of_model(built, proxy.scored.images)
    apart = float(np.abs(found - scored).max() / max(np.abs(scored).max(), 1e-30))
    params = plan_counts(proxy.inventory, plan)[0]
    log.info("built against scored: logits differ by %.1e of the largest, %d parameters", apart, params)
    most = max([EQUAL, *(COARSE.get(layer.compute_dtype, 0.0) for _, layer in walk_layers(built))])
    if apart > most or built.count_params() != params:
        raise RuntimeError(f"built differs from scored: {apart=:.2e}, {built.count_params()} of {params} parameters")


def parts_of(inventory: Inventory, plan: Plan) -> list[LayerResult]:
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
        found.append(LayerResult(row.path, row.kind, choice.method, choice.ranks, *sizes, row.reason))
    return found
