"""About how long the phases of a run take, from one measured forward pass of the original.

A phase costs image passes, which are forward passes of the original over one image, and seconds beside. Fitting the
options of the layers is left out: its time depends on the shapes of the layers, and is known only when it is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.training.calibrate import DEFAULT as CALIBRATION
from lrf_optuna.training.calibrate import enough_images
from lrf_optuna.training.decisions import short_runs
from lrf_optuna.training.recipe import DEFAULT as RECIPE

TIMED_PASSES = 3
"""Passes of which the fastest counts, after one that compiles."""

SLOWEST = 5.0
"""Times by which a run is slower than expected at most, or faster: a busy processor has been seen to be five times."""


@dataclass(frozen=True, slots=True)
class PhaseCosts:
    """What phases cost. Times are within a factor of two or so: networks differ in more than one pass tells.

    The choice and the trials are of benchmarks/results/run.md, training steps of one core.
    """

    trial_seconds: float = 8e-3
    """Seconds of a trial beside its pass: drawing, composing kernels, recording. Measured: 6 to 13 ms."""
    pick_passes: float = 9e4
    """Image passes of the choice: 700 passes of 128 images, where run.md has 490 to 830."""
    pick_seconds: float = 2.0
    """Seconds of the choice that do not grow with the network."""
    training_passes: float = 4.0
    """Image passes that a training step costs for each image, with the teacher: 1.5 on LeNet-5, 6.5 on ResNet-20."""
    training_seconds: float = 3.0
    """Seconds in which a training step is compiled."""
    step_seconds: float = 5e-3
    """Seconds of a training step beside its passes."""
    build_seconds: float = 2.0
    """Seconds in which the network is built, measured and reported on, beside the passes over test images."""
    timing_seconds: float = 10.0
    """Seconds in which both networks are exported and timed in two runtimes."""


def pass_seconds(proxy: Proxy) -> float:
    """Seconds of one forward pass of the original over the scoring images."""
    proxy.network.run(proxy.scored.tensors, {})
    times = []
    for _ in range(TIMED_PASSES):
        start = time.perf_counter()
        proxy.network.run(proxy.scored.tensors, {})
        times.append(time.perf_counter() - start)
    return min(times)


def expected_seconds(
    spec: StudySpec, data: Data, proxy: Proxy, one_pass: float, trials: int, costs: PhaseCosts = PhaseCosts()
) -> dict[str, float]:
    """Phase -> about how many seconds it takes, with `trials` further trials; only phases that are asked for.

    `one_pass`: seconds of a pass over the scoring images.
    """
    image, images = one_pass / len(proxy.scored), len(data.val) + len(data.test)
    found = {
        "search": trials * (one_pass + costs.trial_seconds),
        "pick": costs.pick_passes * image + costs.pick_seconds,
        "build": 4 * images * image + costs.build_seconds,
    }
    if spec.tune.calibrates and enough_images(data):
        settings = CALIBRATION.within(proxy.inventory.macs)
        found["calibrate"] = training_seconds(settings.steps, settings.batch, image, costs)
    if spec.tune.epochs:
        steps = spec.tune.epochs * max(1, len(data.train) // spec.tune.batch)
        probes = short_runs(spec.tune, data) * RECIPE.probe_steps(steps)
        found["tune"] = training_seconds(steps + probes, spec.tune.batch, image, costs)
    if spec.latency.time_at_end:
        found["latency"] = costs.timing_seconds
    return found


def training_seconds(steps: int, batch: int, image: float, costs: PhaseCosts) -> float:
    """Seconds of training steps; `image`: seconds of an image pass."""
    return costs.training_seconds + steps * (batch * image * costs.training_passes + costs.step_seconds)


def seconds_after(expected: Mapping[str, float], spent: Mapping[str, float], current: str) -> float:
    """The seconds of the phases that have not begun; `current` is the one that runs.

    They are as much slower or faster than expected as the phases before were together, within `SLOWEST`.
    """
    begun = [phase for phase in expected if phase != current and spent.get(phase)]
    before = sum(expected[phase] for phase in begun)
    factor = sum(spent[phase] for phase in begun) / before if before else 1.0
    left = sum(seconds for phase, seconds in expected.items() if phase != current and phase not in begun)
    return left * min(max(factor, 1 / SLOWEST), SLOWEST)


def passes_text(seconds: float, one_pass: float) -> str:
    """Seconds as a number of passes, with two digits."""
    passes: Any = float(f"{seconds / one_pass:.2g}")
    return f"{passes:,.0f} pass{'es' * (passes != 1)}"
