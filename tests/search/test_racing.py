"""A race gives what scoring in full gives, stops only what the front beats, and does not depend on the threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lrf_optuna.plans.front import Front
from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import plan_of
from lrf_optuna.scoring.proxy import Proxy, spread
from lrf_optuna.search.children import FORESIGHT
from lrf_optuna.search.interest import Interest, edges
from lrf_optuna.search.loop import search_front
from lrf_optuna.search.racing import DOUBT, LEARNT, Race, passing, scaled
from lrf_optuna.search.state import SearchState


@pytest.fixture(scope="module")
def proxy(net: Any) -> Proxy:
    """Scores on 64 images."""
    coarse = np.random.default_rng(1).standard_normal((256, 4, 4, 3))
    return Proxy(net, np.kron(coarse, np.ones((1, 2, 2, 1))).astype(np.float32))


@pytest.fixture(scope="module")
def table(proxy: Proxy, keeps: Any) -> Any:
    return proxy.table(keeps)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


@pytest.fixture
def plans(proxy: Proxy, table: Any) -> list[Plan]:
    """Different plans, from mild to wild."""
    rng = np.random.default_rng(0)
    picked = [{site: options[rng.integers(len(options))].choice for site, options in table.items()} for _ in range(60)]
    return list(dict.fromkeys(Plan.of(choices) for choices in picked))


def scored(race: Race, plans: list[Plan]) -> list[tuple[Measured, int]]:
    """Each plan, one after the other."""
    found = []
    for plan in plans:
        running = race.start(plan)
        race.advance(running)
        found.append((race.finish(running), running.images))
    return found


def candidate(proxy: Proxy, number: int, plan: Plan, measured: Measured) -> Candidate:
    return Candidate(number, plan, {name: cost(measured) for name, cost in proxy.objectives.items()})


def test_without_a_front_every_plan_is_scored_in_full_as_by_the_proxy(
    proxy: Proxy, plans: list[Plan], pool: ThreadPoolExecutor
) -> None:
    wanted = [proxy.measure(plan) for plan in plans]
    proxy.known.clear()
    race = Race(proxy, Front(), pool)
    found = scored(race, plans)
    assert len(race.learnt) > LEARNT, "later plans were scored in two passes"
    for (measured, images), want in zip(found, wanted, strict=True):
        assert images == len(proxy)
        assert (measured.params, measured.macs) == (want.params, want.macs)
        assert measured.similarity == pytest.approx(want.similarity, abs=1e-5)


def test_a_plan_that_the_front_beats_by_far_is_stopped_at_about_its_loss(
    proxy: Proxy, plans: list[Plan], pool: ThreadPoolExecutor
) -> None:
    front, known = Front(), plans[: LEARNT + 4]
    proxy.known.clear()
    race = Race(proxy, front, pool)
    for i, (plan, (measured, _)) in enumerate(zip(known, scored(race, known), strict=True)):
        front.add(candidate(proxy, i, plan, measured))
    front.add(Candidate(99, Plan(()), dict.fromkeys(proxy.objectives, 0.0)))
    for plan, (measured, images) in zip(plans[len(known) :], scored(race, plans[len(known) :]), strict=True):
        assert images == proxy.few < len(proxy)
        assert plan not in proxy.known, "an estimate is not remembered as if it were measured"
        true = proxy.measure(plan)
        assert (measured.params, measured.macs) == (true.params, true.macs)
        assert OBJECTIVES["loss"](measured) == pytest.approx(OBJECTIVES["loss"](true), rel=0.5, abs=1e-3)


def test_what_is_stopped_is_beaten_by_the_front_with_the_loss_it_is_given(proxy: Proxy, table: Any, keeps: Any) -> None:
    proxy.known.clear()
    found = search_front(proxy, table, trials=150, keeps=keeps, population=20)
    front = Front.of(one for one in found if one.plan in proxy.known)
    stopped = [one for one in found if one.plan not in proxy.known]
    assert stopped
    assert all(front.beats(np.array(list(one.costs.values()))) for one in stopped)
    assert all(proxy.costs(point.plan) == pytest.approx(point.costs, abs=1e-6) for point in Front.of(found).points)


def learnt(loss: float, vague: float = 0.0) -> list[tuple[float, float, float]]:
    """What there is to learn of plans that came to a loss, and to 0.2 on few images, of which nothing was foreseen.

    `vague`: standard deviation of the ratios, as logarithms.
    """
    signs = vague * (-1.0) ** np.arange(LEARNT)
    return [(np.log(0.2), np.log(loss) + sign, np.nan) for sign in signs]


def test_a_plan_that_would_add_next_to_nothing_is_left_and_the_front_beats_what_stands_for_it(
    proxy: Proxy, plans: list[Plan], pool: ThreadPoolExecutor
) -> None:
    measured = Measured(dict.fromkeys(proxy.reference, 0.8), 10, 20, 0.4, 0.5)
    front = Front.of([Candidate(0, Plan(()), {"loss": 0.195, "params": 0.4, "macs": 0.5})])
    race = Race(proxy, front, pool)
    race.learnt.extend(learnt(0.2))
    left = race.left(measured)
    assert left is not None
    assert OBJECTIVES["loss"](left) == pytest.approx(0.2)
    little = np.array([0.195 - 2e-5, 0.4, 0.5])
    assert not race.gains(little)
    assert race.gains(np.array([0.19, 0.4, 0.5]))
    race.learnt.clear()
    race.learnt.extend(learnt(0.195 - 2e-5))
    left = race.left(measured)
    assert left is not None
    assert 0.195 < OBJECTIVES["loss"](left) < 0.2, "a little more than is expected"
    assert front.beats(race.costs(left))
    race.learnt.clear()
    race.learnt.extend(learnt(0.18))
    assert race.left(measured) is None


def test_of_two_words_the_closer_one_counts(proxy: Proxy, pool: ThreadPoolExecutor) -> None:
    race, rng = Race(proxy, Front(), pool), np.random.default_rng(0)
    losses = rng.uniform(0.19, 0.21, LEARNT)
    vague, close = (losses * np.exp(sigma * rng.standard_normal(LEARNT)) for sigma in (0.2, 0.02))
    for few, foreseen, said in ((vague, close, (0.4, 0.2)), (close, vague, (0.2, 0.4))):
        race.learnt.clear()
        race.learnt.extend(zip(np.log(few), np.log(losses), np.log(foreseen), strict=True))
        expected, hoped = race.expected(*said) or (np.nan, np.nan)
        assert expected == pytest.approx(0.2, rel=0.05)
        assert np.log(expected / hoped) == pytest.approx(0.02 * DOUBT, rel=0.5)
    alone, _ = race.expected(0.2) or (np.nan, np.nan)
    assert alone == pytest.approx(0.2, rel=0.05), "nothing was foreseen"


def test_a_plan_that_may_well_be_a_gain_is_scored_on_all_images(proxy: Proxy, pool: ThreadPoolExecutor) -> None:
    measured = Measured(dict.fromkeys(proxy.reference, 0.8), 10, 20, 0.4, 0.5)
    race = Race(proxy, Front.of([Candidate(0, Plan(()), {"loss": 0.195, "params": 0.4, "macs": 0.5})]), pool)
    for vague, stopped in ((0.001, True), (0.1, False)):
        race.learnt.clear()
        race.learnt.extend(learnt(0.2, vague))
        assert (race.left(measured) is not None) == stopped


def test_nothing_is_foreseen_of_plans_that_are_not_of_the_table(proxy: Proxy, table: Any) -> None:
    hunt = SearchState(proxy, table, {}, seed=0)
    inside = [plan_of(hunt.any()) for _ in range(FORESIGHT)]
    assert hunt.breeder.foreseen(inside[0]) is None, "nothing was scored"
    for plan in inside:
        hunt.take(plan, proxy.costs(plan), OBJECTIVES["loss"](proxy.measure(plan)))
    foreseen, found = [hunt.breeder.foreseen(plan) for plan in inside], [one.costs["loss"] for one in hunt.found]
    assert np.corrcoef(np.log(np.array(foreseen, float)), np.log(found))[0, 1] > 0.9
    site = next(iter(table))
    assert hunt.breeder.foreseen(Plan.of({site: Choice("svd", (10**6,))})) is None


def test_near_a_limit_less_is_worth_a_full_score(proxy: Proxy, pool: ThreadPoolExecutor) -> None:
    front = Front.of([Candidate(0, Plan(()), {"loss": 0.2, "params": 0.4, "macs": 0.5})])
    names, point = tuple(proxy.objectives), np.array([0.2, 0.39995, 0.5])
    near, far = (Race(proxy, front, pool, looks=[Interest.of(names, {"params": most})]) for most in (0.4, 0.1))
    assert near.gains(point)
    assert not far.gains(point)
    assert not Race(proxy, front, pool, looks=[Interest.of(names, {})]).gains(point)
    assert not Race(proxy, front, pool).gains(point)


def test_a_gain_at_an_edge_is_worth_a_full_score_however_little_the_volume_gains(
    proxy: Proxy, pool: ThreadPoolExecutor
) -> None:
    costs = [{"loss": 0.001, "params": 0.4, "macs": 0.9999}, {"loss": 0.1, "params": 0.3, "macs": 0.2}]
    front = Front.of([Candidate(i, Plan(()), one) for i, one in enumerate(costs)])
    edged, plain = (Race(proxy, front, pool, looks=looks) for looks in (edges(tuple(proxy.objectives), {}), ()))
    point = np.array([0.0009, 0.4, 0.9999])
    assert edged.gains(point)
    assert not plain.gains(point)
    assert not edged.gains(np.array([0.0011, 0.4, 0.9999])), "that the front has"


def test_without_racing_every_trial_is_scored_in_full(proxy: Proxy, table: Any, keeps: Any) -> None:
    proxy.known.clear()
    found = search_front(proxy, table, trials=60, keeps=keeps, population=20, racing=False)
    assert all(one.plan in proxy.known for one in found)


class Tardy(ThreadPoolExecutor):
    """Threads that finish in any order."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # type: ignore[override]
        pause = np.random.default_rng().uniform(0, 0.01)
        return super().submit(lambda: (time.sleep(pause), work(*args, **kwargs))[1])


