"""What a decomposition is: the protocol and its laws."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels


class Decomposition(Protocol):
    """Which chain stands for a layer, and with which stage kernels. It reads no Keras and keeps no state.

    It never sees groups: a grouped layer is decomposed group by group, with the same ranks.

    Laws, tested over the whole table:
    the chain of `ranks(op, keep)` has at most `keep * op.params` weights, or every rank is 1; its weights grow with
    `keep`; its stages join from `op.cin` to `op.cout`, its strides multiply to `op.strides`, along each axis at most
    one stage has a window; `factorize` returns one kernel a stage, of that stage's `kernel_shape` and the input's
    dtype; a kernel that a chain composed is recovered; the error does not rise with the ranks; equal input gives
    equal output; arguments are left as they are.
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

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        """The stage kernels that approximate `kernel` (`op.kernel_shape`) in the Frobenius norm."""


@runtime_checkable
class PreparedDecomposition(Decomposition, Protocol):
    """A decomposition whose ranks are all cut from one factorization, which is made once for a kernel.

    One law more: `truncate` of what `prepare` returns equals `factorize`.
    """

    def prepare(self, op: Conv, kernel: Array) -> Any:
        """The part of the factorization that all ranks share."""

    def truncate(self, op: Conv, prepared: Any, ranks: tuple[int, ...]) -> Kernels:
        """The stage kernels for these ranks."""
