"""The largest ranks that a budget allows, for one-parameter families of chains."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import prod

from lrf_optuna.chains.chain import Chain

Ranks = tuple[int, ...]


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
