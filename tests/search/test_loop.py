"""A search asks, scores, tells and writes: trials are reproducible, resumable, and say what they stand for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from support.search import OBJECTIVES, store_at

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.front import Front, hypervolume_history, pareto_front
from lrf_optuna.plans.plan import INTACT, Candidate
from lrf_optuna.progress import Silent
from lrf_optuna.scoring.objectives import OBJECTIVES as OBJECTIVE_FUNCTIONS
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import HYPERVOLUME, Search, SearchOptions, is_flat, process_seed, search_front
from lrf_optuna.search.samplers import SAMPLERS
from lrf_optuna.storage.study import StudyStore

GENERATION = "NSGAIISampler:generation"
POPULATION = 16
TARGETS = {"params": 0.5, "macs": 0.45}
GRID = (0.04, 0.07, 0.1, 0.15, 0.2, 0.26, 0.33, 0.4, 0.48, 0.56, 0.65, 0.75)


@pytest.fixture(scope="module")
def store(proxy: Proxy, table: OptionTable, tmp_path_factory: Any) -> StudyStore:
    """The study of a search of four generations."""
    found = store_at(tmp_path_factory.mktemp("search") / "study.db")
    search_front(proxy, table, trials=4 * POPULATION, population=POPULATION, store=found)
    return found


@pytest.fixture(scope="module")
def wide(proxy: Proxy) -> OptionTable:
    """A table of as many keeps as a user has by default."""
    return proxy.table(GRID)


def within(candidates: list[Candidate], targets: Mapping[str, float]) -> list[Candidate]:
    return [one for one in candidates if all(one.costs[cost] <= most for cost, most in targets.items())]


def constraints(trial: optuna.trial.FrozenTrial) -> dict[str, float]:
    return dict(trial.constraints)


class StopAfter(Silent):
    """Ctrl-C after some trials."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def task(self, label: str, total: int, done: int = 0) -> Any:
        return nullcontext(self.step)

    def step(self, n: int, note: str = "") -> None:
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


def test_initial_plans_are_the_first_generation_and_children_the_next_ones(store: StudyStore) -> None:
    generations = [trial.system_attrs[GENERATION] for trial in store.study.trials]
    assert generations == sorted(generations)
    assert generations[:POPULATION] == [0] * POPULATION
    assert set(generations[POPULATION : 2 * POPULATION]) == {1}


def test_every_trial_has_the_same_parameters_with_one_distribution(
    store: StudyStore, proxy: Proxy, table: OptionTable
) -> None:
    trials = store.study.trials
    assert all(trial.distributions == trials[0].distributions for trial in trials)
    assert trials[0].distributions == {
        f"{site}.{name}": CategoricalDistribution(choices)
        for site in proxy.sites
        for name, choices in zip(("method", "keep"), table.methods_and_keeps(site), strict=True)
    }


def test_the_parameters_of_a_stored_trial_mean_its_plan_and_its_values_are_the_plans_costs(
    store: StudyStore, proxy: Proxy
) -> None:
    for trial, found in zip(store.study.trials, store.candidates(), strict=True):
        for site in proxy.sites:
            assert found.plan[site] == proxy.choice(site, trial.params[f"{site}.method"], trial.params[f"{site}.keep"])
        assert trial.values == pytest.approx(list(proxy.costs(found.plan).values()), abs=1e-6)
        assert dict(zip(OBJECTIVES, trial.values, strict=True)) == found.costs


def test_the_user_attributes_of_a_stored_trial_say_what_was_measured(store: StudyStore, proxy: Proxy) -> None:
    for trial, found in zip(store.study.trials, store.candidates(), strict=True):
        measured = proxy.measure(found.plan)
        wanted = {
            "plan",
            "params",
            "macs",
            "images",
            HYPERVOLUME,
            *(f"similarity {tap}" for tap in measured.similarity),
        }
        assert set(trial.user_attrs) == wanted
        assert (trial.user_attrs["params"], trial.user_attrs["macs"]) == (measured.params, measured.macs)
        assert trial.user_attrs["images"] == len(proxy.scored)
        for tap, similarity in measured.similarity.items():
            assert trial.user_attrs[f"similarity {tap}"] == pytest.approx(similarity, abs=2e-6)


