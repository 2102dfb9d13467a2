"""A whole run made up of random plans, and all that its report shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lrf_optuna.plans.comparison import OURS, BudgetRows, Comparison, Row, Score
from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.plans.result import Alternative, Evaluation, LayerResult, Result, Tuned
from lrf_optuna.report.content import EpochRow, ReportContent
from lrf_optuna.report.facts import ChangedDecisions, ChangedImage, Facts, ImageUse, Provenance, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECTIVES = ("loss", "params", "macs")
METHODS = ("cp", "tucker2", "intact")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
"""A PNG of one black pixel."""


def trials(number: int = 40, objectives: Sequence[str] = OBJECTIVES, layers: int = 5) -> list[Candidate]:
    """Random plans, whose loss falls as they grow; the last one is the original."""
    rng = np.random.default_rng(0)
    found = []
    for trial in range(number):
        picks = {f"conv{i}": Choice(str(rng.choice(METHODS[:2])), (int(rng.integers(1, 9)),)) for i in range(layers)}
        size, noise = rng.uniform(0.1, 0.9), rng.uniform(0.5, 1)
        costs = {"loss": noise * 10 ** (-4 * size), "params": size, "macs": size * noise, "latency": 5 * noise}
        found.append(Candidate(trial, Plan.of(picks), {name: costs[name] for name in objectives}))
    intact = Plan.of({f"conv{i}": INTACT for i in range(layers)})
    original = {"loss": 0.0, "params": 1.0, "macs": 1.0, "latency": 10.0}
    return [*found, Candidate(number, intact, {name: original[name] for name in objectives})]


def front_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    values = np.array([list(c.costs.values()) for c in candidates])
    beaten = [np.any(np.all(values <= v, axis=1) & np.any(values < v, axis=1)) for v in values]
    return [c for c, lost in zip(candidates, beaten, strict=True) if not lost]


def alternatives_of(candidates: Sequence[Candidate], chosen: Candidate) -> list[Alternative]:
    """Two named points: the chosen one, and one whose milliseconds are predicted."""
    safe = candidates[0] if candidates[0].trial != chosen.trial else candidates[1]
    command = f"lrf-optuna build digits --trial {safe.trial}"
    return [
        Alternative("safe", safe.trial, dict(safe.costs), 0.918, "as built", (0.92, 0.9, 0.93), 0.4, False, command),
        Alternative("balanced", chosen.trial, dict(chosen.costs), 0.914, "tuned", None, 0.25, True),
    ]


def result_of(candidates: Sequence[Candidate], chosen: Candidate, name: str = "digits") -> Result:
    parts = [
        LayerResult(site, "Conv2D", choice.method, choice.ranks, 1000 * (i + 1), 310 * (i + 1), 90_000, 34_000)
        for i, (site, choice) in enumerate(chosen.plan)
    ]
    parts.append(LayerResult("norm", "BatchNormalization", "intact", (), 64, 64, 0, 0, "no kernel"))
    parts.append(LayerResult("depthwise", "DepthwiseConv2D", "intact", (), 90, 90, 900, 900, "one channel each"))
    full = Evaluation(10_000, 1_000_000, 0.92, 0.917, 50_000, milliseconds={"litert": 0.5})
    built = Evaluation(3100, 380_000, 0.87, 0.866, 20_000)
    tuned = Evaluation(3100, 380_000, 0.914, 0.912, 20_000, 5, milliseconds={"litert": 0.25})
    seconds = {"prepare": 1.0, "search": 2.5}
    fine_tune = Tuned(1e-3, (0.87, 0.9, 0.914), 2, "logits")
    made = {
        "built": built,
        "tuned": tuned,
        "fine_tune": fine_tune,
        "layers": parts,
        "alternatives": alternatives_of(candidates, chosen),
    }
    return Result(name, len(candidates), 40, 256, seconds, full, chosen, "the knee", **made)


def facts(**other: Any) -> Facts:
    """Facts of a run on 28 x 28 images of gray."""
    uses = {
        "calibration": ImageUse(256, "a random part of the training images"),
        "training": ImageUse(900, "given as a part of the data"),
        "validation": ImageUse(100, "split off the training images"),
        "test": ImageUse(1000, "given as a part of the data"),
    }
    origin = Provenance(
        model="models/net.keras",
        data="digits.npz",
        command="lrf-optuna run --model net.keras --data digits.npz",
        seed=7,
        date="2026-01-02 03:04 UTC",
        machine="A processor, 4 cores, Linux",
        versions={"Python": "3.11.7", "keras": "3.15.1"},
    )
    recipe = Usage({"x": "(n, 28, 28, 1)"}, 'x = pixels.astype("float32") / 255', "classes = outputs.argmax(axis=-1)")
    changed = ChangedDecisions(1000, 12, 8, 3, (ChangedImage(PIXEL, "3", "3", "5"), ChangedImage(PIXEL, "4", "9", "4")))
    sensitivity = {"conv0": ((0.1, 0.5), (0.3, 0.02)), "conv1": ((0.3, 0.0),)}
    return replace(Facts("digest", origin, uses, recipe, "image-classification", changed, sensitivity), **other)


def comparison(metric: float = 0.92) -> Comparison:
    """Two budgets, ours and two rules."""
    blocks = []
    for budget in (0.5, 0.3):
        rows = tuple(
            Row(name, "", params=budget, macs=budget, loss=0.1, fitted=Score(metric - lost * (1 - budget)))
            for name, lost in ((OURS, 0.02), ("uniform tucker2", 0.2), ("energy", 0.1))
        )
        blocks.append(BudgetRows(budget, rows))
    return Comparison("digits", 41, "params", OBJECTIVES, 10, 0, Score(metric), tuple(blocks), ("A note.",))


def run(**options: Any) -> tuple[list[Candidate], list[Candidate], Result]:
    """A whole run: its trials, its front, its result."""
    candidates = trials(**options)
    points = front_of(candidates)
    return candidates, points, result_of(candidates, points[len(points) // 2])


def content_of(**options: Any) -> ReportContent:
    """All that a report can show of a run; the metric of every other point of the front was measured."""
    candidates, points, result = run(**options)
    metrics = {
        point.trial: {"metric": 0.85 + 0.05 * i / len(points), **({"metric as built": 0.86} if i % 4 else {})}
        for i, point in enumerate(points)
        if i % 2
    }
    names = [name for name, _ in points[0].plan]
    return ReportContent(
        candidates,
        points,
        result,
        comparison=comparison(),
        facts=facts(),
        metrics=metrics,
        importances={"loss": dict.fromkeys(names, 1 / len(names)), "params": {names[0]: 1.0}},
        epochs=[EpochRow(0, None, 0.87), EpochRow(1, 0.5, 0.9), EpochRow(2, 0.4, 0.914)],
    )
