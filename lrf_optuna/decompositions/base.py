"""What a decomposition is (its laws) and the table of those there are.

A new one is a file here and a name in `DECOMPOSITIONS`; the laws are then tested on it. A user's own joins by
`register`, or as an entry point of its package: then the laws are checked when it does.
"""

from __future__ import annotations

from typing import Protocol

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv


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
        """The word that plans and study files use."""

    def applies(self, op: Conv) -> bool:
        """Whether this operation can be decomposed so."""

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        """The largest ranks whose chain has at most the share `keep` of the operation's weights."""

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        """The stages, from shapes alone."""

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        """The stage kernels that approximate `kernel` (`op.kernel_shape`) in the Frobenius norm."""
