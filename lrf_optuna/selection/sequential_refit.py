"""What becomes of a plan without training: as it was scored, or refitted in layer order, whichever is more accurate.

Both are measured on validation images, each with BatchNorm statistics re-estimated where that helps. Where these are
few, and images that chains are fitted to are looked at as well, a refit has to bring the logits closer, too. No network
is built for it: what is measured is what `build` then makes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cachetools import LRUCache

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Kernels, split_groups
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.sources import Pixels
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.fitting.patches import MOST_ROWS, split_by_group
from lrf_optuna.fitting.sequential import call_patches, can_be_solved, group_chain, refit_chain
from lrf_optuna.models.images import batches_within_memory
from lrf_optuna.models.layer_kinds import read_maps
from lrf_optuna.models.resume import ResumedForward
from lrf_optuna.plans.plan import INTACT, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_store import nbytes, put_if_fits
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.accuracy import Accuracy

PULL = 0.2
"""Weight of staying with the original's kernel: what served ResNet-20 best."""
MOST_MACS = 1e13
"""Multiply-accumulates spent on it at most: fewer images where layers are many and large."""
FEWEST = 64

Fitted = dict[str, Kernels]
"""Site -> stage kernels."""


def refit_sequentially(
    proxy: Proxy,
    plan: Plan,
    kernels: Fitted,
    images: Array,
    progress: Progress = SILENT,
    pull: float = PULL,
) -> Fitted:
    """The same chains (site -> stage kernels) refitted layer after layer.

    `images`: preprocessed, `(n, H, W, C)`; `pull`: the weight of staying with the original's kernel.
    """
    chosen = {name: choice for name, choice in plan if choice != INTACT}
    sites = {name: site for name, site in proxy.sites.items() if name in chosen and can_be_solved(site, chosen[name])}
    following, layers = ResumedForward(proxy.network, sites, [images[:1]]), proxy.network.layers
    macs = {name: site.macs(Chain((site.op,))) for name, site in proxy.sites.items()}
    work = sum(macs.values()) + following.work(macs)
    images = images[: int(np.clip(MOST_MACS / max(1, work), FEWEST, len(images)))]
    positions = max(1, MOST_ROWS // (2 * len(images)))
    batches = batches_within_memory(images, proxy.sites.values())
    fitted, whole = dict(kernels), proxy.dense_kernels(plan)
    with proxy.single_blas_thread(), progress.task("refit in order", len(batches) + len(sites)) as step:
        goals: dict[str, list[Array]] = {name: [] for name in sites}
        for turn, x in enumerate(batches):
            for name, maps in proxy.inputs(x, names=list(sites)).items():
                own = split_groups(proxy.kernels.originals[name], sites[name].op.groups)
                rows = split_by_group(call_patches(maps, sites[name], positions, turn), sites[name].op)
                goals[name].append(np.stack([r @ as_matrix(part) for r, part in zip(rows, own, strict=True)]))
            step(1)
        following.take(batches)
        for name, site in sites.items():
            heard = ([read_maps(layers[name], maps) for maps in calls] for calls in following.inputs(name, whole))
            patched = (
                split_by_group(call_patches(maps, site, positions, turn), site.op) for turn, maps in enumerate(heard)
            )
            pairs = zip(patched, goals.pop(name), strict=True)
            chain = group_chain(site, chosen[name])
            fitted[name] = refit_chain(site.op.part, chain, proxy.kernels.originals[name], fitted[name], pairs, pull)
            whole[name] = proxy.to_keras_layout(name, compose(site.op, chosen[name], fitted[name]))
            step(1)
    return fitted


log = logging.getLogger(__name__)
MEMORY = 2**29
"""Bytes of stage kernels that are kept."""
PULLS = PULL, 1.0, 3.0
"""Of a refit, one after the other as long as logits come closer: ResNet-20 did best with the first, vgg6, and
MobileNet fitted to few images, with the others."""
FURTHER = 1.5
"""Times the loss of the plans that a pull was found for, from which on it is looked for again."""


@dataclass(frozen=True, slots=True)
class RefitResult:
    """The best that is known of a plan before any training.

    `stages`: site -> stage kernels; `statistics`: of the BatchNorm layers, where they are not the original's;
    `accuracy`: the share of validation images that is right; `closeness`: the cosine of its logits with the original's.
    """

    stages: Fitted
    statistics: list[Any] | None
    accuracy: float
    closeness: float
    refitted: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its stage kernels."""
        return sum(map(nbytes, self.stages.values()))


@dataclass
class PlanRefits:
    """Plan -> its accuracy as it would be built, remembered by plan; `of` gives what that is, the latest remembered.

    `judge` measures; `images`: gives preprocessed images `(n, H, W, C)` that chains are refitted to; `seen`: whether
    the judge's images may be among these, so that a refit looks better on them than it is.
    """

    judge: Accuracy
    images: Callable[[], Array]
    progress: Progress = SILENT
    seen: bool = False
    known: dict[Plan, float] = field(default_factory=dict)
    pull: float = PULL
    found_at: float = 0.0
    """The largest loss of a plan that the pull was looked for with."""
    latest: LRUCache[Plan, RefitResult] = field(
        default_factory=lambda: LRUCache(MEMORY, getsizeof=lambda one: one.nbytes)
    )

    def __call__(self, plan: Plan) -> float:
        """The accuracy of a plan as it would be built: never less than as it was scored."""
        if plan not in self.known:
            self.known[plan] = self.of(plan).accuracy
        return self.known[plan]

    def of(self, plan: Plan) -> RefitResult:
        """The better one of a plan's two networks; of equals the one whose logits are closer to the original's."""
        if plan in self.latest:
            return self.latest[plan]
        best = scored = self.scored(plan)
        if any(choice != INTACT for _, choice in plan):
            refitted = self.refitted(plan, scored)
            best = refitted if self.improves(refitted, scored) else scored
            for one in (scored, refitted):
                log.info("refitted %s: accuracy %.4f, cosine %.5f", one.refitted, one.accuracy, one.closeness)
        put_if_fits(self.latest, plan, best)
        return best

    def improves(self, refitted: RefitResult, scored: RefitResult) -> bool:
        """Whether a refit is more accurate, or equally and with closer logits.

        Where the judge's images are `seen` the logits have to be closer in any case: those are of images not fitted to.
        """
        if self.seen and refitted.closeness <= scored.closeness:
            return False
        return (refitted.accuracy, refitted.closeness) > (scored.accuracy, scored.closeness)

    def scored(self, plan: Plan) -> RefitResult:
        """A plan's network as it was scored: the judge measures it once."""
        proxy, accuracy = self.judge.proxy, self.judge(plan)
        statistics = self.judge.estimates[plan]
        closeness = self.judge.alike(proxy.dense_kernels(plan), statistics)
        stages = {site: proxy.kernels.stages(site, choice) for site, choice in plan}
        return RefitResult(stages, statistics, accuracy, closeness, refitted=False)

    def refitted(self, plan: Plan, scored: RefitResult) -> RefitResult:
        """The same with its chains refitted in layer order, by the pull that suits the network."""
        lost = 1 - scored.closeness
        if lost <= FURTHER * self.found_at:
            return self.pulled(plan, scored.stages, self.pull)
        self.found_at = lost
        best = self.pulled(plan, scored.stages, PULLS[0])
        self.pull = PULLS[0]
        for pull in PULLS[1:]:
            other = self.pulled(plan, scored.stages, pull)
            if other.closeness <= best.closeness:
                break
            best, self.pull = other, pull
        log.info("refits are pulled to the original's kernels by %g", self.pull)
        return best

    def pulled(self, plan: Plan, scored: Fitted, pull: float) -> RefitResult:
        """A refit, by a pull."""
        stages = refit_sequentially(self.judge.proxy, plan, scored, self.images(), self.progress, pull)
        kernels = composed(self.judge.proxy, plan, stages)
        statistics = self.judge.statistics(kernels)
        accuracy = self.judge.right(self.judge.labelled, kernels, statistics)
        return RefitResult(stages, statistics, accuracy, self.judge.alike(kernels, statistics), refitted=True)


def composed(proxy: Proxy, plan: Plan, stages: Fitted) -> dict[str, Array]:
    """Site -> what the stage kernels of a plan compose to, as Keras lays it out, for the sites that it changes."""
    chosen = [(site, choice) for site, choice in plan if choice != INTACT]
    return {
        site: proxy.to_keras_layout(site, compose(proxy.sites[site].op, choice, stages[site]))
        for site, choice in chosen
    }


def corrections_of(judge: Accuracy, data: Data, unscored: Pixels, progress: Progress = SILENT) -> PlanRefits:
    """Plan -> its accuracy as it would be built; chains are refitted to the raw images `unscored`."""
    return PlanRefits(judge, lambda: data.preprocess(unscored), progress, seen=bool(data.validation_is_small))
