"""Seeds are parents, `trials` is a total, the volume of the front never falls, and targets are constraints."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from lrf_optuna.allocate import competitive, plan_of
from lrf_optuna.pareto import front
from lrf_optuna.plan import Candidate
from lrf_optuna.proxy import Proxy
from lrf_optuna.search import fixed_share, search, seeds, space, stream
from lrf_optuna.storage import Record

GENERATION = "NSGAIISampler:generation"
OBJECTIVES = ("loss", "params", "macs")
POPULATION = 16


def record_at(path: Path) -> Record:
    return Record.open(f"sqlite:///{path}", "s", objectives=OBJECTIVES, question={})


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


def test_the_front_is_the_one_that_optuna_finds(recorded: Record) -> None:
    study = optuna.load_study(study_name="s", storage=recorded.url)
    found = {tuple(point.costs.values()) for point in front(recorded.candidates())}
    assert found == {tuple(trial.values) for trial in study.best_trials}
