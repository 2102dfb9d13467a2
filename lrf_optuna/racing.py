"""Scoring plans ahead of their turn, in two passes: few images first, and no more where these show a plan to be beaten.

The loss on a few images tells that on all of them up to a ratio, of which the mean and the spread are learnt from the
plans near by that were scored on all. A plan that the front beats even with the hopeful ratio is left at that: what is
expected of it stands for its loss. Passes run in threads of their own, while the next plans are made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.objectives import OBJECTIVES, Measured
from lrf_optuna.pareto import Front
from lrf_optuna.plan import Plan
from lrf_optuna.stages import Array

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

AHEAD = 2
"""Passes at a time."""
HOPEFUL = 0.2
"""Standard deviations by which a loss may turn out less than expected, as logarithms."""
LEARNT, NEAR, REMEMBERED = 24, 48, 512
"""Plans scored on all images that a ratio is learnt from: at least; the nearest; of the latest."""
ROUNDING = 1e-6
"""Losses below say nothing of their ratios."""
Maps = Mapping[str, Array]


@dataclass
class Running:
    """A plan on its way: the passes that were begun, and at the end what they say."""

    plan: Plan
    kernels: Mapping[str, Any]
    """Site -> tensor in the place of its kernel."""
    first: Future[dict[str, Array]] | None = None
    rest: Future[dict[str, Array]] | None = None
    measured: Measured | None = None
    images: int = 0
    """How many it was scored on."""


class Race:
    """Scores plans in the order in which they are started; `front` is what they have to stand against.

    `start`, then `advance`, then `finish` each of them. The same calls in the same order give the same results,
    whatever the threads of `pool` do. With `on` false all plans are scored on all images.
    """

    def __init__(self, proxy: Proxy, front: Front, pool: Executor, on: bool = True) -> None:
        self.proxy, self.front, self.pool = proxy, front, pool
        self.few = proxy.few if on else len(proxy)
        self.learnt: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        """Logarithms of the loss on few images, and of the ratio of that on all to it."""

    def start(self, plan: Plan) -> Running:
        """Begin with a plan: on few images where enough is known of what they tell."""
        known = self.proxy.known.get(plan)
        if known:
            return Running(plan, {}, measured=known, images=len(self.proxy))
        running = Running(plan, self.proxy.tensors(plan))
        running.first = self.passed(running, 0, self.few if len(self.learnt) >= LEARNT else None)
        return running

    def passed(self, running: Running, start: int, end: int | None = None) -> Future[dict[str, Array]]:
        """A pass over some of the images, in a thread."""
        return self.pool.submit(self.proxy.maps, running.kernels, start, end)

    def advance(self, running: Running) -> None:
        """When the first pass is there: it was of all images, or is enough, or the rest has to follow."""
        if running.measured or running.rest or running.first is None:
            return
        maps = running.first.result()
        seen = len(next(iter(maps.values())))
        if seen == len(self.proxy):
            self.settle(running, maps)
            return
        some = self.proxy.judged(running.plan, maps)
        likely = self.ratio(OBJECTIVES["loss"](some))
        if likely and self.beaten(scaled(some, np.exp(likely[0] - HOPEFUL * likely[1]))):
            running.measured, running.images = scaled(some, np.exp(likely[0])), seen
        else:
            running.rest = self.passed(running, seen)

    def finish(self, running: Running) -> Measured:
        """What is known of a plan in the end."""
        self.advance(running)
        if running.measured is None:
            parts = [found.result() for found in (running.first, running.rest) if found]
            return self.settle(running, {tap: np.concatenate([part[tap] for part in parts]) for tap in parts[0]})
        return running.measured

    def settle(self, running: Running, maps: Maps) -> Measured:
        """What a plan is that was scored on all images; the ratio is learnt."""
        found = self.proxy.judged(running.plan, maps)
        running.measured, running.images = found, len(self.proxy)
        self.proxy.known[running.plan] = found
        if self.few < len(self.proxy):
            some = self.proxy.judged(running.plan, {tap: found[: self.few] for tap, found in maps.items()})
            few, full = OBJECTIVES["loss"](some), OBJECTIVES["loss"](found)
            if min(few, full) > ROUNDING:
                self.learnt.append((np.log(few), np.log(full / few)))
        return found

    def ratio(self, few: float) -> tuple[float, float] | None:
        """The mean and the standard deviation of the logarithm of loss / loss on few images, of plans near by."""
        if few <= ROUNDING:
            return None
        learnt = np.array(self.learnt)
        nearest = np.argsort(np.abs(learnt[:, 0] - np.log(few)), kind="stable")[:NEAR]
        return float(learnt[nearest, 1].mean()), float(learnt[nearest, 1].std())

    def beaten(self, measured: Measured) -> bool:
        """Whether a point of the front is at least as good in everything."""
        return self.front.beats(np.array([cost(measured) for cost in self.proxy.objectives.values()]))


def scaled(measured: Measured, ratio: float) -> Measured:
    """The same with every tap's loss times a ratio."""
    return replace(measured, similarity={tap: 1 - (1 - alike) * ratio for tap, alike in measured.similarity.items()})
