"""Tucker-2: only the channel modes are compressed, the window stays (Kim et al. 2016)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from lrf_optuna.decompositions.budget import fraction, largest
from lrf_optuna.stages import Array, Chain, Conv, pointwise, spatial

HOOI_SWEEPS = 20
HOOI_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Tucker2:
    """Tucker-2: 1 x 1 to r1 channels, the window from r1 to r2, 1 x 1 to cout."""

    name: str = "tucker2"

    def applies(self, op: Conv) -> bool:
        return not op.pointwise

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        most = max(op.cin, op.cout)

        def at(t: int) -> tuple[int, int]:
            return fraction(t, most, op.cin), fraction(t, most, op.cout)

        return at(largest(lambda t: self.chain(op, at(t)).params, most, keep * op.params))

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        r1, r2 = ranks
        return Chain((pointwise(op, op.cin, r1), spatial(op, r1, r2), pointwise(op, r2, op.cout)))

    def factorise(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
        from tensorly.decomposition import partial_tucker

        channels = len(op.window), len(op.window) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (core, (inside, outside)), _ = partial_tucker(
                kernel, rank=list(ranks), modes=list(channels), n_iter_max=HOOI_SWEEPS, init="svd", tol=HOOI_TOLERANCE
            )
        ones = (1,) * len(op.window)
        return inside.reshape(*ones, op.cin, ranks[0]), np.asarray(core), outside.T.reshape(*ones, ranks[1], op.cout)
