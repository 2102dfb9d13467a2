"""One point is taken off the front for a reason, and where accuracies are measured, by the accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.points import CANDIDATES, candidate

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import pareto_front, size
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.selection.choose import (
    BROKEN,
    BUILDS,
    DOZEN,
    FINALISTS,
    AccuracyDrops,
    along,
    bisect_drop,
    choose_point,
    distance,
    tolerable,
)

WHOLE = Plan(())


class Judge:
    """A table of accuracies: `shares`, else one less the loss; the original's is `whole`. Knows what it was asked."""

    def __init__(self, points: Sequence[Candidate], shares: Sequence[float] = (), whole: float = 0.99) -> None:
        losses = [whole - point.costs["loss"] for point in points]
        self.table = {WHOLE: whole} | {p.plan: s for p, s in zip(points, shares or losses, strict=True)}
        self.calls: list[Plan] = []

    def __call__(self, plan: Plan) -> float:
        self.calls.append(plan)
        return self.table[plan]

    def lost(self, point: Candidate) -> float:
        """Points of accuracy that a candidate loses."""
        return AccuracyDrops(self.table.__getitem__)(point)

    @property
    def asked(self) -> set[Plan]:
        return set(self.calls)


POINTS = [candidate(0, 0.0, 1.0), candidate(1, 0.01, 0.6), candidate(2, 0.1, 0.4), candidate(3, 0.6, 0.1)]


@pytest.mark.parametrize(("most", "trial"), [(1.0, 0), (0.7, 1), (0.6, 1), (0.5, 2), (0.1, 3)])
def test_within_targets_the_least_loss_is_chosen(most: float, trial: int) -> None:
    chosen, why = choose_point(POINTS, targets={"params": most})
    assert chosen.trial == trial
    assert f"params <= {most:g}" in why


def test_targets_that_no_point_meets_are_answered_with_the_smallest() -> None:
    with pytest.raises(LrfError, match=r"no point of the front meets params <= 0.05; .*params 0.100"):
        choose_point(POINTS, targets={"params": 0.05})
    with pytest.raises(LrfError, match="no finished trial"):
        choose_point([])
    with pytest.raises(LrfError, match="no finished trial"):
        choose_point([], targets={"params": 0.5})


@pytest.mark.parametrize(("most", "trial"), [(0.0, 0), (0.5, 0), (1.0, 1), (9.9, 1), (10.0, 2), (60, 3)])
def test_within_a_drop_the_smallest_is_chosen(most: float, trial: int) -> None:
    chosen, why = choose_point(POINTS, max_drop=most, accuracy=Judge(POINTS))
    assert chosen.trial == trial
    assert f"at most {most:g} points" in why


@given(CANDIDATES, st.floats(0, 100))
def test_within_a_drop_that_follows_the_loss_nothing_smaller_is_missed(found: list[Candidate], most: float) -> None:
    points = pareto_front(found)
    judge = Judge(points)
    fit = [p for p in points if judge.lost(p) <= most]
    if not fit:
        with pytest.raises(LrfError, match=r"no point of the front loses at most .*; the least is "):
            choose_point(points, max_drop=most, accuracy=judge)
        return
    chosen, _ = choose_point(points, max_drop=most, accuracy=judge)
    assert judge.lost(chosen) <= most
    assert size(chosen) == pytest.approx(min(map(size, fit)))


def test_a_drop_without_an_accuracy_is_refused_with_what_to_give() -> None:
    with pytest.raises(LrfError, match=r"max_drop=2 .* of points of accuracy: give `accuracy`"):
        choose_point(POINTS, max_drop=2)
    with pytest.raises(LrfError, match="give `accuracy`"):
        choose_point(POINTS, targets={"params": 0.5}, max_drop=0.0)


def test_a_drop_is_asked_for_within_the_targets_only() -> None:
    judge = Judge(POINTS)
    chosen, _ = choose_point(POINTS, targets={"params": 0.5}, max_drop=20, accuracy=judge)
    assert chosen.trial == 2
    assert judge.asked <= {WHOLE, *(point.plan for point in POINTS[2:])}
    with pytest.raises(LrfError, match="the least is 10"):
        choose_point(POINTS, targets={"params": 0.5}, max_drop=5, accuracy=judge)


