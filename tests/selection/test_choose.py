"""One point is taken off the front for a reason, and where a metric is measured, by the metric."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.points import CANDIDATES, candidate, measurement_of

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import pareto_front, size
from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.selection.choose import (
    best_of_each_method,
    choose_point,
    count_within_drop,
    knee_distance,
    loss_within_drop,
    spread_by_size,
)
from lrf_optuna.selection.contest import BUILT, SCORED, SKETCHED, ChoiceSettings, Contest
from lrf_optuna.selection.forecast import Forecast
from lrf_optuna.selection.measurement import FOLDS, Measurement

WHOLE = Plan(())
IMAGES = 10_000
SHUFFLED = np.random.default_rng(0).permutation(IMAGES)
FEW = ChoiceSettings()


class Judge:
    """A table of accuracies by stage: the shares, else one less the loss; the original's is `whole`.

    The networks of the points get nested sets of random images right. `asked` has the plans that were
    measured at each stage.
    """

    name, compared_name = "accuracy", "validation accuracy"

    def __init__(
        self,
        points: Sequence[Candidate],
        shares: Sequence[float] = (),
        whole: float = 0.99,
        sketched: Sequence[float] = (),
        built: Sequence[float] = (),
    ) -> None:
        scored = shares or [max(0.0, whole - point.costs["loss"]) for point in points]
        stages = scored, sketched or built or scored, built or sketched or scored
        self.tables = [{WHOLE: whole} | {p.plan: s for p, s in zip(points, one, strict=True)} for one in stages]
        self.asked: list[set[Plan]] = [set(), set(), set()]

    def right(self, plan: Plan, stage: int) -> np.ndarray[Any, Any]:
        right: np.ndarray[Any, Any] = round(self.tables[stage][plan] * IMAGES) > SHUFFLED
        return right

    def measurement(self, plan: Plan, stage: int) -> Measurement:
        self.asked[stage] |= {plan} - {WHOLE}
        return measurement_of(self.right(plan, stage))

    def knows(self, plan: Plan, stage: int) -> bool:
        return plan in self.asked[stage]

    def closeness(self, plan: Plan, stage: int) -> float:
        return self.tables[stage][plan]

    def lost(self, point: Candidate, stage: int = BUILT) -> float:
        """Points of accuracy that a candidate loses."""
        return round(100 * (self.tables[stage][WHOLE] - self.tables[stage][point.plan]), 2)


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
    chosen, why = choose_point(POINTS, max_drop=most, contest=Contest(Judge(POINTS)))
    assert chosen.trial == trial
    assert f"at most {most:g} point" in why


@given(CANDIDATES, st.sampled_from([0.0, 5.0, 15.0, 25.0, 40.0, 95.0]))
def test_within_a_drop_that_follows_the_loss_nothing_smaller_is_missed(found: list[Candidate], most: float) -> None:
    points = pareto_front(found)
    judge = Judge(points)
    fit = [p for p in points if judge.lost(p) <= most]
    if not fit:
        with pytest.raises(LrfError, match=r"no point of the front loses at most .*; the least is "):
            choose_point(points, max_drop=most, contest=Contest(judge))
        return
    chosen, _ = choose_point(points, max_drop=most, contest=Contest(judge))
    assert judge.lost(chosen) <= most
    assert size(chosen) == pytest.approx(min(map(size, fit)))


def test_a_drop_without_a_metric_is_refused_with_what_to_give() -> None:
    with pytest.raises(LrfError, match=r"max_drop=2 .* of points of the metric: give `contest`"):
        choose_point(POINTS, max_drop=2)
    with pytest.raises(LrfError, match="give `contest`"):
        choose_point(POINTS, targets={"params": 0.5}, max_drop=0.0)


def test_a_drop_is_asked_for_within_the_targets_only() -> None:
    judge = Judge(POINTS)
    chosen, _ = choose_point(POINTS, targets={"params": 0.5}, max_drop=20, contest=Contest(judge))
    assert chosen.trial == 2
    assert set().union(*judge.asked) <= {point.plan for point in POINTS[2:]}
    with pytest.raises(LrfError, match="the least is 10"):
        choose_point(POINTS, targets={"params": 0.5}, max_drop=5, contest=Contest(judge))


def test_the_smallest_within_a_drop_is_taken_where_the_metric_is_not_in_the_order_of_the_loss() -> None:
    points = [candidate(i, 0.01 * i, 1 - 0.1 * i) for i in range(8)]
    judge = Judge(points, [0.99, 0.98, 0.90, 0.97, 0.96, 0.5, 0.4, 0.3])
    chosen, why = choose_point(points, max_drop=4, contest=Contest(judge))
    assert chosen.trial == 4
    assert why.endswith("validation accuracy: 3.00 before tuning")


def test_a_smaller_point_beyond_the_border_is_taken_where_it_was_measured_before() -> None:
    points = [candidate(i, 0.01 * i, 1 - 0.1 * i) for i in range(8)]
    shares = [0.99, 0.98, 0.97, 0.90, 0.89, 0.88, 0.96, 0.3]
    judge = Judge(points, shares)
    assert choose_point(points, max_drop=4, contest=Contest(judge))[0].trial == 2
    judge.measurement(points[6].plan, BUILT)
    chosen, why = choose_point(points, max_drop=4, contest=Contest(judge))
    assert chosen.trial == 6
    assert why.endswith("3.00 before tuning")


def test_without_a_wish_and_without_a_metric_the_knee_by_loss_is_chosen() -> None:
    chosen, why = choose_point(POINTS)
    wanted = min(POINTS, key=lambda p: 2 * p.costs["loss"] + p.costs["params"] ** 2)
    assert chosen == wanted == POINTS[2]
    assert "knee" in why


def test_without_a_wish_the_smallest_within_a_point_as_built_is_chosen() -> None:
    judge = Judge(LINE)
    chosen, why = choose_point(LINE, contest=Contest(judge))
    assert chosen.trial == 5
    assert why == "the smallest point that loses at most 1 point of validation accuracy: 1.00 before tuning"
    assert judge.asked[SCORED] == set()
    assert len(judge.asked[BUILT]) == 1


HALF = Forecast("the fine-tune", share=0.5, low=-1.0, high=0.5, noise=0.0)
"""A fine-tune that leaves half of a drop."""


def test_where_a_fine_tune_comes_the_smallest_that_is_predicted_to_lose_a_point_is_chosen() -> None:
    chosen, why = choose_point(LINE, contest=Contest(Judge(LINE), forecast=HALF))
    assert chosen.trial == 10
    assert why == (
        "the smallest point that is predicted to lose at most 1 point of validation accuracy: "
        "1.00 (0.00 to 1.50 with 80 %) after the fine-tune, 2.00 before it"
    )


def test_a_drop_is_that_after_the_fine_tune_where_a_forecast_is_given() -> None:
    chosen, why = choose_point(LINE, max_drop=3, contest=Contest(Judge(LINE), forecast=HALF))
    assert chosen.trial == 30
    assert why.startswith("the smallest point that is predicted to lose at most 3 points")
    assert choose_point(LINE, max_drop=3, contest=Contest(Judge(LINE)))[0].trial == 15
    with pytest.raises(LrfError, match=r"is predicted to lose at most 0.5 points .*; the least is 4.5"):
        choose_point(LINE, max_drop=0.5, contest=Contest(Judge(LINE, [0.9] * 40), forecast=HALF))


def test_where_nothing_is_within_a_point_the_least_drop_is_taken_and_said() -> None:
    shares = [0.9 - 0.001 * i for i in range(40)]
    chosen, why = choose_point(LINE, contest=Contest(Judge(LINE, shares)))
    assert chosen.trial == 0
    assert why == (
        "no point loses at most 1 point of validation accuracy, and of those measured this one loses least: "
        "9.00 before tuning"
    )


def test_by_default_a_changed_network_is_chosen() -> None:
    whole = Candidate(99, WHOLE, {"loss": 0.0, "params": 1.0})
    points = [whole, candidate(1, 0.3, 0.5)]
    assert choose_point(points, contest=Contest(Judge(points[1:])))[0].trial == 1
    assert choose_point([whole], contest=Contest(Judge([])))[0] == whole


def test_by_default_as_few_points_are_measured_as_a_bisection_needs() -> None:
    judge = Judge(LINE)
    choose_point(LINE, contest=Contest(judge, forecast=HALF))
    assert len(judge.asked[SKETCHED]) <= len(LINE).bit_length() + 1
    assert [len(judge.asked[stage]) for stage in (SCORED, BUILT)] == [0, 1]


def test_a_choice_needs_no_loss_among_the_objectives() -> None:
    points = [Candidate(i, Plan(()), {"params": p, "macs": m}) for i, (p, m) in enumerate([(0.2, 0.6), (0.5, 0.3)])]
    assert choose_point(points)[0].trial in (0, 1)
    assert choose_point(points, targets={"macs": 0.5})[0].trial == 1


LINE = [candidate(i, 0.002 * i, 0.9 - 0.02 * i) for i in range(40)]
"""A front on which every step costs as much loss."""
WITHIN = [point for point in LINE if point.costs["params"] <= 0.5]
LEAST = [point.plan for point in WITHIN[: FEW.scored]]
"""The plans with the least loss within half of the parameters."""


def test_a_candidate_behind_the_front_is_chosen_where_a_refit_lifts_it_above_the_front() -> None:
    front = [candidate(i, 0.3 + 0.01 * i, 0.4 - 0.01 * i) for i in range(14)]
    behind = candidate(20, 0.6, 0.4)
    judge = Judge([*front, behind], sketched=[0.7] * 14 + [0.8])
    contest = Contest(judge)
    assert choose_point(front, targets={"params": 0.5}, contest=contest)[0] != behind
    assert choose_point(front, targets={"params": 0.5}, contest=contest, others=[behind])[0] == behind
    assert behind.plan in judge.asked[BUILT]
    assert behind.plan not in judge.asked[SCORED]


def test_every_method_of_a_layer_is_compared_at_its_least_loss_within_targets() -> None:
    methods = ["svd", "svd", "qr", "qr", "tt_matrix"]
    losses, params = [0.3, 0.2, 0.5, 0.4, 0.1], [0.4, 0.4, 0.4, 0.4, 0.6]
    plans = [Plan.of({"a": Choice(method, (i + 1,))}) for i, method in enumerate(methods)]
    found = [
        Candidate(i, plan, {"loss": loss, "params": size})
        for i, (plan, loss, size) in enumerate(zip(plans, losses, params, strict=True))
    ]
    best = best_of_each_method(found, ["a"], {"params": 0.5})
    assert [one.trial for one in best] == [1, 3], "the only one with tt_matrix is too large"
    assert best_of_each_method(found, [], {"params": 0.5}) == []


def test_within_targets_the_best_of_the_points_with_the_least_loss_is_chosen() -> None:
    shares = [0.9] * 40
    shares[25], shares[30], shares[10], shares[39] = 0.95, 0.95, 0.98, 0.99  # the first outside, the last not measured
    judge = Judge(LINE, shares)
    chosen, why = choose_point(LINE, targets={"params": 0.5}, contest=Contest(judge))
    assert chosen.trial == 25, "of equals the one with less loss"
    assert judge.asked[SCORED] == set(LEAST)
    assert judge.asked[SKETCHED] == {LINE[25].plan, LINE[30].plan}, "the others are clearly behind"
    assert judge.asked[BUILT] == {LINE[25].plan}
    assert why == ("the best of 12 points within params <= 0.5: 4.00 points of validation accuracy lost before tuning")


def test_points_that_images_do_not_tell_apart_go_on_and_fewer_of_them_at_each_stage() -> None:
    shares = [0.95 - 1e-4 * (i % 3) for i in range(40)]
    sketched = [0.95] * 40
    sketched[21] = 0.96
    judge = Judge(LINE, shares, sketched=sketched)
    chosen, _ = choose_point(LINE, targets={"params": 0.5}, contest=Contest(judge))
    assert [len(asked) for asked in judge.asked] == [FEW.scored, FEW.sketched, 1]
    assert judge.asked[BUILT] <= judge.asked[SKETCHED] <= judge.asked[SCORED]
    assert chosen.trial == 21


@pytest.mark.parametrize(("errors", "stays"), [(-5.0, True), (0.0, True), (2.9, True), (3.1, False)])
def test_only_what_is_behind_by_three_standard_errors_of_the_paired_difference_goes(errors: float, stays: bool) -> None:
    points = [candidate(0, 0.1, 0.5), candidate(1, 0.2, 0.5)]
    signs = np.where(np.arange(FOLDS) % 2, 1.0, -1.0)
    one_error = sqrt(FOLDS - 1)

    class Pair(Judge):
        def measurement(self, plan: Plan, stage: int) -> Measurement:
            """The second point differs from the first by 0.1 points, with a standard error of 0.1 points."""
            second = plan == points[1].plan
            return Measurement(0.9 - 1e-3 * errors * second, 0.9 + 1e-3 / one_error * signs * second, IMAGES)

    contest = Contest(Pair(points))
    drops = contest.drops(points, SCORED)
    assert (points[1] in contest.closest(points, drops, SCORED)) == stays


def test_where_all_lose_much_as_scored_more_points_are_measured() -> None:
    few = ChoiceSettings(scored=5, scored_if_broken=18)
    shares = [0.9 - 0.001 * i for i in range(40)]
    shares[31] = shares[38] = 0.93
    judge = Judge(LINE, shares)
    chosen, why = choose_point(LINE, targets={"params": 0.5}, contest=Contest(judge, few))
    assert judge.asked[SCORED] == {point.plan for point in WITHIN[:18]}
    assert chosen.trial == 31
    assert why.startswith("the best of 18 points within params <= 0.5")
    good = Judge(LINE, [0.95] * 40)
    choose_point(LINE, targets={"params": 0.5}, contest=Contest(good, few))
    assert good.asked[SCORED] == {point.plan for point in WITHIN[:5]}


@given(CANDIDATES, st.randoms(use_true_random=False), st.sampled_from([{}, {"params": 0.5}, {"macs": 0.3}]))
def test_the_chosen_point_is_within_the_targets_and_the_best_one_that_was_measured_as_built(
    found: list[Candidate], dice: Any, targets: dict[str, float]
) -> None:
    points = pareto_front(found)
    judge = Judge(points, [dice.randint(0, 50) / 50 for _ in points])
    within = [p for p in points if all(p.costs[cost] <= most for cost, most in targets.items())]
    if not within:
        with pytest.raises(LrfError, match="no point of the front meets"):
            choose_point(points, targets=targets, contest=Contest(judge))
        return
    chosen, _ = choose_point(points, targets=targets, knee=not targets, contest=Contest(judge))
    assert chosen in within
    assert judge.asked[BUILT] == {chosen.plan}
    assert judge.asked[BUILT] <= judge.asked[SKETCHED] <= judge.asked[SCORED]
    assert len(judge.asked[SKETCHED]) <= FEW.sketched_if_broken
    if targets:
        assert judge.tables[BUILT][chosen.plan] == max(judge.tables[SCORED][plan] for plan in judge.asked[SCORED])


def test_the_knee_avoids_a_point_that_collapsed() -> None:
    by_loss, _ = choose_point(POINTS)
    shares = {0: 0.99, 1: 0.98, 2: 0.99, 3: 0.2}
    assert (
        by_loss.trial
        == choose_point(POINTS, knee=True, contest=Contest(Judge(POINTS, [*shares.values()])))[0].trial
        == 2
    )
    chosen, why = choose_point(POINTS, knee=True, contest=Contest(Judge(POINTS, [*(shares | {2: 0.3}).values()])))
    assert chosen.trial == 1, "the loss alone picks a network that has collapsed"
    assert why.startswith("the knee of 4 points along the front")
    assert "1.00 points of validation accuracy lost" in why


def test_a_network_that_is_better_than_the_original_is_no_nearer_than_one_as_good() -> None:
    points = [candidate(0, 0.01, 0.5), candidate(1, 0.02, 0.49)]
    assert choose_point(points, knee=True, contest=Contest(Judge(points, [1.0, 0.99], whole=0.99)))[0].trial == 1


@given(CANDIDATES, st.sampled_from([1, 12, 40]))
def test_points_along_the_front_are_the_nearest_of_their_intervals_of_size(found: list[Candidate], count: int) -> None:
    points = pareto_front(found)
    kept = spread_by_size(points, count)
    assert 1 <= len(kept) <= count
    assert min(map(knee_distance, kept)) == min(map(knee_distance, points))
    sizes = [size(point) for point in kept]
    assert sizes == sorted(set(sizes))
    edges = np.linspace(min(map(size, points)), max(map(size, points)), count + 1)[1:-1]
    intervals = [int(np.searchsorted(edges, size(point))) for point in points]
    assert len(kept) == len(set(intervals))
    for point, interval in zip(points, intervals, strict=True):
        own = next(p for p in kept if np.searchsorted(edges, size(p)) == interval)
        assert knee_distance(own) <= knee_distance(point)


@pytest.mark.parametrize("lost", range(1, 11))
def test_a_drop_of_just_what_may_be_lost_is_allowed(lost: int) -> None:
    point = candidate(0, 0.1, 0.5)
    judge = Judge([point], [(98 - lost) / 100], whole=98 / 100)
    assert choose_point([point], max_drop=lost, contest=Contest(judge))[0] == point


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 50))
def test_bisection_counts_the_drops_within_and_measures_few(drops: list[int], most: int) -> None:
    points = [candidate(i, drop / 100, 0.5) for i, drop in enumerate(sorted(drops))]
    judge = Judge(points)
    assert count_within_drop(points, most, Contest(judge)) == sum(drop <= most for drop in drops)
    assert len(judge.asked[SKETCHED]) <= len(drops).bit_length()


@given(CANDIDATES, st.sampled_from([0.0, 5.0, 15.0, 25.0, 40.0, 95.0]))
def test_the_loss_within_a_drop_is_half_way_from_the_last_good_one_to_the_first_bad_one(
    found: list[Candidate], most: float
) -> None:
    judge = Judge(found)
    good = [p.costs["loss"] for p in found if judge.lost(p) <= most]
    bad = [p.costs["loss"] for p in found if judge.lost(p) > most]
    low, high = max(good, default=0.0), min(bad, default=1.0)
    within = loss_within_drop(found, most, Contest(judge))
    assert low < within < high
    assert isclose(within, (low + high) / 2)


def test_without_points_a_loss_up_to_half_is_within_any_drop() -> None:
    assert loss_within_drop([], 1.0, Contest(Judge([]))) == 0.5


def test_of_points_that_images_do_not_tell_apart_the_one_with_the_closest_logits_is_chosen() -> None:
    class Alike(Judge):
        def right(self, plan: Plan, stage: int) -> np.ndarray[Any, Any]:
            found = super().right(plan, stage)
            return found if plan == WHOLE else np.roll(found, 100 * plan["a"].ranks[0])

    judge = Alike(LINE, [0.95 + 1e-4 * (i % 7) for i in range(40)], sketched=[0.95 + 1e-4 * (i % 5) for i in range(40)])
    chosen, _ = choose_point(LINE, targets={"params": 0.5}, contest=Contest(judge))
    closest = sorted(WITHIN[: FEW.scored], key=lambda point: -(point.trial % 7))[: FEW.sketched]
    assert judge.asked[SKETCHED] == {point.plan for point in closest}
    assert chosen == max(closest, key=lambda point: point.trial % 5)


def test_the_knee_is_that_of_the_networks_refitted_to_few_images() -> None:
    points = [candidate(0, 0.01, 0.6), candidate(1, 0.1, 0.4), candidate(2, 0.4, 0.38)]
    assert choose_point(points, knee=True, contest=Contest(Judge(points, [0.98, 0.89, 0.89])))[0].trial == 2
    chosen, why = choose_point(
        points, knee=True, contest=Contest(Judge(points, [0.98, 0.89, 0.89], sketched=[0.98, 0.97, 0.89]))
    )
    assert chosen.trial == 1
    assert "2.00 points" in why


@given(CANDIDATES, st.sampled_from([5.0, 15.0, 40.0]), st.randoms(use_true_random=False))
def test_within_a_drop_the_chosen_point_is_within_it_as_built(found: list[Candidate], most: float, dice: Any) -> None:
    points = pareto_front(found)
    built = [min(0.99, max(0.0, 0.99 - p.costs["loss"] + dice.randint(0, 20) / 100)) for p in points]
    judge = Judge(points, built=built)
    try:
        chosen, _ = choose_point(points, max_drop=most, contest=Contest(judge))
    except LrfError:
        assert judge.lost(min(points, key=lambda point: point.costs["loss"])) > most
        return
    assert judge.lost(chosen) <= most
    smaller = [p for p in points if size(p) < size(chosen) and judge.lost(p) <= most]
    assert not {p.plan for p in smaller} & judge.asked[BUILT]


def test_where_a_sketch_finds_none_within_the_drop_the_least_loss_is_built() -> None:
    points = [candidate(0, 0.1, 0.6), candidate(1, 0.2, 0.4)]
    judge = Judge(points, sketched=[0.9, 0.8], built=[0.98, 0.8])
    assert choose_point(points, max_drop=2, contest=Contest(judge))[0].trial == 0
    assert judge.asked[BUILT] == {points[0].plan}
    with pytest.raises(LrfError, match="the least is 9"):
        choose_point(points, max_drop=2, contest=Contest(Judge(points, sketched=[0.9, 0.8])))


def test_a_target_that_is_no_cost_is_refused() -> None:
    with pytest.raises(LrfError, match=r"unknown target 'parms' \(did you mean 'params'\?\)"):
        choose_point(POINTS, targets={"parms": 0.4})
