"""Scoring plans ahead of their turn, in two passes: few images first, and no more where these show it to be no gain.

The loss on a few images tells that on all of them up to a ratio, which is learnt from the plans near by that were
scored on all. A plan that with it would add next to nothing to the front's volume is left at that: what is expected of
it stands for its loss, or a little more, so that the front beats it: what is on the front was scored on all images.
Passes run in threads of their own, while the next plans are made; where only one is made at a time, in the thread that
asks for it, which then has work for just one processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from lrf_optuna.attainment import Interest
from lrf_optuna.objectives import OBJECTIVES, Measured
from lrf_optuna.pareto import Front, added
from lrf_optuna.plan import Plan
from lrf_optuna.stages import Array

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

AHEAD = 3
"""Passes at a time: one more than cores would need, so that none of them waits for the trial whose turn it is."""
LITTLE = 3e-5
"""Share of the volume that is left, below which a plan adds next to nothing."""
WORSE = (1.0, 1.02, 1.05, 1.1)
"""Times the expected loss that may stand for it."""
LEARNT, NEAR, REMEMBERED = 24, 48, 512
"""Plans scored on all images that a ratio is learnt from: at least; the nearest; of the latest."""
ROUNDING = 1e-6
"""Losses below say nothing of their ratios."""
Maps = Mapping[str, Array]
P = ParamSpec("P")
T = TypeVar("T")


class Here(Executor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """What came of it, at the end of the work; an exception is raised here."""
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def passing(at_a_time: int) -> Executor:
    """What makes that many passes at a time."""
    return ThreadPoolExecutor(at_a_time) if at_a_time > 1 else Here()


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
    whatever the threads of `pool` do. With `on` false all plans are scored on all images. `interest`: how closely costs
    are looked at; a plan is left only where it adds little to the plain volume and to that.
    """

    def __init__(
        self, proxy: Proxy, front: Front, pool: Executor, on: bool = True, interest: Interest | None = None
    ) -> None:
        self.proxy, self.front, self.pool, self.interest = proxy, front, pool, interest
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
        running.measured, running.images = self.left(some), seen
        if running.measured is None:
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

    def ratio(self, few: float) -> float | None:
        """The geometric mean of loss / loss on few images, of plans near by."""
        if few <= ROUNDING:
            return None
        learnt = np.array(self.learnt)
        nearest = np.argsort(np.abs(learnt[:, 0] - np.log(few)), kind="stable")[:NEAR]
        return float(np.exp(learnt[nearest, 1].mean()))

    def left(self, some: Measured) -> Measured | None:
        """What stands for a plan that few images show to be no gain; None where it has to be scored on all."""
        likely = self.ratio(OBJECTIVES["loss"](some))
        if likely is None or self.gains(self.costs(scaled(some, likely))):
            return None
        expected = (scaled(some, likely * worse) for worse in WORSE)
        return next((one for one in expected if self.front.beats(self.costs(one))), None)

    def gains(self, costs: Array) -> bool:
        """Whether a plan of these costs `(costs,)` would add more than a little to the front."""
        if not self.front:
            return True
        if self.front.beats(costs):
            return False
        most, views = LITTLE * (1 - self.front.volume), [(costs, self.front.costs)]
        if self.interest and self.interest.aims:
            views.append((self.interest(costs[None])[0], self.interest(self.front.costs)))
        return any(added(*view) > most for view in views)

    def costs(self, measured: Measured) -> Array:
        """The costs `(costs,)` of what was measured."""
        return np.array([cost(measured) for cost in self.proxy.objectives.values()])


def scaled(measured: Measured, ratio: float) -> Measured:
    """The same with every tap's loss times a ratio."""
    return replace(measured, similarity={tap: 1 - (1 - alike) * ratio for tap, alike in measured.similarity.items()})