def test_the_smallest_within_a_drop_is_taken_where_the_accuracy_is_not_in_the_order_of_the_loss() -> None:
    points = [candidate(i, 0.01 * i, 1 - 0.1 * i) for i in range(8)]
    judge = Judge(points, [0.99, 0.98, 0.90, 0.97, 0.96, 0.5, 0.4, 0.3])
    chosen, why = choose_point(points, max_drop=4, accuracy=judge)
    assert chosen.trial == 4
    assert "(3.00)" in why


def test_without_a_wish_the_knee_is_chosen() -> None:
    chosen, why = choose_point(POINTS)
    wanted = min(POINTS, key=lambda p: 2 * p.costs["loss"] + p.costs["params"] ** 2)
    assert chosen == wanted == POINTS[2]
    assert "knee" in why


def test_a_choice_needs_no_loss_among_the_objectives() -> None:
    points = [Candidate(i, Plan(()), {"params": p, "macs": m}) for i, (p, m) in enumerate([(0.2, 0.6), (0.5, 0.3)])]
    assert choose_point(points)[0].trial in (0, 1)
    assert choose_point(points, targets={"macs": 0.5})[0].trial == 1


LINE = [candidate(i, 0.002 * i, 0.9 - 0.02 * i) for i in range(40)]
"""A front on which every step costs as much loss."""


def test_within_targets_the_most_accurate_of_the_dozen_with_the_least_loss_is_chosen() -> None:
    shares = [0.9] * 40
    shares[25], shares[30], shares[10], shares[39] = 0.95, 0.95, 0.98, 0.99  # the first outside, the last not measured
    judge = Judge(LINE, shares)
    chosen, why = choose_point(LINE, targets={"params": 0.5}, accuracy=judge)
    within = [point for point in LINE if point.costs["params"] <= 0.5]
    assert chosen.trial == 25, "of equals the one with less loss"
    assert judge.asked == {WHOLE, *(point.plan for point in within[:DOZEN])}
    assert why == (
        "the most accurate of 12 points within params <= 0.5: 4.00 points of validation accuracy lost before tuning"
    )


@pytest.mark.parametrize("count", [1, 3, 25])
def test_as_many_points_as_are_asked_for_are_measured(count: int) -> None:
    judge = Judge(LINE)
    choose_point(LINE, targets={"params": 0.5}, accuracy=judge, considered=count)
    within = [point for point in LINE if point.costs["params"] <= 0.5]
    assert judge.asked == {WHOLE, *(point.plan for point in within[:count])}
    assert min(count, len(within)) + 1 == len(judge.asked)
    knee = Judge(LINE)
    choose_point(LINE, accuracy=knee, considered=count)
    assert knee.asked == {WHOLE, *(point.plan for point in along(LINE, count))}


def test_where_all_lose_much_the_best_of_others_at_a_glance_are_measured_too() -> None:
    shares = [0.9 - 0.001 * i for i in range(40)]
    glance = Judge(LINE, [share + 0.05 * (i in (27, 31, 36)) for i, share in enumerate(shares)])
    judge = Judge(LINE, [share + 0.06 * (i in (31, 38)) for i, share in enumerate(shares)])
    inside = [point.trial for point in LINE if point.costs["params"] <= 0.5]
    chosen, why = choose_point(LINE, targets={"params": 0.5}, accuracy=judge, glance=glance, considered=5, glanced=18)
    assert chosen.trial == 31
    assert glance.asked == {WHOLE, *(LINE[i].plan for i in inside[5:18])}
    best = {27, 31, 36, *inside[5:7]}
    assert judge.asked == {WHOLE, *(LINE[i].plan for i in {*inside[:5], *best})}
    assert why.startswith("the most accurate of 10 points within params <= 0.5")


def test_where_some_loses_little_or_there_is_no_other_nothing_is_glanced_at() -> None:
    glance, within = Judge(LINE), {"params": 0.5}
    lost = LINE[20].costs["loss"]
    good = Judge(LINE, whole=0.99)
    assert 100 * lost < BROKEN
    choose_point(LINE, targets=within, accuracy=good, glance=glance, considered=5)
    broken = Judge(LINE, [0.5] * 40)
    choose_point(LINE, targets=within, accuracy=broken, glance=glance, considered=30, glanced=20)
    choose_point(LINE, accuracy=broken, glance=glance, considered=5)
    assert not glance.calls


