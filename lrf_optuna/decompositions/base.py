"""What a decomposition is: the protocols and their laws."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels


class ChainFamily(Protocol):
    """Which chain stands for a layer. A decomposition reads no Keras and keeps no state.

    It never sees groups: a grouped layer is decomposed group by group, with the same ranks.

    Its laws are those of `decompositions.laws`. A kernel that a chain composed is recovered.
    """

    @property
    def name(self) -> str:
        """The name in plans and study files."""

    def applies(self, op: Conv) -> bool:
        """Whether this operation can be decomposed by this method."""

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        """The largest ranks whose chain has at most the share `keep` of the operation's weights."""

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        """The stages, from shapes alone."""


class DirectDecomposition(ChainFamily, Protocol):
    """A decomposition that is made anew for all ranks."""

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        """The stage kernels that approximate `kernel` (`op.kernel_shape`) in the Frobenius norm."""


@runtime_checkable
class PreparedDecomposition(ChainFamily, Protocol):
    """A decomposition whose ranks are all cut from one factorization, which is made once for a kernel."""

    def prepare(self, op: Conv, kernel: Array) -> Any:
        """The part of the factorization that all ranks share."""

    def truncate(self, op: Conv, prepared: Any, ranks: tuple[int, ...]) -> Kernels:
        """The stage kernels for these ranks."""


Decomposition = DirectDecomposition | PreparedDecomposition


def factorize(method: Decomposition, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
    """The stage kernels that approximate `kernel` (`op.kernel_shape`) in the Frobenius norm."""
    if isinstance(method, PreparedDecomposition):
        return method.truncate(op, method.prepare(op, kernel), ranks)
    return method.factorize(op, kernel, ranks)
