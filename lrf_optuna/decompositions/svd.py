"""Truncated singular value decompositions of the kernel as a matrix: `svd` and `channel_svd`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrf_optuna.decompositions.budget import largest
from lrf_optuna.stages import Array, Chain, Conv, pointwise, spatial


@dataclass(frozen=True, slots=True)
class ChannelSVD:
    """Channel SVD: the whole window into r channels, then 1 x 1 (Zhang et al. 2015)."""

    name: str = "channel_svd"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise and op.groups == 1

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (largest(lambda r: self.chain(op, (r,)).params, full_rank(op), keep * op.params),)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        return Chain((spatial(op, op.cin, r), pointwise(op, r, op.cout)))

    def factorise(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        (r,) = ranks
        left, values, right = np.linalg.svd(kernel.reshape(-1, op.cout), full_matrices=False)
        root = np.sqrt(values[:r])
        first, last = left[:, :r] * root, root[:, None] * right[:r]
        return first.reshape(*op.window, op.cin, r), last.reshape(*(1,) * len(op.window), r, op.cout)


@dataclass(frozen=True, slots=True)
class SVD(ChannelSVD):
    """SVD of a Dense or 1 x 1 kernel: two pointwise stages; a stride is taken by the first, where it is cheapest."""

    name: str = "svd"

    def applies(self, op: Conv) -> bool:
        return op.pointwise and op.groups == 1


def full_rank(op: Conv) -> int:
    """The rank of a generic kernel as a (window x cin) by cout matrix."""
    return min(op.params // op.cout, op.cout)