def test_every_trial_has_the_hypervolume_so_far_which_never_falls(store: StudyStore) -> None:
    volumes = [trial.user_attrs[HYPERVOLUME] for trial in store.study.trials]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]
    assert volumes == pytest.approx(hypervolume_history(store.candidates()), abs=1e-6)


def test_the_front_is_the_one_that_optuna_finds(store: StudyStore) -> None:
    study = optuna.load_study(study_name="s", storage=store.url)
    found = {tuple(point.costs.values()) for point in pareto_front(store.candidates())}
    assert found == {tuple(trial.values) for trial in study.best_trials}


def test_no_plan_is_scored_twice(store: StudyStore) -> None:
    assert len({one.plan for one in store.candidates()}) == 4 * POPULATION


def test_what_is_returned_is_what_is_stored(proxy: Proxy, table: OptionTable, tmp_path: Path) -> None:
    store = store_at(tmp_path / "s.db")
    found = search_front(proxy, table, trials=20, population=8, store=store)
    assert found == store.candidates()
    assert [one.trial for one in found] == list(range(20))


def test_a_search_finds_with_a_store_what_it_finds_without(proxy: Proxy, table: OptionTable, tmp_path: Path) -> None:
    alone = search_front(proxy, table, trials=20, population=8)
    stored = search_front(proxy, table, trials=20, population=8, store=store_at(tmp_path / "s.db"))
    assert alone == stored


