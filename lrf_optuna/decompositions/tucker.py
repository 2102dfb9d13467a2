"""Tucker-2: only the channel modes are compressed, the window stays (Kim et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, pointwise, spatial
from lrf_optuna.decompositions.ranks import fractions, largest_ranks

HOOI_SWEEPS = 20
"""Sweeps of the higher-order orthogonal iteration (HOOI) at most."""
HOOI_TOLERANCE = 1e-5
"""Increase of the explained share of the squared norm in a sweep below which HOOI ends."""
ChannelVectors = tuple[Array, Array, Array]
"""The kernel as `(window, cin, cout)`, and all singular vectors of its two channel modes."""


@final
@dataclass(frozen=True, slots=True)
class Tucker2:
    """Tucker-2: 1 x 1 to r1 channels, the window from r1 to r2, 1 x 1 to cout."""

    name: str = "tucker2"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        full = op.cin, op.cout
        return largest_ranks(partial(self.chain, op), partial(fractions, full), max(full), keep * op.params)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        r1, r2 = ranks
        return Chain((pointwise(op, op.cin, r1), spatial(op, r1, r2), pointwise(op, r2, op.cout)))

    def prepare(self, op: Conv, kernel: Array) -> ChannelVectors:
        tensor = kernel.reshape(-1, op.cin, op.cout)
        return tensor, leading_vectors(np.swapaxes(tensor, 1, 2)), leading_vectors(tensor)

    def truncate(self, op: Conv, prepared: ChannelVectors, ranks: tuple[int, ...]) -> Kernels:
        tensor, inside, outside = prepared
        inside, outside = orthogonal_iteration(tensor, inside[:, : ranks[0]], outside[:, : ranks[1]])
        core = inside.T @ tensor @ outside
        return self.chain(op, ranks).shaped((inside.copy(), core, outside.T.copy()))


def leading_vectors(tensor: Array) -> Array:
    """All singular vectors of the last mode of a `(window, a, b)` tensor, the first ones first."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    return np.linalg.eigh(rows.T @ rows)[1][:, ::-1]


def orthogonal_iteration(tensor: Array, inside: Array, outside: Array) -> tuple[Array, Array]:
    """Higher-order orthogonal iteration (De Lathauwer et al. 2000) on both channel modes, from the HOSVD's bases."""
    size, before = float(np.vdot(tensor, tensor)) or 1.0, 0.0
    for _ in range(HOOI_SWEEPS):
        inside = leading_vectors(np.swapaxes(tensor @ outside, 1, 2))[:, : inside.shape[1]]
        projected = inside.T @ tensor
        outside = leading_vectors(projected)[:, : outside.shape[1]]
        explained = float(np.sum(np.square(projected @ outside))) / size
        if explained - before < HOOI_TOLERANCE:
            break
        before = explained
    return inside, outside
