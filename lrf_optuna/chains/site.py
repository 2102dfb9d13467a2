"""A site: a layer of a network that can be factorized, and what its choices are limited to."""

from __future__ import annotations

from dataclasses import dataclass

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Conv


@dataclass(frozen=True, slots=True)
class ChoiceLimits:
    """What the choices of one site are limited to, by hand.

    `methods`: the decompositions that may be chosen, None for all of the study. A chain has at least the share `least`
    and at most the share `most` of the layer's weights; the intact layer has all, so it needs `most` = 1. Ranks are
    multiples of `rank_multiple` where a rank can be as large.
    """

    methods: tuple[str, ...] | None = None
    least: float = 0.0
    most: float = 1.0
    rank_multiple: int = 1


UNLIMITED = ChoiceLimits()


@dataclass(frozen=True, slots=True)
class Site:
    """A layer that can be factorized: `name` (path in the model), its operation, its input maps, its limits."""

    name: str
    op: Conv
    maps: tuple[tuple[int, ...], ...]
    """The spatial shape of the input map of each call: several where the layer is shared."""
    limits: ChoiceLimits = UNLIMITED

    def macs(self, chain: Chain) -> int:
        """Multiply-accumulates of `chain` in this layer's place, for one image."""
        return sum(chain.macs(shape) for shape in self.maps)
