"""Tensor train (TT) of a convolution kernel in the order cin, window axes, cout (Oseledets 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, along, entering, pointwise, window_axes
from lrf_optuna.chains.linalg import SingularVectors, singular_vectors
from lrf_optuna.decompositions.ranks import bond_ranks, fractions, largest_ranks


@final
@dataclass(frozen=True, slots=True)
class TT:
    """Tensor train: 1 x 1, a full stage along each axis of the window, 1 x 1; every bond at one fraction."""

    name: str = "tt"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        # inside the window a bond is no larger than the channels
        full = [min(rank, max(op.cin, op.cout)) for rank in bond_ranks(tensor_shape(op))]
        return largest_ranks(
            partial(self.chain, op), lambda t: clipped(op, fractions(full, t)), max(full), keep * op.params
        )

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        middle = [along(op, axis, a, b) for axis, (a, b) in zip(window_axes(op), pairwise(ranks), strict=True)]
        return Chain((entering(op, ranks[0]), *middle, pointwise(op, ranks[-1], op.cout)))

    def prepare(self, op: Conv, kernel: Array) -> SingularVectors:
        return singular_vectors(np.moveaxis(kernel, -2, 0).reshape(op.cin, -1))

    def truncate(self, op: Conv, prepared: SingularVectors, ranks: tuple[int, ...]) -> Kernels:
        first, rest = prepared.truncated(ranks[0], left=0)
        cores = [first]
        for axis, bond, rank in zip(window_axes(op), ranks, ranks[1:], strict=False):
            core, rest = singular_vectors(rest.reshape(bond * op.window[axis], -1), rank).truncated(rank, left=0)
            cores.append(np.moveaxis(core.reshape(bond, -1, rank), 1, 0))
        return self.chain(op, ranks).shaped((*cores, rest))


def tensor_shape(op: Conv) -> tuple[int, ...]:
    """The sizes of the tensor: cin, the window's axes, cout."""
    return (op.cin, *(op.window[axis] for axis in window_axes(op)), op.cout)


def clipped(op: Conv, ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks, none larger than its neighbor times the mode between them can feed."""
    sizes, ranks = tensor_shape(op), list(ranks)
    for i in range(1, len(ranks)):
        ranks[i] = min(ranks[i], ranks[i - 1] * sizes[i])
    for i in reversed(range(len(ranks) - 1)):
        ranks[i] = min(ranks[i], ranks[i + 1] * sizes[i + 1])
    return tuple(ranks)