def test_the_order_in_which_passes_end_changes_nothing(
    proxy: Proxy, table: Any, keeps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(passes: int) -> list[Plan]:
        proxy.known.clear()
        return [one.plan for one in search_front(proxy, table, trials=60, keeps=keeps, population=20, passes=passes)]

    usual = found(3)
    assert found(1) == usual
    monkeypatch.setitem(search_front.__globals__, "passing", Tardy)
    assert found(3) == usual


def test_one_pass_at_a_time_is_made_by_the_thread_that_asks() -> None:
    here = threading.get_ident()
    with passing(1) as one, passing(2) as two:
        assert one.submit(threading.get_ident).result() == here
        assert two.submit(threading.get_ident).result() != here
        with pytest.raises(KeyError, match="a tap"):
            one.submit(lambda: {}["a tap"])


def test_an_error_of_a_pass_is_raised(proxy: Proxy, plans: list[Plan], pool: ThreadPoolExecutor) -> None:
    race = Race(proxy, Front(), pool)
    proxy.known.clear()
    running = race.start(plans[0])
    running.first = pool.submit(lambda: {}["a tap"])
    with pytest.raises(KeyError, match="a tap"):
        race.finish(running)


def test_scaling_changes_the_loss_alone() -> None:
    measured = Measured({"a": 0.9, "b": 0.7}, 10, 20, 0.1, 0.2)
    assert OBJECTIVES["loss"](scaled(measured, 0.5)) == pytest.approx(0.1)
    assert OBJECTIVES["params"](scaled(measured, 0.5)) == 0.1


def test_the_first_images_are_of_all_degrees_of_confidence_and_none_is_lost() -> None:
    rng = np.random.default_rng(0)
    logits = np.eye(10)[rng.integers(10, size=40)] * np.linspace(1, 2, 40)[:, None] + 0.5
    order = spread({"taps": rng.normal(size=(40, 2, 2)), "logits": logits}, 8)
    assert sorted(order) == list(range(40))
    assert np.diff(np.sort(order[:8])).tolist() == [5] * 7


@pytest.mark.parametrize("logits", [np.ones((6, 1)), np.zeros((6, 3)), np.full((6, 2, 2), 3.0)])
def test_outputs_that_say_nothing_of_confidence_have_an_order_too(logits: np.ndarray[Any, Any]) -> None:
    assert sorted(spread({"logits": logits}, 2)) == list(range(6))
