"""Ranks in multiples of a number, and choices within the limits of a site."""

from __future__ import annotations

import pytest

from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import ChoiceLimits, Site
from lrf_optuna.decompositions.registry import (
    DECOMPOSITIONS,
    applicable_methods,
    chain_of,
    choice_of,
    choice_within_limits,
    methods_within_limits,
)
from lrf_optuna.plans.plan import INTACT

OPS = {
    "dense": Conv((), 48, 40, (), ()),
    "1x1": Conv((1, 1), 24, 32, (1, 1), (1, 1)),
    "3x3": Conv((3, 3), 20, 30, (1, 1), (1, 1), "same"),
    "3x3 of three channels": Conv((3, 3), 3, 32, (1, 1), (1, 1), "same"),
    "3x3 in two groups": Conv((3, 3), 32, 32, (1, 1), (1, 1), "same", groups=2),
    "1-D": Conv((5,), 16, 24, (2,), (1,), "same"),
}
KEEPS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8)
CASES = [(name, case) for case, op in OPS.items() for name in applicable_methods(op) if name != "intact"]


@pytest.mark.parametrize("multiple", [4, 8])
@pytest.mark.parametrize(("name", "case"), CASES)
def test_ranks_are_multiples_where_they_can_be_and_never_above_their_dimension(
    name: str, case: str, multiple: int
) -> None:
    op = OPS[case]
    largest = DECOMPOSITIONS[name].ranks(op.part, float(op.params))
    smallest = choice_of(op, name, 0.0, multiple)
    sizes = []
    for keep in KEEPS:
        choice = choice_of(op, name, keep, multiple)
        sizes.append(chain_of(op, choice).params)
        if choice == INTACT:
            continue
        for rank, most in zip(choice.ranks, largest, strict=True):
            assert rank <= most
            assert rank % multiple == 0 or most < multiple
        assert sizes[-1] <= keep * op.params or choice == smallest
    assert sizes == sorted(sizes) or INTACT in {choice_of(op, name, keep, multiple) for keep in KEEPS}


def test_a_rank_that_cannot_be_as_large_as_the_multiple_stays() -> None:
    choice = choice_of(OPS["3x3 of three channels"], "tucker2", 0.5, 8)
    assert choice.ranks[0] <= 3
    assert choice.ranks[1] % 8 == 0


def test_a_multiple_with_which_no_chain_saves_anything_is_intact() -> None:
    assert choice_of(OPS["dense"], "svd", 0.5, 16).ranks == (16,)  # 16 (48 + 40) of 1920 weights
    assert choice_of(OPS["dense"], "svd", 0.5, 32) == INTACT


@pytest.mark.parametrize(("least", "most"), [(0.5, 1.0), (0.3, 0.6), (0.1, 0.2), (0.4, 0.4), (0.0, 0.3)])
@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_choice_keeps_between_the_least_and_the_largest_share(
    name: str, case: str, least: float, most: float
) -> None:
    site = Site("layer", OPS[case], (), ChoiceLimits(least=least, most=most))
    methods = methods_within_limits(site)
    assert ("intact" in methods) == (most == 1)
    for keep in (0.05, *KEEPS, 1.0):
        choice = choice_within_limits(site, name, keep)
        share = chain_of(site.op, choice).params / site.op.params
        if name in methods:
            assert least <= share <= most
        else:
            assert choice == INTACT or not least <= share <= most
