"""A site: a layer of a network that can be factorized."""

from __future__ import annotations

from dataclasses import dataclass

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Conv


@dataclass(frozen=True, slots=True)
class Site:
    """A layer that can be factorized: `name` (path in the model), its operation, its input map, how often it runs."""

    name: str
    op: Conv
    maps: tuple[tuple[int, ...], ...]
    """The spatial shape of the input map of each call: several where the layer is shared."""

    def macs(self, chain: Chain) -> int:
        """Multiply-accumulates of `chain` in this layer's place, for one image."""
        return sum(chain.macs(shape) for shape in self.maps)
