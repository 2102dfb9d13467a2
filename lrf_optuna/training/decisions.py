"""What a fine-tune decides by validation images: its learning rate, what it distills, and whose weights it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import NamedTuple

from lrf_optuna.data.dataset import Data
from lrf_optuna.data.metrics import standard_error
from lrf_optuna.sections import TuneSpec
from lrf_optuna.training.recipe import DEFAULT, Recipe

LOGITS, PROBABILITIES = WAYS = "logits", "probabilities"
"""What is distilled. Logits are better where the teacher is always right on its training images, else probabilities
(benchmarks/results/tune_tried.md)."""

BEHIND = 0.005
"""How far behind the best epoch the kept one may be: half a point of the metric, which few images do not tell apart."""

FORGOTTEN = 0.01
"""How far behind the best epoch the kept one may be on images that the original was trained on: one point.

A built network inherits what its original knows of them by heart, and a fine-tune without them forgets some of it. vgg6
lost 0.5 points of them and gained 1.0 points of test accuracy (benchmarks/results/tune_tried.md).
"""


class Way(NamedTuple):
    """How a network is tuned: the learning rate, and what is distilled."""

    rate: float
    distil_by: str


def ways_of(spec: TuneSpec, data: Data) -> tuple[str, ...]:
    """What may be distilled: one way where it is given, or where it makes no difference."""
    same = not spec.distil or not any(task.decides for task in data.tasks.values())
    return WAYS[:1] if same else WAYS if spec.distil_by == "auto" else (spec.distil_by,)


def distilled(distil_by: str, spec: TuneSpec, data: Data) -> str:
    """What is distilled, in a word for the user; empty without a distillation. Numbers are outputs, and no logits."""
    if not spec.distil:
        return ""
    return distil_by if any(task.decides for task in data.tasks.values()) else "outputs"


def short_runs(spec: TuneSpec, data: Data, recipe: Recipe = DEFAULT) -> int:
    """How many short runs find the learning rate and what is distilled; none where both are known."""
    count = len(ways_of(spec, data)) * (len(recipe.rates[spec.optimizer]) if spec.rate == "auto" else 1)
    return count if count > 1 else 0


def choose_way(losses: Mapping[Way, float], recipe: Recipe) -> Way | None:
    """What is distilled at the least loss, at the largest rate whose loss is at most `loss_tolerance` times the least.

    None where all diverge.
    """
    best = min(losses, key=losses.__getitem__)
    if not isfinite(losses[best]):
        return None
    same = (way for way in losses if way.distil_by == best.distil_by)
    return max(way for way in same if losses[way] <= recipe.loss_tolerance * losses[best])


def kept_epoch(metrics: Sequence[float], images: int, trained_on: bool = False) -> int:
    """The last epoch whose metric, on so many images, is at most one standard error, and `BEHIND`, behind the best one.

    It may be `FORGOTTEN` behind where the original was `trained_on` the images. With 0 images, where the metric is no
    share of decisions, it is the last of the best epochs. The learning rate falls to 0, so of equal epochs the last is
    the best.
    """
    best = max(metrics)
    error = FORGOTTEN if trained_on else min(BEHIND, standard_error(best, images))
    return max(i for i, metric in enumerate(metrics) if metric >= best - (error if images else 0.0))