def test_equal_seeds_give_equal_trials_and_another_seed_other_children(proxy: Proxy, table: OptionTable) -> None:
    first, again, other = (search_front(proxy, table, trials=30, population=8, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [one.plan for one in first[:8]] == [one.plan for one in other[:8]]
    assert [one.plan for one in first] != [one.plan for one in other]


def test_trials_are_the_number_in_all(proxy: Proxy, table: OptionTable, tmp_path: Path) -> None:
    for trials, wanted in ((5, 5), (12, 12), (12, 12), (7, 12)):
        found = search_front(proxy, table, trials=trials, population=8, store=store_at(tmp_path / "s.db"))
        assert [one.trial for one in found] == list(range(wanted))


def test_a_search_that_stopped_among_its_initial_plans_goes_on_with_the_others(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    whole = search_front(proxy, table, trials=10, population=10)
    for trials in (4, 10):
        parts = search_front(proxy, table, trials=trials, population=10, store=store_at(tmp_path / "s.db"))
    assert {one.plan for one in parts} == {one.plan for one in whole}


@pytest.mark.parametrize("sampler", ["surrogate", "random"])
def test_a_resumed_search_does_not_repeat_its_draws(
    proxy: Proxy, wide: OptionTable, tmp_path: Path, sampler: str
) -> None:
    how: dict[str, Any] = {"population": 8, "sampler": sampler, "initial_plans": False}
    for trials in (16, 32):
        found = search_front(proxy, wide, trials=trials, store=store_at(tmp_path / "s.db"), **how)
    assert len({one.plan for one in found}) == 32


@pytest.mark.parametrize(("finished", "left"), [(0, 30), (10, 20), (40, 0)])
def test_random_plans_are_drawn_for_the_first_generation_alone_also_after_a_resume(
    proxy: Proxy, wide: OptionTable, finished: int, left: int
) -> None:
    options = SearchOptions(trials=60, population=30, initial_plans=False)
    earlier = Search(proxy, wide, options)
    for _ in range(finished):
        earlier.next_trial()
    assert len(Search(proxy, wide, options, earlier.candidates).waiting) == left


def test_stored_plans_that_are_no_options_of_the_table_become_parents_too(proxy: Proxy, table: OptionTable) -> None:
    few = OptionTable({s: [*opts[:2], *opts[-2:]] for s, opts in table.items()}, table.fixed, spaces(table))
    options = SearchOptions(population=6, sampler="nsga2", initial_plans=False)
    earlier = Search(proxy, few, options)
    for _ in range(6):
        earlier.next_trial()
    assert None in earlier.encoded
    resumed = Search(proxy, few, options, earlier.candidates)
    plans = [resumed.space.plan(trial.params) for trial in resumed.study.trials]
    assert plans == [one.plan for one in earlier.candidates]


def test_an_objective_that_is_not_finite_ends_the_search_in_one_line(
    net: Any, images: Any, table: OptionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVE_FUNCTIONS, "broken", lambda measured: math.nan)
    proxy = Proxy(net, images, objectives=("broken", "params"))
    with pytest.raises(LrfError, match=r"^the objective 'broken' gave nan"):
        search_front(proxy, table, trials=2, population=4)


def test_processes_that_begin_together_take_the_same_initial_plans_in_different_orders(
    proxy: Proxy, wide: OptionTable
) -> None:
    first, *others = (list(Search(proxy, wide, SearchOptions(population=30), rank=rank).waiting) for rank in range(3))
    for other in others:
        assert set(other) == set(first)
        assert sum(one == same for one, same in zip(first, other, strict=True)) < len(first) / 4


def test_without_a_table_the_search_is_over_the_proxys_own(net: Any, images: Any) -> None:
    proxy = Proxy(net, images, methods=["svd"], refit=False)
    assert search_front(proxy, trials=4) == search_front(proxy, proxy.table(), trials=4)


def test_the_seed_of_every_session_and_process_is_another_one() -> None:
    pairs = [(seed, finished, rank) for seed in (0, 1) for finished in range(30) for rank in range(4)]
    assert len({process_seed(*pair) for pair in pairs}) == len(pairs)


def test_a_resumed_search_goes_on_with_the_volume_and_the_parents_that_were_there(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    for trials in (12, 24):
        found = search_front(proxy, table, trials=trials, population=6, store=store_at(tmp_path / "s.db"))
    trials_stored = store_at(tmp_path / "s.db").study.trials
    volumes = [trial.user_attrs[HYPERVOLUME] for trial in trials_stored]
    assert volumes == pytest.approx(hypervolume_history(found), abs=1e-6)
    assert all(trial.system_attrs[GENERATION] > 0 for trial in trials_stored[12:]), "children of what was there"


def test_a_study_with_the_space_of_an_earlier_version_goes_on_with_that_space(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    few = {site: (("intact", "svd", "tucker2"), keeps) for site, (_, keeps) in spaces(table).items()}
    earlier = OptionTable(table.where(lambda _, o: o.method in few["stem"][0]).options, table.fixed, few)
    search_front(proxy, earlier, trials=6, population=8, store=store_at(tmp_path / "s.db"))
    found = search_front(proxy, table, trials=24, population=8, store=store_at(tmp_path / "s.db"))
    trials = store_at(tmp_path / "s.db").study.trials
    assert all(trial.distributions == trials[0].distributions for trial in trials)
    assert trials[0].distributions["stem.method"].choices == few["stem"][0]  # type: ignore[attr-defined]
    assert {choice.method for one in found for _, choice in one.plan} <= set(few["stem"][0])
    assert len({one.plan for one in found}) == 24


def spaces(table: OptionTable) -> dict[str, Any]:
    return {site: table.methods_and_keeps(site) for site in table}


def test_a_study_with_the_keeps_of_an_earlier_version_goes_on_though_the_intact_layer_had_another(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    few = {site: (methods, keeps[:-1]) for site, (methods, keeps) in spaces(table).items()}
    part = table.where(lambda site, o: o.choice == INTACT or o.keep in few[site][1])
    earlier = OptionTable(
        {site: [o if o.choice != INTACT else replace(o, keep=few[site][1][-1]) for o in part[site]] for site in part},
        table.fixed,
        few,
    )
    search_front(proxy, earlier, trials=6, population=8, store=store_at(tmp_path / "s.db"))
    found = search_front(proxy, table, trials=24, population=8, store=store_at(tmp_path / "s.db"))
    assert len({one.plan for one in found}) == 24
    assert any(choice == INTACT for one in found[6:] for _, choice in one.plan)


def test_targets_are_constraints_that_hold_just_where_a_trial_is_within(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    store, targets = store_at(tmp_path / "s.db"), TARGETS | {"loss": 0.02}
    search_front(proxy, table, trials=24, population=8, targets=targets, store=store)
    feasible = []
    for trial, one in zip(store.study.trials, store.candidates(), strict=True):
        wanted = {cost: one.costs[cost] - most for cost, most in targets.items()}
        assert constraints(trial) == pytest.approx(wanted)
        feasible.append(all(value <= 0 for value in constraints(trial).values()))
        assert feasible[-1] == (one in within([one], targets))
    assert 0 < sum(feasible) < 24


def test_without_targets_there_are_no_constraints(store: StudyStore) -> None:
    assert not any(constraints(trial) for trial in store.study.trials)


@pytest.mark.parametrize(("first", "then"), [({}, TARGETS), (TARGETS, {}), (TARGETS, {"params": 0.3})])
@pytest.mark.parametrize("sampler", ["surrogate", "nsga2"])
def test_a_study_goes_on_with_other_targets_and_old_trials_stay_as_they_were(
    proxy: Proxy, table: OptionTable, tmp_path: Path, first: Any, then: Any, sampler: str
) -> None:
    how: dict[str, Any] = {"population": 6, "sampler": sampler}
    search_front(proxy, table, trials=8, targets=first, store=store_at(tmp_path / "s.db"), **how)
    before = [(trial.values, constraints(trial)) for trial in store_at(tmp_path / "s.db").study.trials]
    search_front(proxy, table, trials=20, targets=then, store=store_at(tmp_path / "s.db"), **how)
    trials = store_at(tmp_path / "s.db").study.trials
    assert [(trial.values, constraints(trial)) for trial in trials[:8]] == before
    assert [set(constraints(trial)) for trial in trials] == [set(first)] * 8 + [set(then)] * 12


def test_with_targets_most_children_are_within_them_and_lose_less_there(proxy: Proxy, wide: OptionTable) -> None:
    tight = {"params": 0.2, "macs": 0.2}

    def search(targets: Any, seed: int) -> tuple[float, int]:
        found = search_front(proxy, wide, trials=48, population=16, targets=targets, seed=seed)
        return min(one.costs["loss"] for one in within(found, tight)), len(within(found[16:], tight))

    limited, free = (np.array([search(targets, seed) for seed in range(8)]) for targets in (tight, {}))
    assert limited[:, 0].mean() < free[:, 0].mean()
    assert limited[:, 1].min() > 16, "more than half of the 32 children"
    assert limited[:, 1].mean() > free[:, 1].mean()


def test_a_flat_search_stops_before_its_trials_and_the_same_call_again_adds_nothing(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"trials": 400, "population": 10, "stop_when_flat": True}
    found = search_front(proxy, table, store=store_at(tmp_path / "s.db"), **how)
    volumes = hypervolume_history(found)
    assert 20 <= len(found) < 400
    assert is_flat(volumes, 10)
    assert not any(is_flat(volumes[:count], 10) for count in range(len(volumes)))
    assert search_front(proxy, table, store=store_at(tmp_path / "s.db"), **how) == found


def test_a_search_is_flat_where_a_population_of_trials_gained_little_of_what_was_left() -> None:
    assert not is_flat([0.5] * 19, 10)
    assert is_flat([0.5] * 20, 10)
    assert is_flat([0.5] * 10 + [0.502] * 10, 10)
    assert not is_flat([0.5] * 10 + [0.503] * 10, 10)
    assert not is_flat([0.9] * 10 + [0.9006] * 10, 10), "of what is left, not of what there is"


def test_finished_trials_are_in_the_store_after_ctrl_c(proxy: Proxy, table: OptionTable, tmp_path: Path) -> None:
    store = store_at(tmp_path / "s.db")
    with pytest.raises(KeyboardInterrupt):
        search_front(proxy, table, trials=100, population=8, store=store, progress=StopAfter(13))
    assert [one.trial for one in store.candidates()] == list(range(13))
    assert len(store.study.trials) == 13, "no trial is there by half"
    assert len(search_front(proxy, table, trials=20, population=8, store=store_at(tmp_path / "s.db"))) == 20


class AppendAfter(StopAfter):
    """Another process appends trials after some trials of this one."""

    def __init__(self, trials: int, store: StudyStore, others: list[optuna.trial.FrozenTrial]) -> None:
        super().__init__(trials)
        self.store, self.others, self.steps = store, others, list[int]()

    def step(self, n: int, note: str = "") -> None:
        self.steps.append(n)
        if len(self.steps) == self.left:
            self.store.append(self.others)


def test_trials_of_another_process_are_taken_in_while_searching(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    other = store_at(tmp_path / "other.db")
    search_front(proxy, table, trials=4, population=4, seed=5, initial_plans=False, sampler="random", store=other)
    store = store_at(tmp_path / "s.db")
    progress = AppendAfter(12, StudyStore.read(store.url, "s"), other.study.trials)
    found = search_front(proxy, table, trials=600, population=10, store=store, progress=progress)
    assert len(found) == 600
    assert sum(progress.steps) >= 600
    assert max(progress.steps) > 1, "trials of the other process came with a step"
    plans = [one.plan for one in found]
    assert all(plans.count(one.plan) == 1 for one in other.candidates()), "what another process scored is not repeated"


@pytest.mark.parametrize("initial_plans", [True, False])
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_every_sampler_searches_with_targets_and_with_or_without_initial_plans(
    proxy: Proxy, table: OptionTable, sampler: str, initial_plans: bool
) -> None:
    how: dict[str, Any] = {"trials": 20, "population": 6, "sampler": sampler, "initial_plans": initial_plans}
    found, again = (search_front(proxy, table, targets=TARGETS, **how) for _ in range(2))
    assert [one.trial for one in found] == list(range(20))
    assert found == again
    first = search_front(proxy, table, trials=6, population=6, targets=TARGETS)
    assert ({one.plan for one in found[:6]} == {one.plan for one in first}) == initial_plans


def test_the_gp_sampler_searches_or_says_in_one_line_that_it_needs_torch(proxy: Proxy, table: OptionTable) -> None:
    if find_spec("torch") is None:
        with pytest.raises(LrfError, match=r"^the sampler 'gp' needs the package torch: pip install torch$"):
            search_front(proxy, table, trials=4, population=4, sampler="gp")
    else:
        assert len(search_front(proxy, table, trials=4, population=4, sampler="gp")) == 4


def test_an_unknown_sampler_is_answered_with_the_known_ones(proxy: Proxy, table: OptionTable) -> None:
    with pytest.raises(LrfError, match=r"unknown sampler 'nsga' .*gp, nsga2, nsga3, random, surrogate, tpe"):
        search_front(proxy, table, trials=2, sampler="nsga")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 0}, "trials"),
        ({"population": 1}, "population"),
        ({"seed": -1}, "seed"),
        ({"targets": {"param": 0.5}}, "target"),
        ({"targets": {"params": 0.0}}, "params"),
        ({"targets": {"params": math.nan}}, "params"),
    ],
)
def test_an_impossible_option_is_refused_in_one_line(
    proxy: Proxy, table: OptionTable, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(LrfError, match=words) as refusal:
        search_front(proxy, table, **{"trials": 2, **options})
    assert "\n" not in str(refusal.value)


def test_a_search_without_initial_plans_draws_only_from_the_tables_options(proxy: Proxy, table: OptionTable) -> None:
    few = OptionTable({site: [*options[:2], *options[-2:]] for site, options in table.items()}, table.fixed)
    found = search_front(proxy, few, trials=30, population=10, initial_plans=False)
    choices = {site: {option.choice for option in options} for site, options in few.items()}
    assert all(choice in choices[site] for one in found for site, choice in one.plan)
    assert len({one.plan for one in found}) == 30


def test_where_initial_plans_are_fewer_than_the_population_children_follow_and_not_random_plans(
    proxy: Proxy, table: OptionTable
) -> None:
    few = OptionTable({site: options[:2] for site, options in table.items()}, table.fixed, spaces(table))
    found = search_front(proxy, few, trials=40, population=40)
    choices = {site: {option.choice for option in options} for site, options in few.items()}
    assert all(choice in choices[site] for one in found for site, choice in one.plan)


def test_where_another_process_scored_initial_plans_children_follow_and_not_random_plans(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    few = OptionTable({s: [*opts[:2], *opts[-2:]] for s, opts in table.items()}, table.fixed, spaces(table))
    other = store_at(tmp_path / "other.db")
    search_front(proxy, few, trials=19, population=20, store=other)
    store = store_at(tmp_path / "s.db")
    progress = AppendAfter(1, StudyStore.read(store.url, "s"), other.study.trials[1:])
    search_front(proxy, few, trials=120, population=60, store=store, progress=progress)
    choices = {site: {option.choice for option in options} for site, options in few.items()}
    assert all(choice in choices[site] for one in store.candidates() for site, choice in one.plan)


def test_children_are_drawn_after_trials_that_the_table_cannot_express(
    proxy: Proxy, table: OptionTable, tmp_path: Path
) -> None:
    few = OptionTable({s: [*opts[:2], *opts[-2:]] for s, opts in table.items()}, table.fixed, spaces(table))
    how: dict[str, Any] = {"population": 6, "initial_plans": False}
    search_front(proxy, few, trials=6, sampler="random", store=store_at(tmp_path / "s.db"), **how)
    found = search_front(proxy, few, trials=24, store=store_at(tmp_path / "s.db"), **how)
    assert len({one.plan for one in found}) == 24


@pytest.mark.parametrize("objectives", [("loss",), ("params", "macs"), ("loss", "params"), ("macs", "loss")])
def test_a_search_has_any_objectives_in_any_order(net: Any, images: Any, keeps: Any, objectives: Any) -> None:
    proxy = Proxy(net, images, objectives=objectives, methods=["svd", "tucker2"], refit=False)
    found = search_front(proxy, proxy.table(keeps), trials=20, population=6)
    assert all(tuple(one.costs) == objectives for one in found)
    assert len({one.plan for one in found}) == 20


def test_the_front_of_children_is_larger_than_that_of_plain_samplers(proxy: Proxy, wide: OptionTable) -> None:
    how: dict[str, Any] = {"trials": 60, "population": 16, "initial_plans": False}
    volumes = {
        name: [Front.of(search_front(proxy, wide, seed=seed, sampler=name, **how)).volume for seed in (0, 1)]
        for name in ("surrogate", "nsga2", "tpe", "random")
    }
    assert all(min(volumes["surrogate"]) > max(volumes[name]) for name in ("nsga2", "tpe", "random")), volumes


def test_children_enlarge_the_front_of_the_initial_plans(store: StudyStore) -> None:
    found = store.candidates()
    assert Front.of(found).volume > Front.of(found[:POPULATION]).volume > 0
