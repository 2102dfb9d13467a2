"""Tensor-train matrices of a Dense kernel, (i1 i2 ..) x (o1 o2 ..): `kronecker` of two cores, `tt_matrix` of three."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import final

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, contraction
from lrf_optuna.chains.linalg import singular_vectors
from lrf_optuna.decompositions.ranks import fraction, largest


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
        full = matrix_bonds(self.modes(op))
        most = max(full)

        def at(t: int) -> tuple[int, ...]:
            return tuple(fraction(t, most, size) for size in full)

        cheap = bisect_right(range(1, most + 1), op.params, key=lambda t: self.chain(op, at(t)).macs(()))
        return at(largest(lambda t: self.chain(op, at(t)).params, max(1, cheap), keep * op.params))

    def chain(self, op: Conv, ranks: tuple[int, ...]) -> Chain:
        modes, bond = self.modes(op), (1, *ranks, 1)
        stages, trail = [], op.cin
        for i, (into, out) in enumerate(modes):
            trail //= into
            stages.append(contraction(prod(o for _, o in modes[:i]), bond[i] * into, out * bond[i + 1], trail))
        return Chain(tuple(stages))

    def factorize(self, op: Conv, kernel: Array, ranks: tuple[int, ...]) -> Kernels:
        modes = self.modes(op)
        rest = paired(kernel, modes)
        kernels, bond = [], 1
        for (into, out), rank in zip(modes, ranks, strict=False):
            first, rest = singular_vectors(rest.reshape(bond * into * out, -1), rank).truncated(rank, left=0)
            kernels.append(first.reshape(bond * into, out * rank))
            bond = rank
        return *kernels, np.ascontiguousarray(rest.reshape(bond * modes[-1][0], modes[-1][1]))

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


def paired(kernel: Array, modes: Sequence[tuple[int, int]]) -> Array:
    """A kernel `(i1 i2 .., o1 o2 ..)` as the tensor `(i1, o1, i2, o2, ..)`."""
    inputs, outputs = zip(*modes, strict=True)
    order = [axis for i in range(len(modes)) for axis in (i, len(modes) + i)]
    return kernel.reshape(*inputs, *outputs).transpose(order)


def matrix_bonds(modes: Sequence[tuple[int, int]]) -> list[int]:
    """The largest rank of each bond: the smaller side of the cut."""
    sizes = [into * out for into, out in modes]
    return [min(prod(sizes[:cut]), prod(sizes[cut:])) for cut in range(1, len(sizes))]
