"""Chains of a plan refitted in layer order: each to what the compressed network before it feeds into its layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Kernels, split_groups
from lrf_optuna.data.arrays import Images, count_of, map_inputs
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.fitting.patches import MOST_ROWS, split_by_group
from lrf_optuna.fitting.sequential import call_patches, can_be_solved, group_chain, refit_chain
from lrf_optuna.models.layer_kinds import read_maps
from lrf_optuna.models.model_inputs import batches_within_memory
from lrf_optuna.models.partial_forward import ResumedForward, TracedPass
from lrf_optuna.plans.plan import Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.proxy import Proxy

Fitted = Mapping[str, Kernels]
"""Site -> stage kernels."""


@dataclass(frozen=True, slots=True)
class RefitSettings:
    """How chains are refitted in layer order."""

    images: int = 1024
    """Images that chains are refitted to at most."""
    rows: int = MOST_ROWS // 2
    """Input patches of a site over all images at most."""
    effort: float = 8
    """Times the steps that a fit in a search may take. On three ResNet-20 plans at 30 % of the parameters, 8 gave 0.12
    points of test accuracy more than 3, for two more seconds."""
    most_macs: float = 1e13
    """Multiply-accumulates of a refit's passes at most: fewer images where layers are many and large."""
    fewest_images: int = 64
    """Images that a refit has in any case."""


class SequentialRefit:
    """A plan and its stage kernels -> the stage kernels refitted layer after layer, on the same images for all plans.

    `images`: preprocessed, `(n, ...)`; `graph`: of the network, by `traced`. The original's outputs are gathered
    once, for all plans. A refit depends on the plan, its kernels, the images and the settings alone.
    """

    def __init__(
        self, proxy: Proxy, images: Images, graph: TracedPass | None, settings: RefitSettings = RefitSettings()
    ) -> None:
        self.proxy, self.graph, self.settings = proxy, graph, settings
        macs = {name: site.macs(Chain((site.op,))) for name, site in proxy.sites.items()}
        work = sum(macs.values()) + ResumedForward(proxy.network, graph, proxy.sites).work(macs)
        most = int(np.clip(settings.most_macs / max(1, work), settings.fewest_images, settings.images))
        self.positions = max(1, settings.rows // min(most, count_of(images)))
        self.batches = batches_within_memory(map_inputs(images, lambda array: array[:most]), proxy.sites.values())

    @cached_property
    def goals(self) -> dict[str, list[Array]]:
        """Site -> batch by batch the original's outputs at the positions that a refit sees, `(groups, n, cout)`."""
        goals: dict[str, list[Array]] = {name: [] for name in self.proxy.sites}
        for turn, x in enumerate(self.batches):
            for name, calls in self.proxy.inputs(x).items():
                own = split_groups(self.proxy.kernels.originals[name], self.proxy.sites[name].op.groups)
                rows = self.rows(name, calls, turn)
                goals[name].append(np.stack([r @ as_matrix(part) for r, part in zip(rows, own, strict=True)]))
        return goals

    def rows(self, name: str, calls: list[Array], turn: int) -> Array:
        """Input patches of all calls of a site in the batch number `turn`, `(groups, n, window x cin)`."""
        site = self.proxy.sites[name]
        return split_by_group(call_patches(calls, site, self.positions, turn), site.op)

    def __call__(self, plan: Plan, kernels: Fitted, pull: float, progress: Progress = SILENT) -> Fitted:
        """The stage kernels of a plan, refitted at the sites whose last stage is small enough to be solved for.

        `pull`: the weight of staying with the original's kernel.
        """
        proxy, chosen = self.proxy, plan.changed
        order = [name for name in proxy.sites if name in chosen and can_be_solved(proxy.sites[name], chosen[name])]
        resumed = ResumedForward(proxy.network, self.graph, order, self.batches)
        fitted, whole = dict(kernels), proxy.dense_kernels(plan)
        with proxy.single_blas_thread(), progress.task("refit in order of layers", len(order)) as step:
            for name in order:
                site, layer = proxy.sites[name], proxy.network.layers[name]
                heard = ([read_maps(layer, maps) for maps in calls] for calls in resumed.inputs(name, whole))
                patched = (self.rows(name, calls, turn) for turn, calls in enumerate(heard))
                pairs = zip(patched, self.goals[name], strict=True)
                chain, own = group_chain(site, chosen[name]), proxy.kernels.originals[name]
                how = pull, self.settings.effort
                fitted[name] = refit_chain(site.op.part, chain, own, fitted[name], pairs, *how)
                whole[name] = proxy.to_keras_layout(name, compose(site.op, chosen[name], fitted[name]))
                step(1)
        return fitted
