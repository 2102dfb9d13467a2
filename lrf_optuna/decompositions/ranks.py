"""The largest ranks that a budget allows, for one-parameter families of chains; and ranks in multiples of a number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import prod

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Conv
from lrf_optuna.decompositions.base import ChainFamily

Ranks = tuple[int, ...]
HALVINGS = 20
"""Halvings of a share, to a millionth of it, which is less than the step of a rank."""


def largest_ranks(chain: Callable[[Ranks], Chain], family: Callable[[int], Ranks], most: int, budget: float) -> Ranks:
    """The ranks `family(t)` of the largest `t` in 1..most whose chain has at most `budget` weights, or `family(1)`.

    The weights must not fall with `t`.
    """
    fitting = bisect_right(range(1, most + 1), budget, key=lambda t: chain(family(t)).params)
    return family(max(1, fitting))


def one_rank(t: int) -> Ranks:
    """The family of chains with a single rank."""
    return (t,)


def fractions(full: Sequence[int], t: int) -> Ranks:
    """The `t / max(full)` part of every size, rounded, at least 1."""
    most = max(full)
    return tuple(max(1, (2 * t * size + most) // (2 * most)) for size in full)


def bond_ranks(sizes: Sequence[int]) -> list[int]:
    """The full rank of each bond of a tensor train over modes of these sizes: the smaller side of the cut."""
    return [min(prod(sizes[:cut]), prod(sizes[cut:])) for cut in range(1, len(sizes))]


def ranks_in_multiples(method: ChainFamily, op: Conv, keep: float, multiple: int) -> Ranks:
    """The ranks of a method within the share `keep`, each a multiple of a number, so that inner channels are.

    Where a rank cannot be as large as the number, it is a smaller one. The chain has at most the share `keep` of the
    weights, or the smallest such ranks.
    """
    largest = method.ranks(op, float(op.params))  # a budget of all weights, squared, limits nothing

    def at(share: float) -> Ranks:
        ranks = rounded(method.ranks(op, share), largest, multiple)
        return fed(method.chain(op, ranks), ranks, multiple)

    def fits(share: float) -> bool:
        return method.chain(op, at(share)).params <= keep * op.params

    if fits(keep):
        return at(keep)
    low, high = 0.0, keep  # where one rank was rounded up, the others have to be smaller
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)


def rounded(ranks: Ranks, largest: Ranks, multiple: int) -> Ranks:
    """Each rank as the next lower multiple, at least one.

    A rank that can only be smaller than that stays, or is as large as it can be where it has neighbors to feed.
    """
    found = []
    for rank, most in zip(ranks, largest, strict=True):
        small = rank if len(ranks) == 1 else most
        found.append(small if most < multiple else max(multiple, lower_multiple(rank, multiple)))
    return tuple(found)


def fed(chain: Chain, ranks: Ranks, multiple: int) -> Ranks:
    """The ranks, none larger than the neighboring stages can feed, which rounding may have made it.

    Chains with another number of ranks than inner bonds, and those of contractions, stay as they are.
    """
    if len(ranks) != len(chain.stages) - 1 or chain.tensorized:
        return ranks
    windows = [prod(stage.window) for stage in chain.stages]
    bonds = [chain.stages[0].cin, *ranks, chain.stages[-1].cout]
    for i in range(1, len(bonds) - 1):
        bonds[i] = min(bonds[i], lower_multiple(bonds[i - 1] * windows[i - 1], multiple))
    for i in range(len(bonds) - 2, 0, -1):
        bonds[i] = min(bonds[i], lower_multiple(bonds[i + 1] * windows[i], multiple))
    return tuple(bonds[1:-1])


def lower_multiple(size: int, multiple: int) -> int:
    """The largest multiple up to a size, or the size where that is smaller than the number itself."""
    return size - size % multiple if size >= multiple else size
