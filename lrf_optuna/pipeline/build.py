"""From the chosen plan to the best untuned model, and the proof that it is what was scored and measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array
from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import Inventory, plan_counts
from lrf_optuna.models.layer_kinds import norms_of
from lrf_optuna.models.separable import relative_spacing
from lrf_optuna.models.surgery import materialize
from lrf_optuna.plans.plan import Plan
from lrf_optuna.plans.result import LayerResult
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.plan_refits import RefitResult, composed, stage_kernels

log = logging.getLogger(__name__)
EQUAL = 1e-4
"""Most that a built network's logits may differ from the scored ones in any case, relative to the largest."""
ROUNDING_FACTOR = 10
"""Times the measured rounding that they may differ: benchmarks/coverage/architectures.py allows the same."""


def build(model: Any, plan: Plan, proxy: Proxy, refit: RefitResult | None = None) -> Any:
    """The model of a plan: plain Keras layers with the kernels that the proxy scored, or with those of a refit.

    A refit may also have BatchNorm statistics. Raises LrfError where the built network is not the measured one.
    """
    stages, statistics = (refit.stages, refit.statistics) if refit else (stage_kernels(proxy, plan), None)
    built = materialize(model, plan, stages)
    if statistics:
        moving = [variable for norm in norms_of(built) for variable in (norm.moving_mean, norm.moving_variance)]
        for variable, value in zip(moving, statistics, strict=True):
            variable.assign(value)
    check_equal(built, proxy, plan, composed(proxy, plan, stages), statistics)
    return built


def check_equal(
    built: Any, proxy: Proxy, plan: Plan, kernels: Mapping[str, Array], statistics: list[Any] | None = None
) -> None:
    """Raises LrfError where a built network is not what was scored with these kernels, beyond rounding."""
    scored = proxy.network.run(proxy.scored.tensors, kernels, statistics)
    apart = relative_difference(proxy.network.outputs_of_model(built, proxy.scored.images), scored)
    found, params = built.count_params(), plan_counts(proxy.inventory, plan)[0]
    log.info("built against scored: logits differ by %.1e of the largest, %d parameters", apart, params)
    if found != params:
        raise LrfError(f"the built network has {found:,} parameters, but {params:,} were counted: please report it")
    if not apart <= EQUAL and not apart <= ROUNDING_FACTOR * (
        rounding := relative_difference(rounded_logits(built, proxy, kernels, statistics), scored)
    ):
        raise LrfError(
            f"the built network is not the scored one: logits differ by {apart:.1e} of the largest, rounding by "
            f"{rounding:.1e}: choose another point with select, and please report it"
        )


def relative_difference(found: Mapping[str, Array], expected: Mapping[str, Array]) -> float:
    """The largest difference relative to the largest of the expected values, of the output where it is largest."""
    each = [np.abs(found[name] - own).max() / max(np.abs(own).max(), 1e-30) for name, own in expected.items()]
    return float(np.max(each))


def rounded_logits(
    built: Any, proxy: Proxy, kernels: Mapping[str, Array], statistics: list[Any] | None
) -> dict[str, Array]:
    """The logits of the scored network with all its kernels changed at random by about one rounding."""
    rng = np.random.default_rng(0)
    spacing = relative_spacing(built)
    whole = {name: np.asarray(kernels.get(name, own)) for name, own in proxy.network.original_kernels.items()}
    rounded = {
        name: kernel * (1 + np.float32(spacing) * rng.standard_normal(kernel.shape, np.float32))
        for name, kernel in whole.items()
    }
    return proxy.network.run(proxy.scored.tensors, rounded, statistics)


def layer_results(inventory: Inventory, plan: Plan) -> list[LayerResult]:
    """What every layer with weights or with MACs gets from a plan."""
    found = []
    for row in inventory.rows:
        if not row.params and row.macs == 0:
            continue
        choice, params, macs = plan[row.path], row.params, row.macs
        if row.site:
            chain = chain_of(row.site.op, choice)
            params += chain.params - row.site.op.params
            macs = (macs or 0) + row.site.macs(chain) - row.site.macs(Chain((row.site.op,)))
        sizes = row.params, params, row.macs, macs
        found.append(LayerResult(row.path, row.kind, choice.method, choice.ranks, *sizes, row.reason))
    return found
