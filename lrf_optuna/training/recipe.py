"""The settings of a fine-tune: learning rates that are tried, schedule and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType
from typing import Any

import keras

from lrf_optuna.training.muon import Muon, matrices_of

RATES = MappingProxyType(
    {
        "muon": (3e-4, 1e-3, 3e-3),
        "adamw": (3e-4, 1e-3, 3e-3),
        "sgd": (1e-3, 3e-3, 1e-2),
    }
)
"""Optimizer -> the learning rates that are tried, a factor of 3 apart.

On ResNet-20 at 28 % of its parameters SGD at 2e-2 wrecked the network, and 3e-4 to 1e-3 were good.
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What stays the same in all fine-tunes, with the reason for each value."""

    rates: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: RATES)
    logits_weight: float = 5.0
    """Weight of half the squared distance of logits beside the loss with labels: 5 in all rows of tune_tried.md."""
    temperature: float = 2.0
    """What logits are divided by where probabilities are compared. cnn_fashion at 15 %, three epochs: 91.57, 91.69 and
    91.79 % with 1, 2 and 4; LeNet-300-100 at 5 %, four: 95.68, 95.44 and 95.03 %."""
    probe_share: float = 0.02
    """Steps of a short run, as a share of those of the fine-tune: 12 % of its time for three rates, two ways each."""
    least_probe_steps: int = 10
    """Steps of a short run at least: fewer do not show a rate that diverges."""
    most_probe_steps: int = 50
    """Steps of a short run at most, so that a long fine-tune does not wait for its rate."""
    probe_images: int = 1024
    """Validation images on which the rates are compared: the standard error of the accuracy is about 1 point."""
    scale_images: int = 512
    """Training images on which the variances of the teacher's outputs are measured: to about 6 %."""
    smaller: float = 1e-2
    """The factor of the rates that are tried after all others diverged: it puts them below the smallest of those."""
    smaller_rounds: int = 2
    """Times that smaller rates are tried: down to 1e-8 nothing is learned, so that the rate is not the cause."""
    patience_share: float = 0.7
    """The share of the epochs without a better metric that ends a fine-tune. The rate falls late: ResNet-20 at 25 %, at
    the rate 1e-3, was behind its calibrated network on validation images for at least half of ten epochs."""
    least_patience: int = 5
    """Epochs without a better metric that end a fine-tune at least."""
    loss_tolerance: float = 1.6
    """A rate is good up to this factor of the least loss: a short run favors small rates over the best in the end, the
    more so where the original knows the validation images by heart. ResNet-32 at 1e-3 has 1.54 times the loss that it
    has at 3e-4, and in the end 0.2 points more. Three networks gain 0.1 to 0.3, about a standard error each
    (benchmarks/results/tune_tried.md)."""
    warmup_share: float = 0.05
    """The share of the steps in which the rate rises from a tenth, while the optimizer's averages are still noise."""
    weight_decay: float = 1e-4
    """The usual value of residual networks (He et al. 2016, section 3.4)."""
    clip_norm: float = 1.0
    """The largest norm of a variable's gradient: factorized layers are steep, as both factors multiply."""

    def patience(self, epochs: int) -> int:
        """Epochs without a better metric that end a fine-tune of some epochs."""
        return max(self.least_patience, ceil(self.patience_share * epochs))

    def probe_steps(self, total: int) -> int:
        """Steps of a short run at each rate before a fine-tune of `total` steps."""
        return min(max(int(self.probe_share * total), self.least_probe_steps), self.most_probe_steps)

    def schedule(self, rate: float, total: int) -> Any:
        """The rates of a run of `total` steps."""
        return cosine_schedule(rate, total, self.warmup_share)

    def optimizer(self, name: str, model: Any, rate: float = 1e-3) -> Any:
        """Muon, AdamW, or SGD with Nesterov momentum for a model, at a rate; gradients are clipped."""
        shared = {"clipnorm": self.clip_norm, "weight_decay": self.weight_decay}
        if name == "muon":
            return Muon(rate, matrices_of(model), **shared)
        if name == "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **shared)
        return keras.optimizers.AdamW(rate, **shared)


def cosine_schedule(rate: float, total: int, warmup_share: float) -> Any:
    """Step -> rate: a linear warm-up from a tenth of the rate, then a cosine down to 0 at step `total`."""
    warmup = max(1, round(warmup_share * total))
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, max(1, total - warmup), warmup_target=rate, warmup_steps=warmup
    )


DEFAULT = Recipe()
