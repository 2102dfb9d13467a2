"""Truncated singular value decompositions of the kernel as a matrix: `svd`, `channel_svd`, `spatial_svd`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, along, pointwise, spatial
from lrf_optuna.chains.linalg import Singular, singular
from lrf_optuna.decompositions.ranks import largest


@dataclass(frozen=True, slots=True)
class ChannelSVD:
    """Channel SVD: the whole window into r channels, then 1 x 1 (Zhang et al. 2015)."""

    name: str = "channel_svd"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        return (largest(lambda r: self.chain(op, (r,)).params, full_rank(op), keep * op.params),)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        return Chain((spatial(op, op.cin, r), pointwise(op, r, op.cout)))

    def prepare(self, op: Conv, kernel: Array) -> Singular:
        return singular(kernel.reshape(-1, op.cout))

    def truncate(self, op: Conv, prepared: Singular, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        first, last = prepared.truncated(ranks[0])
        return first.reshape(*op.window, op.cin, -1), last.reshape(*(1,) * len(op.window), -1, op.cout)

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return self.truncate(op, self.prepare(op, kernel), ranks)


@dataclass(frozen=True, slots=True)
class SVD(ChannelSVD):
    """SVD of a Dense or 1 x 1 kernel: two pointwise stages; a stride is taken by the first, where it is cheapest."""

    name: str = "svd"

    def applies(self, op: Conv) -> bool:
        return op.pointwise


@dataclass(frozen=True, slots=True)
class SpatialSVD:
    """Spatial SVD: the window's first axis into r channels, then the others into cout (Jaderberg et al. 2014)."""

    name: str = "spatial_svd"

    def applies(self, op: Conv) -> bool:
        return len(op.window) > 1 and op.window[0] > 1 and max(op.window[1:]) > 1

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        first = op.window[0] * op.cin
        most = min(first, op.params // first)
        return (largest(lambda r: self.chain(op, (r,)).params, most, keep * op.params),)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        (r,) = ranks
        window, strides, dilation = ((1, *sizes[1:]) for sizes in (op.window, op.strides, op.dilation))
        others = replace(op, window=window, strides=strides, dilation=dilation, cin=r)
        return Chain((along(op, 0, op.cin, r), others))

    def prepare(self, op: Conv, kernel: Array) -> Singular:
        return singular(np.moveaxis(kernel, -2, 1).reshape(op.window[0] * op.cin, -1))

    def truncate(self, op: Conv, prepared: Singular, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        first, last = prepared.truncated(ranks[0])
        ones = (1,) * (len(op.window) - 1)
        others = np.moveaxis(last.reshape(-1, *op.window[1:], op.cout), 0, -2)[None]
        return first.reshape(op.window[0], *ones, op.cin, -1), np.ascontiguousarray(others)

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        return self.truncate(op, self.prepare(op, kernel), ranks)


def full_rank(op: Conv) -> int:
    """The rank of a generic kernel as a (window x cin) by cout matrix."""
    return min(op.params // op.cout, op.cout)
