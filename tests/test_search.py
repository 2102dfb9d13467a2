"""Seeds are parents, `trials` is a total, the front is the front, and one point is taken off it for a reason."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf_optuna.allocate import competitive, plan_of
from lrf_optuna.errors import LrfError
from lrf_optuna.plan import Candidate, Choice, Plan
from lrf_optuna.proxy import Proxy
from lrf_optuna.search import choose, fixed_share, front, search, seeds, space, stream
from lrf_optuna.storage import Record

GENERATION = "NSGAIISampler:generation"
OBJECTIVES = ("loss", "params", "macs")
POPULATION = 16


def record_at(path: Path) -> Record:
    return Record.open(f"sqlite:///{path}", "s", objectives=OBJECTIVES, question={})


def candidate(trial: int, loss: float, params: float, macs: float | None = None) -> Candidate:
    costs = {"loss": loss, "params": params} | ({} if macs is None else {"macs": macs})
    return Candidate(trial, Plan.of({"a": Choice("svd", (trial + 1,))}), costs)


@pytest.fixture(scope="module")
def recorded(proxy: Proxy, table: Any, keeps: Any, tmp_path_factory: Any) -> Record:
    """A search of four generations."""
    record = record_at(tmp_path_factory.mktemp("search") / "study.db")
    search(proxy, table, trials=4 * POPULATION, keeps=keeps, population=POPULATION, record=record)
    return record


def test_seeds_are_the_first_generation_and_parents_of_the_next(recorded: Record) -> None:
    trials = recorded.finished()
    generations = [trial.system_attrs[GENERATION] for trial in trials]
    assert generations == sorted(generations)
    assert generations[:POPULATION] == [0] * POPULATION
    parents, children = ([t for t in trials if t.system_attrs[GENERATION] == g] for g in (0, 1))
    inherited = []
    for child in children:
        shares = [
            np.mean([value in (p.params[name], q.params[name]) for name, value in child.params.items()])
            for p, q in combinations(parents, 2)
        ]
        inherited.append(max(shares))
    assert len(children) >= POPULATION
    assert np.mean(inherited) > 0.9


def test_every_trial_has_the_same_parameters_with_one_distribution(recorded: Record, proxy: Proxy, keeps: Any) -> None:
    trials = recorded.finished()
    assert all(trial.distributions == trials[0].distributions for trial in trials)
    assert set(trials[0].params) == {f"{site}.{what}" for site in proxy.sites for what in ("method", "keep")}
    for site in proxy.sites:
        drawn = trials[0].distributions[f"{site}.method"].choices  # type: ignore[attr-defined]
        assert drawn[0] == "intact"
        assert set(drawn) <= set(proxy.methods_of(site))
        assert trials[0].distributions[f"{site}.keep"].choices == keeps  # type: ignore[attr-defined]


def test_methods_that_lose_everywhere_are_not_drawn_and_a_resumed_study_draws_what_it_began_with(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    methods = space(table, [])
    assert methods == {site: tuple(dict.fromkeys(o.method for o in left)) for site, left in competitive(table).items()}
    assert sum(map(len, methods.values())) < sum(len(proxy.methods_of(site)) for site in proxy.sites)
    record = record_at(tmp_path / "s.db")
    first = {site: [option for option in options if option.method != "cp3"] for site, options in table.items()}
    search(proxy, first, trials=3, keeps=keeps, population=8, record=record)
    assert space(table, record.finished()) == space(first, [])
    search(proxy, table, trials=12, keeps=keeps, population=8, record=record)
    assert len({str(trial.distributions) for trial in record.finished()}) == 1


def test_a_recorded_trial_says_what_it_stands_for(recorded: Record, proxy: Proxy) -> None:
    for trial, found in zip(recorded.finished(), recorded.candidates(), strict=True):
        assert tuple(trial.values) == tuple(proxy.costs(found.plan).values())
        assert dict(zip(OBJECTIVES, trial.values, strict=True)) == found.costs
        for site in proxy.sites:
            drawn = proxy.choice(site, trial.params[f"{site}.method"], trial.params[f"{site}.keep"])
            assert found.plan[site] == drawn
        measured = proxy.measure(found.plan)
        assert (trial.user_attrs["params"], trial.user_attrs["macs"]) == (measured.params, measured.macs)


def test_what_is_returned_is_what_is_recorded(proxy: Proxy, table: Any, keeps: Any, tmp_path: Path) -> None:
    record = record_at(tmp_path / "s.db")
    found = search(proxy, table, trials=20, keeps=keeps, population=8, record=record)
    assert found == record.candidates()
    assert [one.trial for one in found] == list(range(20))


def test_trials_are_the_number_in_all(proxy: Proxy, table: Any, keeps: Any, tmp_path: Path) -> None:
    for trials in (5, 12, 12, 7):
        found = search(proxy, table, trials=trials, keeps=keeps, population=8, record=record_at(tmp_path / "s.db"))
        assert len(found) == len(record_at(tmp_path / "s.db").finished()) == max(trials, 12 if trials == 7 else 0)
    assert [one.trial for one in found] == list(range(12))


def test_a_search_that_stopped_among_its_seeds_goes_on_with_the_others(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    whole = search(proxy, table, trials=10, keeps=keeps, population=10)
    for trials in (4, 10):
        parts = search(proxy, table, trials=trials, keeps=keeps, population=10, record=record_at(tmp_path / "s.db"))
    assert [one.plan for one in parts] == [one.plan for one in whole]


def test_a_resumed_search_does_not_draw_what_it_drew_before(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    for trials in (16, 24):
        search(proxy, table, trials=trials, keeps=keeps, population=8, record=record_at(tmp_path / "s.db"))
    params = [tuple(sorted(t.params.items())) for t in record_at(tmp_path / "s.db").finished()]
    drawn, later = set(params[8:16]), set(params[16:])
    assert len(drawn & later) <= 1
    assert len({stream(0, done) for done in range(100)} | {stream(1, done) for done in range(100)}) == 200


def test_the_same_seed_finds_the_same_and_another_seed_something_else(proxy: Proxy, table: Any, keeps: Any) -> None:
    first, again, other = (search(proxy, table, trials=30, keeps=keeps, population=8, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [one.plan for one in first[:8]] == [one.plan for one in other[:8]]
    assert [one.plan for one in first] != [one.plan for one in other]


def test_a_search_beats_its_seeds(recorded: Record) -> None:
    def volume(found: list[Candidate]) -> float:
        from optuna._hypervolume import compute_hypervolume

        values = np.array([list(one.costs.values()) for one in front(found)])
        return float(compute_hypervolume(values[(values <= 1).all(1)], np.ones(3)))

    found = recorded.candidates()
    assert volume(found) > volume(found[:POPULATION]) > 0


@pytest.mark.parametrize("count", [2, 10, 40])
@pytest.mark.parametrize("targets", [{}, {"params": 0.5}, {"params": 0.6, "macs": 0.6}])
def test_seeds_are_distinct_and_go_from_large_to_small(
    proxy: Proxy, table: Any, keeps: Any, count: int, targets: dict[str, float]
) -> None:
    picks = seeds(table, keeps, count, targets, fixed_share(proxy))
    plans = [plan_of(p) for p in picks]
    sizes = [proxy.measure(plan).params_share for plan in plans]
    assert len(set(plans)) == len(plans) <= count
    assert len(plans) >= min(count, 15)
    assert count < 10 or (max(sizes) > 0.9 and min(sizes) < 0.35)
    if targets and count >= 10:
        shares = [
            {c: getattr(proxy.measure(plan), f"{c}_share") / most for c, most in targets.items()} for plan in plans
        ]
        assert any(0.85 <= max(share.values()) <= 1 for share in shares), "one is just within the targets"


def test_what_no_plan_can_change_is_the_rest_of_the_network(proxy: Proxy) -> None:
    fixed = fixed_share(proxy)
    held = sum(site.op.params for site in proxy.sites.values())
    assert fixed["params"] == pytest.approx(1 - held / proxy.inventory.params)
    assert 0 <= fixed["macs"] < 0.01


CANDIDATES = st.lists(st.tuples(*[st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])] * 3), min_size=1, max_size=40).map(
    lambda rows: [candidate(i, *row) for i, row in enumerate(rows)]
)


def beats(a: Candidate, b: Candidate) -> bool:
    x, y = list(a.costs.values()), list(b.costs.values())
    return x != y and all(p <= q for p, q in zip(x, y, strict=True))


@given(CANDIDATES)
def test_the_front_is_what_nothing_beats(found: list[Candidate]) -> None:
    wanted = {tuple(c.costs.values()) for c in found if not any(beats(other, c) for other in found)}
    points = front(found)
    assert sorted(tuple(c.costs.values()) for c in points) == sorted(wanted)
    assert all(point in found for point in points)
    sizes = [point.costs["params"] + point.costs["macs"] for point in points]
    assert sizes == pytest.approx(sorted(sizes))


def test_the_front_is_the_one_that_optuna_finds(recorded: Record) -> None:
    study = optuna.load_study(study_name="s", storage=recorded.url)
    found = {tuple(point.costs.values()) for point in front(recorded.candidates())}
    assert found == {tuple(trial.values) for trial in study.best_trials}


def test_a_plan_stands_on_the_front_once_as_its_first_trial() -> None:
    plan = Plan.of({"a": Choice("svd", (1,))})
    twice = [Candidate(i, plan, {"loss": 0.1, "params": 0.5}) for i in (3, 7)]
    assert front(twice) == twice[:1]
    assert front([]) == []


POINTS = [candidate(0, 0.0, 1.0), candidate(1, 0.01, 0.6), candidate(2, 0.1, 0.4), candidate(3, 0.6, 0.1)]


@pytest.mark.parametrize(("most", "trial"), [(1.0, 0), (0.7, 1), (0.6, 1), (0.5, 2), (0.1, 3)])
def test_within_targets_the_least_loss_is_chosen(most: float, trial: int) -> None:
    chosen, why = choose(POINTS, targets={"params": most})
    assert chosen.trial == trial
    assert f"params <= {most:g}" in why


def test_targets_that_no_point_meets_are_answered_with_the_smallest() -> None:
    with pytest.raises(LrfError, match=r"no point of the front meets params <= 0.05; .*params 0.100"):
        choose(POINTS, targets={"params": 0.05})
    with pytest.raises(LrfError, match="no finished trial"):
        choose([])
    with pytest.raises(LrfError, match="no finished trial"):
        choose([], targets={"params": 0.5})


@pytest.mark.parametrize(("most", "trial"), [(0.0, 0), (0.5, 0), (1.0, 1), (9.9, 1), (10.0, 2), (60, 3)])
def test_within_a_drop_the_smallest_is_chosen(most: float, trial: int) -> None:
    chosen, why = choose(POINTS, max_drop=most, drop=lambda point: 100 * point.costs["loss"])
    assert chosen.trial == trial
    assert f"at most {most:g} points" in why


@given(CANDIDATES, st.floats(0, 100))
def test_within_a_drop_that_follows_the_loss_nothing_smaller_is_missed(found: list[Candidate], most: float) -> None:
    def drop(point: Candidate) -> float:
        return 100 * point.costs["loss"]

    points = front(found)
    fit = [p for p in points if drop(p) <= most]
    if not fit:
        with pytest.raises(LrfError, match=r"no point of the front loses at most .*; the least is "):
            choose(points, max_drop=most, drop=drop)
        return
    chosen, _ = choose(points, max_drop=most, drop=drop)
    assert drop(chosen) <= most
    least = min(p.costs["params"] + p.costs["macs"] for p in fit)
    assert chosen.costs["params"] + chosen.costs["macs"] == pytest.approx(least)


def test_a_drop_is_asked_for_within_the_targets_only() -> None:
    asked: list[int] = []

    def drop(point: Candidate) -> float:
        asked.append(point.trial)
        return 100 * point.costs["loss"]

    chosen, _ = choose(POINTS, targets={"params": 0.5}, max_drop=20, drop=drop)
    assert chosen.trial == 2
    assert set(asked) <= {2, 3}
    with pytest.raises(LrfError, match="the least is 10"):
        choose(POINTS, targets={"params": 0.5}, max_drop=5, drop=drop)


def test_without_a_wish_the_knee_is_chosen() -> None:
    chosen, why = choose(POINTS)
    wanted = min(POINTS, key=lambda p: 2 * p.costs["loss"] + p.costs["params"] ** 2)
    assert chosen == wanted == POINTS[2]
    assert "knee" in why


def test_a_choice_needs_no_loss_among_the_objectives() -> None:
    points = [Candidate(i, Plan(()), {"params": p, "macs": m}) for i, (p, m) in enumerate([(0.2, 0.6), (0.5, 0.3)])]
    assert choose(points)[0].trial in (0, 1)
    assert choose(points, targets={"macs": 0.5})[0].trial == 1
