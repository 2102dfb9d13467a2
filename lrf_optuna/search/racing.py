"""Scoring plans ahead of their turn, in two passes: few images first, and no more where these show it to be no gain.

The loss on a few images tells that on all of them up to a ratio, which is learnt from the plans near by that were
scored on all. So does what the trials before let expect of the plan (the surrogate), often more closely: the two words
count by how closely each has told the truth so far (inverse-variance weighting). A plan that would add next to nothing
to the front's volume, even if it did somewhat better than expected (`DOUBT`), is left at that: what is expected of it
stands for its loss, or a little more, so that the front beats it: what is on the front was scored on all images.
Passes run in threads of their own, while the next plans are made; where only one is made at a time, in the thread that
asks for it, which then has work for just one processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.front import Front
from lrf_optuna.plans.hypervolume import hypervolume_gain
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.search.interest import Look

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

AHEAD = 3
"""Passes at a time: one more than cores would need, so that none of them waits for the trial whose turn it is."""
LITTLE = 3e-5
"""Share of the volume that is left, below which a plan adds next to nothing."""
WORSE = (1.0, 1.02, 1.05, 1.1)
"""Times the expected loss that may stand for it."""
DOUBT = 0.5
"""Standard deviations below the expected loss at which a plan must still be no gain. Children are chosen for gains that
are hoped for: at none, ResNet-44's front lost 0.5 %."""
LEARNT, NEAR, REMEMBERED = 24, 48, 512
"""Plans scored on all images that a ratio is learnt from: at least; the nearest; of the latest."""
TOLD = 8
"""Of them at least that the trials before had told something of, for that to count."""
ROUNDING = 1e-6
"""Losses below say nothing of their ratios; and what no word is closer than."""
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
    foreseen: float | None = None
    """The loss that the trials before let expect."""
    first: Future[dict[str, Array]] | None = None
    rest: Future[dict[str, Array]] | None = None
    measured: Measured | None = None
    images: int = 0
    """How many it was scored on."""


class Race:
    """Scores plans in the order in which they are started; `front` is what they have to stand against.

    `start`, then `advance`, then `finish` each of them. The same calls in the same order give the same results,
    whatever the threads of `pool` do. With `on` false all plans are scored on all images. A plan is left only where it
    adds little to the volume of the front, plain and under all of the `looks`.
    """

    def __init__(self, proxy: Proxy, front: Front, pool: Executor, on: bool = True, looks: Sequence[Look] = ()) -> None:
        self.proxy, self.front, self.pool, self.looks = proxy, front, pool, looks
        self.few = proxy.few if on else len(proxy)
        self.learnt: deque[tuple[float, float, float]] = deque(maxlen=REMEMBERED)
        """Logarithms of losses: on few images, on all, and as foreseen (not a number where nothing was)."""

    def start(self, plan: Plan, foreseen: float | None = None) -> Running:
        """Begin with a plan: on few images where enough is known of what they tell.

        `foreseen`: the loss that the trials before let expect.
        """
        known = self.proxy.known.get(plan)
        if known:
            return Running(plan, {}, measured=known, images=len(self.proxy))
        running = Running(plan, self.proxy.tensors(plan), foreseen)
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
        running.measured, running.images = self.left(some, running.foreseen), seen
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
        """What a plan is that was scored on all images; what was said of it before is learnt."""
        found = self.proxy.judged(running.plan, maps)
        running.measured, running.images = found, len(self.proxy)
        self.proxy.known[running.plan] = found
        if self.few < len(self.proxy):
            some = self.proxy.judged(running.plan, {tap: found[: self.few] for tap, found in maps.items()})
            few, full = OBJECTIVES["loss"](some), OBJECTIVES["loss"](found)
            if min(few, full) > ROUNDING:
                self.learnt.append((np.log(few), np.log(full), logarithm(running.foreseen)))
        return found

    def expected(self, few: float, foreseen: float | None = None) -> tuple[float, float] | None:
        """The loss on all images of a plan, by that on few and the one foreseen; and the same a `DOUBT` below."""
        if few <= ROUNDING:
            return None
        learnt, own = np.array(self.learnt), np.array([np.log(few), logarithm(foreseen)])
        near = learnt[np.argsort(np.abs(learnt[:, 0] - own[0]), kind="stable")[:NEAR]]
        off = [near[:, 1] - near[:, 0]]
        latest = learnt[np.isfinite(learnt[:, 2])][-NEAR:]
        if np.isfinite(own[1]) and len(latest) >= TOLD:
            off.append(latest[:, 1] - latest[:, 2])
        precise = np.array([1 / (one.var() + ROUNDING**2) for one in off])
        words = np.array([one.mean() for one in off]) + own[: len(off)]
        mean, spread = precise @ words / precise.sum(), 1 / np.sqrt(precise.sum())
        return float(np.exp(mean)), float(np.exp(mean - DOUBT * spread))

    def left(self, some: Measured, foreseen: float | None = None) -> Measured | None:
        """What stands for a plan that is shown to be no gain; None where it has to be scored on all images."""
        few = OBJECTIVES["loss"](some)
        expected = self.expected(few, foreseen)
        if expected is None:
            return None
        likely, hoped = (found / few for found in expected)
        if self.gains(self.costs(scaled(some, hoped))):
            return None
        standing = (scaled(some, likely * worse) for worse in WORSE)
        return next((one for one in standing if self.front.beats(self.costs(one))), None)

    def gains(self, costs: Array) -> bool:
        """Whether a plan of these costs `(costs,)` would add more than a little to the front."""
        if not self.front:
            return True
        if self.front.beats(costs):
            return False
        most = LITTLE * (1 - self.front.volume)
        if hypervolume_gain(costs, self.front.costs) > most:
            return True
        return any(hypervolume_gain(look(costs[None])[0], look(self.front.costs)) > most for look in self.looks)

    def costs(self, measured: Measured) -> Array:
        """The costs `(costs,)` of what was measured."""
        return np.array([cost(measured) for cost in self.proxy.objectives.values()])


def scaled(measured: Measured, ratio: float) -> Measured:
    """The same with every tap's loss times a ratio."""
    return replace(measured, similarity={tap: 1 - (1 - alike) * ratio for tap, alike in measured.similarity.items()})


def logarithm(foreseen: float | None) -> float:
    """That of a loss; not a number where nothing was foreseen."""
    return float("nan") if foreseen is None else float(np.log(max(foreseen, ROUNDING)))
