"""Tensor-train matrices of a Dense kernel, (i1 i2 ..) x (o1 o2 ..): `kronecker` of two cores, `tt_matrix` of three."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, contraction
from lrf_optuna.chains.linalg import singular_vectors
from lrf_optuna.decompositions.ranks import bond_ranks, fractions, largest_ranks


@final
@dataclass(frozen=True, slots=True)
class TTMatrix:
    """TT-matrix (Novikov et al. 2015), of two cores a sum of Kronecker products: inputs to outputs by factors."""

    name: str = "tt_matrix"
    cores: int = 3

    def applies(self, op: Conv) -> bool:
        return op.window == () and all(
            size > 1 for size in (*split_size(op.cin, self.cores), *split_size(op.cout, self.cores))
        )

    def ranks(self, op: Conv, keep: float) -> tuple[int, ...]:
        full = bond_ranks([into * out for into, out in self.modes(op)])
        family = partial(fractions, full)
        fewer_macs = bisect_right(range(1, max(full) + 1), op.params, key=lambda t: self.chain(op, family(t)).macs(()))
        return largest_ranks(partial(self.chain, op), family, max(1, fewer_macs), keep * op.params)

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        modes, bond = self.modes(op), (1, *ranks, 1)
        stages, trail = [], op.cin
        for i, (into, out) in enumerate(modes):
            trail //= into
            stages.append(contraction(prod(o for _, o in modes[:i]), bond[i] * into, out * bond[i + 1], trail))
        return Chain(tuple(stages))

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        modes = self.modes(op)
        inputs, outputs = zip(*modes, strict=True)
        pairs = [axis for i in range(self.cores) for axis in (i, self.cores + i)]
        rest = kernel.reshape(*inputs, *outputs).transpose(pairs)  # (i1, o1, i2, o2, ..)
        cores, bond = [], 1
        for (into, out), rank in zip(modes, ranks, strict=False):
            core, rest = singular_vectors(rest.reshape(bond * into * out, -1), rank).truncated(rank, left=0)
            cores.append(core)
            bond = rank
        return self.chain(op, ranks).shaped((*cores, np.ascontiguousarray(rest)))

    def modes(self, op: Conv) -> list[tuple[int, int]]:
        """(inputs, outputs) of each core: inputs from the largest, outputs from the smallest, for fewest MACs."""
        return list(zip(split_size(op.cin, self.cores)[::-1], split_size(op.cout, self.cores), strict=True))


def split_size(size: int, parts: int) -> list[int]:
    """`size` as a product of `parts` numbers as equal as can be, from the smallest."""
    if parts == 1:
        return [size]
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    first = min(divisors, key=lambda d: abs(np.log(d) - np.log(size) / parts))
    return sorted([first, *split_size(size // first, parts - 1)])