@given(CANDIDATES, st.randoms(use_true_random=False), st.sampled_from([{}, {"params": 0.5}, {"macs": 0.3}]))
def test_at_most_a_dozen_and_the_original_are_measured(
    found: list[Candidate], dice: object, targets: dict[str, float]
) -> None:
    points = pareto_front(found)
    judge = Judge(points, [dice.randint(0, 50) / 50 for _ in points])  # type: ignore[attr-defined]
    within = [p for p in points if all(p.costs[cost] <= most for cost, most in targets.items())]
    if not within:
        with pytest.raises(LrfError, match="no point of the front meets"):
            choose_point(points, targets=targets, accuracy=judge)
        return
    chosen, _ = choose_point(points, targets=targets, accuracy=judge)
    assert len(judge.calls) == len(judge.asked) <= DOZEN + 1
    assert chosen in within
    if targets:
        assert judge(chosen.plan) == max(judge(plan) for plan in judge.asked - {WHOLE})


def test_the_knee_avoids_a_point_whose_accuracy_collapsed() -> None:
    by_loss, _ = choose_point(POINTS)
    shares = {0: 0.99, 1: 0.98, 2: 0.99, 3: 0.2}
    assert by_loss.trial == choose_point(POINTS, accuracy=Judge(POINTS, [*shares.values()]))[0].trial == 2
    chosen, why = choose_point(POINTS, accuracy=Judge(POINTS, [*(shares | {2: 0.3}).values()]))
    assert chosen.trial == 1, "the loss alone picks a network that has collapsed"
    assert why.startswith("the knee of 4 points along the front")
    assert "1.00 points of validation accuracy lost" in why


def test_a_network_that_is_better_than_the_original_is_no_nearer_than_one_as_good() -> None:
    points = [candidate(0, 0.01, 0.5), candidate(1, 0.02, 0.49)]
    assert choose_point(points, accuracy=Judge(points, [1.0, 0.99], whole=0.99))[0].trial == 1


@given(CANDIDATES, st.sampled_from([1, DOZEN, 40]))
def test_points_along_the_front_are_the_nearest_of_their_stretches_of_size(found: list[Candidate], count: int) -> None:
    points = pareto_front(found)
    kept = along(points, count)
    assert 1 <= len(kept) <= count
    assert min(map(distance, kept)) == min(map(distance, points))
    sizes = [size(point) for point in kept]
    assert sizes == sorted(set(sizes))
    edges = np.linspace(min(map(size, points)), max(map(size, points)), count + 1)[1:-1]
    stretches = [int(np.searchsorted(edges, size(point))) for point in points]
    assert len(kept) == len(set(stretches))
    for point, stretch in zip(points, stretches, strict=True):
        own = next(p for p in kept if np.searchsorted(edges, size(p)) == stretch)
        assert distance(own) <= distance(point)


@pytest.mark.parametrize("lost", range(1, 11))
def test_a_drop_of_just_what_may_be_lost_is_allowed(lost: int) -> None:
    point = candidate(0, 0.1, 0.5)
    judge = Judge([point], [(98 - lost) / 100], whole=98 / 100)
    assert choose_point([point], max_drop=lost, accuracy=judge)[0] == point


@given(st.lists(st.floats(0, 50), max_size=30), st.floats(0, 50))
def test_halving_counts_the_drops_within_and_measures_few(drops: list[float], most: float) -> None:
    drops = sorted(drops)
    points = [candidate(i, drop / 100, 0.5) for i, drop in enumerate(drops)]
    border, measured = bisect_drop(points, most, lambda point: drops[point.trial])
    assert border == sum(drop <= most for drop in drops)
    assert len(measured) <= len(drops).bit_length()


