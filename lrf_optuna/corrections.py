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

from cachetools import LRUCache

from lrf_optuna.accuracy import Accuracy
from lrf_optuna.asymmetric import PULL, Fitted, refit_in_order
from lrf_optuna.decompositions import compose
from lrf_optuna.fits import keep, nbytes
from lrf_optuna.plan import INTACT, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.proxy import Proxy
from lrf_optuna.stages import Array

log = logging.getLogger(__name__)
MEMORY = 2**29
"""Bytes of stage kernels that are kept."""
PULLS = PULL, 1.0, 3.0
"""Of a refit, one after the other as long as logits come closer: ResNet-20 did best with the first, vgg6, and
MobileNet fitted to few images, with the others."""
FURTHER = 1.5
"""Times the loss of the plans that a pull was found for, from which on it is looked for again."""


@dataclass(frozen=True, slots=True)
class Corrected:
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
class Corrections:
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
    latest: LRUCache[Plan, Corrected] = field(
        default_factory=lambda: LRUCache(MEMORY, getsizeof=lambda one: one.nbytes)
    )

    def __call__(self, plan: Plan) -> float:
        """The accuracy of a plan as it would be built: never less than as it was scored."""
        if plan not in self.known:
            self.known[plan] = self.of(plan).accuracy
        return self.known[plan]

    def of(self, plan: Plan) -> Corrected:
        """The better one of a plan's two networks; of equals the one whose logits are closer to the original's."""
        if plan in self.latest:
            return self.latest[plan]
        best = scored = self.scored(plan)
        if any(choice != INTACT for _, choice in plan):
            refitted = self.refitted(plan, scored)
            best = refitted if self.improves(refitted, scored) else scored
            for one in (scored, refitted):
                log.info("refitted %s: accuracy %.4f, cosine %.5f", one.refitted, one.accuracy, one.closeness)
        keep(self.latest, plan, best)
        return best

    def improves(self, refitted: Corrected, scored: Corrected) -> bool:
        """Whether a refit is more accurate, or equally and with closer logits.

        Where the judge's images are `seen` the logits have to be closer in any case: those are of images not fitted to.
        """
        if self.seen and refitted.closeness <= scored.closeness:
            return False
        return (refitted.accuracy, refitted.closeness) > (scored.accuracy, scored.closeness)

    def scored(self, plan: Plan) -> Corrected:
        """A plan's network as it was scored: the judge measures it once."""
        proxy, accuracy = self.judge.proxy, self.judge(plan)
        statistics = self.judge.estimates[plan]
        closeness = self.judge.alike(proxy.swaps(plan), statistics)
        stages = {site: proxy.stages(site, choice) for site, choice in plan}
        return Corrected(stages, statistics, accuracy, closeness, refitted=False)

    def refitted(self, plan: Plan, scored: Corrected) -> Corrected:
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

    def pulled(self, plan: Plan, scored: Fitted, pull: float) -> Corrected:
        """A refit, by a pull."""
        stages = refit_in_order(self.judge.proxy, plan, scored, self.images(), self.progress, pull)
        kernels = composed(self.judge.proxy, plan, stages)
        statistics = self.judge.statistics(kernels)
        accuracy = self.judge.right(self.judge.labelled, kernels, statistics)
        return Corrected(stages, statistics, accuracy, self.judge.alike(kernels, statistics), refitted=True)


def composed(proxy: Proxy, plan: Plan, stages: Fitted) -> dict[str, Array]:
    """Site -> what the stage kernels of a plan compose to, as Keras lays it out, for the sites that it changes."""
    chosen = [(site, choice) for site, choice in plan if choice != INTACT]
    return {site: proxy.theirs(site, compose(proxy.sites[site].op, choice, stages[site])) for site, choice in chosen}
