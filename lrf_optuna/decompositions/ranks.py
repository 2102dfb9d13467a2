"""The largest rank that a budget allows, for one-parameter families of chains."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable


def largest(params: Callable[[int], int], most: int, budget: float) -> int:
    """The largest `t` in 1..most with `params(t) <= budget`, or 1; `params` must not fall with `t`."""
    return max(1, bisect_right(range(1, most + 1), budget, key=params))


def fraction(t: int, most: int, size: int) -> int:
    """The `t / most` part of `size`, rounded, at least 1."""
    return max(1, (2 * t * size + most) // (2 * most))