@given(CANDIDATES, st.floats(0, 100))
def test_the_tolerable_loss_is_half_way_from_the_last_good_one_to_the_first_bad_one(
    found: list[Candidate], most: float
) -> None:
    judge = Judge(found)
    good = [p.costs["loss"] for p in found if judge.lost(p) <= most]
    bad = [p.costs["loss"] for p in found if judge.lost(p) > most]
    low, high = max(good, default=0.0), min(bad, default=1.0)
    within = tolerable(found, most, judge)
    assert low < within < high
    assert isclose(within, (low + high) / 2)


def test_without_points_any_loss_up_to_half_is_tolerable_and_nothing_but_the_original_is_measured() -> None:
    judge = Judge([])
    assert tolerable([], 1.0, judge) == 0.5
    assert judge.calls == [WHOLE]


def test_of_the_best_few_as_scored_the_most_accurate_as_built_is_chosen() -> None:
    shares = [0.9] * 40
    best = (21, 22, 24, 25, 28, 29)
    for rank, i in enumerate(best):
        shares[i] = 0.95 + 0.001 * rank
    shares[30] = 0.94
    judge = Judge(LINE, shares)
    built = Judge(LINE, [share + 0.005 * (i == 22) + 0.03 * (i in (23, 25)) for i, share in enumerate(shares)])
    chosen, why = choose_point(LINE, targets={"params": 0.5}, accuracy=judge, built=built)
    assert chosen.trial == 25
    assert built.asked == {LINE[i].plan for i in best}
    assert len(built.calls) == FINALISTS == len(best)
    assert "0.70 points" in why


def test_the_knee_is_that_of_the_networks_as_built() -> None:
    points = [candidate(0, 0.01, 0.6), candidate(1, 0.1, 0.4), candidate(2, 0.5, 0.1)]
    judge = Judge(points, [0.98, 0.89, 0.5])
    assert choose_point(points, accuracy=judge)[0].trial == 1
    chosen, why = choose_point(points, accuracy=judge, built=Judge(points, [0.98, 0.93, 0.97]))
    assert chosen.trial == 2
    assert "2.00 points" in why


def test_within_a_drop_a_build_may_bring_a_smaller_point_and_few_are_built() -> None:
    points = [candidate(i, 0.01 * (i + 1), 0.9 - 0.02 * i) for i in range(40)]
    judge = Judge(points, [0.99 - 0.01 * i for i in range(40)])
    built = Judge(points, [0.99 - 0.005 * i for i in range(40)])
    alone, _ = choose_point(points, max_drop=4, accuracy=judge)
    assert alone.trial == 4
    chosen, why = choose_point(points, max_drop=4, accuracy=judge, built=built)
    assert 4 < chosen.trial <= 8
    assert built.lost(chosen) <= 4
    assert f"({built.lost(chosen):.2f})" in why
    assert len(built.asked) <= 2 * BUILDS


@given(CANDIDATES, st.floats(0, 100), st.randoms(use_true_random=False))
def test_within_a_drop_what_is_chosen_as_built_is_within_and_no_larger_than_as_scored(
    found: list[Candidate], most: float, dice: object
) -> None:
    points = pareto_front(found)
    judge = Judge(points)
    gain = [dice.randint(0, 20) / 100 for _ in points]  # type: ignore[attr-defined]
    built = Judge(points, [0.99 - p.costs["loss"] + more for p, more in zip(points, gain, strict=True)])
    if not any(judge.lost(p) <= most for p in points):
        return
    alone, _ = choose_point(points, max_drop=most, accuracy=judge)
    chosen, _ = choose_point(points, max_drop=most, accuracy=judge, built=built)
    assert built.lost(chosen) <= most
    assert size(chosen) <= size(alone)
    assert len(built.asked) <= 2 * BUILDS + 1


def test_where_only_a_build_is_within_the_drop_it_is_found() -> None:
    points = [candidate(0, 0.1, 0.6), candidate(1, 0.2, 0.4)]
    judge, built = Judge(points, [0.9, 0.8]), Judge(points, [0.98, 0.8])
    with pytest.raises(LrfError, match="the least is 9"):
        choose_point(points, max_drop=2, accuracy=judge)
    assert choose_point(points, max_drop=2, accuracy=judge, built=built)[0].trial == 0
    assert tolerable(points, 2, judge, built) > tolerable(points, 2, judge)
