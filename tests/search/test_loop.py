"""Seeds are parents, `trials` is a total, the volume of the front never falls, and targets are constraints."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from lrf_optuna.search.state import CONSTRAINT, VOLUME, is_flat

from lrf_optuna.baselines.budget import RuleContext
from lrf_optuna.baselines.rules import BASELINES
from lrf_optuna.config import BUDGETS
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import Front, hypervolume_history, pareto_front
from lrf_optuna.plans.plan import INTACT, Candidate
from lrf_optuna.scoring.option_table import plan_of
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.screening import drop_dominated_methods
from lrf_optuna.search.allocation import knapsack, lagrangian_sweep
from lrf_optuna.search.initial_plans import USUAL, budget_plans, expected, initial_plans, spreading
from lrf_optuna.search.loop import search_front, space, stream
from lrf_optuna.search.samplers import SAMPLERS
from lrf_optuna.storage.study import StudyStore

GENERATION = "NSGAIISampler:generation"
OBJECTIVES = ("loss", "params", "macs")
POPULATION = 16


def record_at(path: Path) -> StudyStore:
    return StudyStore.open(f"sqlite:///{path}", "s", objectives=OBJECTIVES, identity={})


@pytest.fixture(scope="module")
def recorded(proxy: Proxy, table: Any, keeps: Any, tmp_path_factory: Any) -> StudyStore:
    """A search of four generations."""
    record = record_at(tmp_path_factory.mktemp("search") / "study.db")
    search_front(proxy, table, trials=4 * POPULATION, population=POPULATION, store=record)
    return record


def test_seeds_are_the_first_generation_and_parents_of_the_next(recorded: StudyStore) -> None:
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


def test_every_trial_has_the_same_parameters_with_one_distribution(
    recorded: StudyStore, proxy: Proxy, keeps: Any
) -> None:
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
    assert methods == {
        site: tuple(dict.fromkeys(o.method for o in left)) for site, left in drop_dominated_methods(table).items()
    }
    assert sum(map(len, methods.values())) < sum(len(proxy.methods_of(site)) for site in proxy.sites)
    record = record_at(tmp_path / "s.db")
    first = {site: [option for option in options if option.method != "cp3"] for site, options in table.items()}
    search_front(proxy, first, trials=3, population=8, store=record)
    assert space(table, record.finished()) == space(first, [], budget_plans(first, proxy.fixed))
    search_front(proxy, table, trials=12, population=8, store=record)
    assert len({str(trial.distributions) for trial in record.finished()}) == 1


def test_a_recorded_trial_says_what_it_stands_for(recorded: StudyStore, proxy: Proxy) -> None:
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
    found = search_front(proxy, table, trials=20, population=8, store=record)
    assert found == record.candidates()
    assert [one.trial for one in found] == list(range(20))


def test_trials_are_the_number_in_all(proxy: Proxy, table: Any, keeps: Any, tmp_path: Path) -> None:
    for trials in (5, 12, 12, 7):
        found = search_front(proxy, table, trials=trials, population=8, store=record_at(tmp_path / "s.db"))
        assert len(found) == len(record_at(tmp_path / "s.db").finished()) == max(trials, 12 if trials == 7 else 0)
    assert [one.trial for one in found] == list(range(12))


def test_a_search_that_stopped_among_its_seeds_goes_on_with_the_others(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    whole = search_front(proxy, table, trials=10, population=10)
    for trials in (4, 10):
        parts = search_front(proxy, table, trials=trials, population=10, store=record_at(tmp_path / "s.db"))
    assert {one.plan for one in parts} == {one.plan for one in whole}


def test_a_resumed_search_does_not_draw_what_it_drew_before(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    for trials in (16, 24):
        search_front(proxy, table, trials=trials, population=8, store=record_at(tmp_path / "s.db"))
    params = [tuple(sorted(t.params.items())) for t in record_at(tmp_path / "s.db").finished()]
    drawn, later = set(params[8:16]), set(params[16:])
    assert len(drawn & later) <= 1
    assert len({stream(0, done) for done in range(100)} | {stream(1, done) for done in range(100)}) == 200


def test_the_same_seed_finds_the_same_and_another_seed_something_else(proxy: Proxy, table: Any, keeps: Any) -> None:
    first, again, other = (search_front(proxy, table, trials=30, population=8, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [one.plan for one in first[:8]] == [one.plan for one in other[:8]]
    assert [one.plan for one in first] != [one.plan for one in other]


def test_a_search_beats_its_seeds(recorded: StudyStore) -> None:
    def volume(found: list[Candidate]) -> float:
        from optuna._hypervolume import compute_hypervolume

        values = np.array([list(one.costs.values()) for one in pareto_front(found)])
        return float(compute_hypervolume(values[(values <= 1).all(1)], np.ones(3)))

    found = recorded.candidates()
    assert volume(found) > volume(found[:POPULATION]) > 0


@pytest.mark.parametrize("count", [2, 10, 40])
@pytest.mark.parametrize("targets", [{}, {"params": 0.5}, {"params": 0.6, "macs": 0.6}])
def test_seeds_are_distinct_and_go_from_large_to_small(
    proxy: Proxy, table: Any, keeps: Any, count: int, targets: dict[str, float]
) -> None:
    picks = initial_plans(table, keeps, count, targets, proxy.fixed)
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


def test_at_every_usual_budget_the_lagrangian_rules_own_plan_is_among_the_seeds(
    proxy: Proxy, table: Any, keeps: Any
) -> None:
    narrow = {site: [o for o in options if o.method in ("intact", "svd", "tucker2")] for site, options in table.items()}
    for options in (table, narrow):
        first = search_front(proxy, options, trials=30, population=30)
        plans, bench, met = {one.plan for one in first}, RuleContext(proxy, options), 0
        for budget in USUAL:
            try:
                plan = BASELINES["lagrangian"].plan(bench, budget)
            except LrfError:
                continue
            met += 1
            assert plan in plans, budget
        assert met >= 4


def test_a_method_of_a_seed_is_drawn_though_another_is_as_good_or_nearly(proxy: Proxy, table: Any) -> None:
    left = space(table, [])
    site, out = next((s, o) for s, options in table.items() for o in options if o.method not in left[s])
    seed = {name: options[0] for name, options in table.items()} | {site: out}
    wider = space(table, [], [seed])
    assert {name: methods for name, methods in wider.items() if name != site} == {
        name: methods for name, methods in left.items() if name != site
    }
    assert set(wider[site]) == {*left[site], out.method}
    assert list(wider[site]) == [m for m in proxy.methods_of(site) if m in wider[site]]


def test_what_a_target_leaves_room_for_is_filled(proxy: Proxy, table: Any, keeps: Any) -> None:
    picks = initial_plans(table, keeps, 40, {"macs": 0.6}, proxy.fixed)
    exact = knapsack(table, "macs", 0.6 - proxy.fixed["macs"])
    assert exact in picks
    assert {plan_of(p) for p in picks} >= {
        plan_of(p) for most in BUDGETS if (p := knapsack(table, "params", most - proxy.fixed["params"]))
    }


def test_a_seed_that_the_table_does_not_have_is_left_out(proxy: Proxy, table: Any, keeps: Any) -> None:
    narrow = {site: [o for o in options if o.method in ("intact", "svd")] for site, options in table.items()}
    wide = [{site: options[-1] for site, options in table.items()}]
    plans = [plan_of(picks) for picks in initial_plans(narrow, keeps, 10, {}, proxy.fixed, wide)]
    assert plan_of(wide[0]) not in plans
    assert plan_of(wide[0]) in [plan_of(picks) for picks in initial_plans(table, keeps, 10, {}, proxy.fixed, wide)]


def test_what_no_plan_can_change_is_the_rest_of_the_network(proxy: Proxy) -> None:
    fixed = proxy.fixed
    held = sum(site.op.params for site in proxy.sites.values())
    assert fixed["params"] == pytest.approx(1 - held / proxy.inventory.params)
    assert 0 <= fixed["macs"] < 0.01


def test_the_front_is_the_one_that_optuna_finds(recorded: StudyStore) -> None:
    study = optuna.load_study(study_name="s", storage=recorded.url)
    found = {tuple(point.costs.values()) for point in pareto_front(recorded.candidates())}
    assert found == {tuple(trial.values) for trial in study.best_trials}


TARGETS = {"params": 0.5, "macs": 0.45}


def within(found: list[Candidate], targets: dict[str, float]) -> list[Candidate]:
    return [one for one in found if all(one.costs[cost] <= most for cost, most in targets.items())]


def test_every_trial_records_the_hypervolume_so_far_and_it_never_falls(recorded: StudyStore) -> None:
    volumes = [trial.user_attrs[VOLUME] for trial in recorded.finished()]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]
    found = recorded.candidates()
    assert volumes == pytest.approx(hypervolume_history(found), abs=1e-6)
    assert volumes[20] == pytest.approx(Front.of(found[:21]).volume, abs=1e-6)


def test_a_resumed_search_goes_on_with_the_volume_that_was_there(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    for trials in (6, 14):
        found = search_front(proxy, table, trials=trials, population=6, store=record_at(tmp_path / "s.db"))
    recorded = [trial.user_attrs[VOLUME] for trial in record_at(tmp_path / "s.db").finished()]
    assert recorded == pytest.approx(hypervolume_history(found), abs=1e-6)


def constraints(trial: optuna.trial.FrozenTrial) -> dict[str, float]:
    keys = [key for key in trial.system_attrs if key.startswith(CONSTRAINT)]
    return {key.removeprefix(CONSTRAINT): trial.system_attrs[key] for key in keys}


def test_targets_are_constraints_that_are_kept_just_where_a_trial_is_within(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    record, targets = record_at(tmp_path / "s.db"), TARGETS | {"loss": 0.05}
    search_front(proxy, table, trials=24, population=8, targets=targets, store=record)
    feasible = []
    for trial, one in zip(record.finished(), record.candidates(), strict=True):
        found = constraints(trial)
        assert found == pytest.approx({cost: one.costs[cost] - most for cost, most in targets.items()})
        feasible.append(all(value <= 0 for value in found.values()))
        assert feasible[-1] == (one in within([one], targets))
    assert 0 < sum(feasible) < 24


def test_without_targets_there_are_no_constraints(recorded: StudyStore) -> None:
    assert not any(constraints(trial) for trial in recorded.finished())


@pytest.mark.parametrize(("first", "then"), [({}, TARGETS), (TARGETS, {}), (TARGETS, {"params": 0.3})])
@pytest.mark.parametrize("sampler", ["bred", "nsga2"])
def test_a_study_goes_on_with_other_targets_and_old_trials_stay_as_they_were(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path, first: Any, then: Any, sampler: str
) -> None:
    asked: dict[str, Any] = {"keeps": keeps, "population": 6, "sampler": sampler}
    search_front(proxy, table, trials=8, targets=first, store=record_at(tmp_path / "s.db"), **asked)
    before = [(trial.values, trial.system_attrs) for trial in record_at(tmp_path / "s.db").finished()]
    search_front(proxy, table, trials=20, targets=then, store=record_at(tmp_path / "s.db"), **asked)
    trials = record_at(tmp_path / "s.db").finished()
    assert [(trial.values, trial.system_attrs) for trial in trials[:8]] == before
    assert [set(constraints(trial)) for trial in trials] == [set(first)] * 8 + [set(then)] * 12


def test_a_flat_search_stops_before_its_trials_and_the_same_call_again_adds_nothing(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"trials": 400, "keeps": keeps, "population": 10, "stop_when_flat": True}
    found = search_front(proxy, table, store=record_at(tmp_path / "s.db"), **asked)
    volumes = hypervolume_history(found)
    assert 20 <= len(found) < 400
    assert is_flat(volumes, 10)
    assert not any(is_flat(volumes[:n], 10) for n in range(len(volumes)))
    assert search_front(proxy, table, store=record_at(tmp_path / "s.db"), **asked) == found
    assert len(record_at(tmp_path / "s.db").finished()) == len(found)


def test_a_search_is_flat_where_as_many_trials_as_the_population_took_little_of_what_was_left() -> None:
    assert not is_flat([0.5] * 19, 10)
    assert is_flat([0.5] * 20, 10)
    assert is_flat([0.5] * 10 + [0.502] * 10, 10)
    assert not is_flat([0.5] * 10 + [0.503] * 10, 10)
    assert not is_flat([0.9] * 10 + [0.9006] * 10, 10), "of what is left, not of what there is"


@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_with_targets_seeded_or_not(
    proxy: Proxy, table: Any, keeps: Any, sampler: str, seeded: bool
) -> None:
    asked: dict[str, Any] = {"trials": 20, "keeps": keeps, "population": 6, "sampler": sampler, "seeded": seeded}
    found, again = (search_front(proxy, table, targets=TARGETS, **asked) for _ in range(2))
    assert [one.trial for one in found] == list(range(20))
    assert found == again
    standard = budget_plans(table, proxy.fixed) if seeded else []
    methods = space(table, [], standard)
    drawn = {site: [option for option in options if option.method in methods[site]] for site, options in table.items()}
    first = {plan_of(picks) for picks in initial_plans(drawn, keeps, 6, TARGETS, proxy.fixed, standard)}
    assert ({one.plan for one in found[:6]} == first) == seeded


def test_a_bred_search_without_seeds_draws_only_what_is_fitted(proxy: Proxy, table: Any, keeps: Any) -> None:
    few = {site: [*options[:2], *options[-2:]] for site, options in table.items()}
    found = search_front(proxy, few, trials=30, population=10, initial_plans=False)
    there = {site: {option.choice for option in options} for site, options in few.items()}
    assert all(choice in there[site] for one in found for site, choice in one.plan)
    assert len({one.plan for one in found}) == 30


def test_a_bred_search_goes_on_after_trials_of_options_that_were_not_fitted(
    proxy: Proxy, table: Any, keeps: Any, tmp_path: Path
) -> None:
    few = {site: [*options[:2], *options[-2:]] for site, options in table.items()}
    asked: dict[str, Any] = {"keeps": keeps, "population": 6, "seeded": False, "record": record_at(tmp_path / "s.db")}
    search_front(proxy, few, trials=6, sampler="random", **asked)
    assert len({one.plan for one in search_front(proxy, few, trials=24, **asked)}) == 24


def test_an_unknown_sampler_is_answered_with_those_there_are(proxy: Proxy, table: Any, keeps: Any) -> None:
    with pytest.raises(LrfError, match=r"unknown sampler 'nsga' .*there is: bred, nsga2, nsga3, random, tpe"):
        search_front(proxy, table, trials=2, sampler="nsga")


@pytest.mark.parametrize("objectives", [("loss",), ("params", "macs"), ("loss", "params")])
def test_a_search_takes_any_objectives(net: Any, images: Any, keeps: Any, objectives: tuple[str, ...]) -> None:
    few = Proxy(net, images, objectives=objectives, methods=["svd", "tucker2"], refit=False)
    found = search_front(few, few.table(keeps), trials=20, population=6)
    assert all(tuple(one.costs) == objectives for one in found)
    assert len({one.plan for one in found}) == 20


GRID = (0.04, 0.07, 0.1, 0.15, 0.2, 0.26, 0.33, 0.4, 0.48, 0.56, 0.65, 0.75)


def test_with_as_many_trials_bred_children_fill_more_than_plain_samplers(proxy: Proxy) -> None:
    wide = proxy.table(GRID)
    volumes = {
        name: [
            Front.of(
                search_front(proxy, wide, trials=60, population=16, seed=seed, sampler=name, initial_plans=False)
            ).volume
            for seed in (0, 1)
        ]
        for name in ("bred", "nsga2", "tpe", "random")
    }
    assert all(min(volumes["bred"]) > max(volumes[name]) for name in ("nsga2", "tpe", "random")), volumes


def test_a_search_with_targets_soon_loses_less_within_them_than_one_without(proxy: Proxy) -> None:
    wide, far = proxy.table(GRID), {cost: 0.85 * most for cost, most in TARGETS.items()}

    def found(targets: Any, seed: int) -> tuple[float, int]:
        searched = search_front(proxy, wide, trials=40, population=16, targets=targets, seed=seed)
        inside = within(searched, TARGETS)
        return min(one.costs["loss"] for one in inside), len(inside) - len(within(searched, far))

    aimed, free = (np.sum([found(targets, seed) for seed in range(3)], axis=0) for targets in (TARGETS, {}))
    assert aimed[0] < free[0]
    assert aimed[1] > free[1], "the front is denser just below the targets"


def test_seeds_that_are_spread_fill_more_than_as_many_at_even_steps(proxy: Proxy, table: Any) -> None:
    def volume(picks: Any) -> float:
        return Front.of(Candidate(i, plan_of(p), proxy.costs(plan_of(p))) for i, p in enumerate(picks)).volume

    swept = lagrangian_sweep(table)
    chosen = spreading(np.array([expected(picks, proxy.fixed) for picks in swept]), 8)
    even = np.linspace(0, len(swept) - 1, 8).round().astype(int)
    assert len(set(chosen)) == 8
    assert chosen[0] == len(swept) - 1
    assert volume(swept[i] for i in chosen) > volume(swept[i] for i in even)
    assert spreading(np.zeros((0, 3)), 4) == []
    assert sorted(spreading(np.eye(3), 9)) == [0, 1, 2]


def test_only_a_layer_that_holds_much_of_the_network_may_keep_hardly_anything(proxy: Proxy, tmp_path: Path) -> None:
    grid, record = (0.01, 0.02, 0.1, 0.3, 0.6), record_at(tmp_path / "s.db")
    wide = proxy.table(grid)
    search_front(proxy, wide, trials=24, population=12, store=record)
    shares = {site: proxy.shares(site, INTACT).params for site in wide}
    assert min(shares.values()) < 1 / 3 < max(shares.values())
    for site, share in shares.items():
        choices = record.finished()[0].distributions[f"{site}.keep"].choices  # type: ignore[attr-defined]
        assert choices == (grid if share > 1 / 3 else grid[2:])
        assert {option.keep for option in wide[site]} <= set(choices)
    large = max(shares, key=lambda site: shares[site])
    assert min(trial.params[f"{large}.keep"] for trial in record.finished()) == 0.01
