"""The layer as it is: an ordinary choice, so that the search can leave a layer alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels


@final
@dataclass(frozen=True, slots=True)
class Intact:
    """The one-stage chain of the layer itself."""

    name: str = "intact"

    def applies(self, op: Conv) -> bool:
        return True

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return ()

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        return Chain((op,))

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        return (kernel.copy(),)
