"""The benchmarks of what trials cost: seconds are counted once, watching changes nothing, tables say what was found."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna
import pytest
from support.search import store_at

from lrf_optuna.models.inventory import find_sites
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search.loop import search_front


@pytest.fixture(scope="module")
def stopwatch() -> ModuleType:
    return importlib.import_module("benchmarks.lib.stopwatch")


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    return importlib.import_module("benchmarks.cost.trial_cost")


@pytest.fixture(scope="module")
def long() -> ModuleType:
    return importlib.import_module("benchmarks.cost.long")


def same_width(page: str) -> bool:
    """Whether the lines of every table are as wide as its head."""
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    return bool(tables) and all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_a_part_within_another_counts_for_itself_only_and_no_second_is_lost(
    stopwatch: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(ticks))
    watch = stopwatch.Stopwatch()
    with watch.part("outer"):
        watch.timed("inner", lambda: None)()
        watch.timed("inner", lambda: None)()
    assert watch.wall == {"rest": 1, "outer": 3, "inner": 2}
    other = threading.Thread(target=watch.timed("elsewhere", lambda: None))
    other.start()
    other.join()
    assert "elsewhere" not in watch.wall


def test_what_is_wrapped_is_put_back(stopwatch: ModuleType) -> None:
    places = [stopwatch.found(place) for places in stopwatch.PARTS.values() for place in places]
    before = [vars(owner)[name] for owner, name in places]
    with stopwatch.Stopwatch().running():
        assert all(vars(owner)[name] is not there for (owner, name), there in zip(places, before, strict=True))
    assert [vars(owner)[name] for owner, name in places] == before


def test_a_watched_search_finds_what_it_finds_alone(
    stopwatch: ModuleType, net: Any, images: Any, table: Any, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"trials": 25, "population": 8}
    alone = search_front(Proxy(net, images), table, store=store_at(tmp_path / "alone.db"), **asked)
    proxy = Proxy(net, images)
    watch, unit = stopwatch.Stopwatch(), stopwatch.Unit(proxy)
    between = stopwatch.Between(watch, unit, every=10)
    with watch.running():
        found = search_front(proxy, table, store=store_at(tmp_path / "watched.db"), progress=between, **asked)
    assert found == alone
    assert len(unit.wall) == 2 * stopwatch.TIMES
    assert all(watch.wall[part] > 0 for part in (*stopwatch.PARTS, stopwatch.UNIT))
    assert watch.cpu[stopwatch.RECORDER] > 0
    assert len(between.came) == 25
    assert np.all(np.diff(between.came, axis=0) >= 0)


def test_the_unit_is_the_original_on_the_scored_images(stopwatch: ModuleType, net: Any, proxy: Proxy) -> None:
    unit = stopwatch.Unit(proxy)
    outputs = [unit.compiled(part) for part in unit.parts]
    assert sum(map(len, outputs)) == len(proxy.scored)
    np.testing.assert_allclose(np.concatenate(outputs), net(proxy.scored.images, training=False), atol=1e-5)


def test_a_naive_trial_is_scored_as_the_proxy_does_without_data(
    stopwatch: ModuleType, net: Any, images: Any, tmp_path: Path
) -> None:
    naive = importlib.import_module("benchmarks.lib.naive")
    plain = Proxy(net, images, refit=False)
    found = naive.naive(plain, stopwatch.Unit(plain), 2, tmp_path / "n.db")
    assert found["plans"] == 2
    assert all(seconds > 0 for seconds in found["wall"].values())
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path / 'n.db'}")
    for trial in optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{tmp_path / 'n.db'}").trials:
        plan = naive.drawn(plain, optuna.trial.FixedTrial(trial.params))
        assert len(trial.params) == 2 * len(plain.sites)
        assert trial.values == pytest.approx(list(plain.costs(plan).values()), abs=1e-5)


def test_the_seconds_of_a_search_are_those_of_its_parts(
    costs: ModuleType, stopwatch: ModuleType, net: Any, images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_optuna.scoring.screening.KEEP", (0.3, 0.6))
    proxy = Proxy(net, images)
    found = costs.search(proxy, stopwatch.Unit(proxy), 6, tmp_path / "s.db")
    assert set(found["wall"]) == {*stopwatch.PARTS, stopwatch.REST}
    assert 0 < found["first"] < sum(found["wall"].values())
    assert 0 < found["volume"] < 1
    assert store_at(tmp_path / "s.db").count() == 6


def measured(costs: ModuleType) -> dict[str, Any]:
    """Possible figures of a network of 4 layers: a unit of 10 ms, 100 trials of 5 ms."""
    parts = dict.fromkeys((*costs.PARTS, costs.REST), 0.0)
    search = {"unit": 0.01, "unit cpu": 0.02, "own cpu": parts | {"front": 0.1}, "recorder": 0.2, "cpu": 1.0}
    search |= {"first": 0.3, "volume": 0.505, "trials": 100, "wall": parts | {costs.REST: 0.5}}
    naive = {"plans": 2, "unit": 0.01, "wall": dict.fromkeys(costs.STEPS, 0.1)}
    sizes = {"network": "net", "layers": 4, "images": 128, "cores": 2, "trials": 100, "unit": 0.01}
    return sizes | {"search": search, "naive": naive, "cold": 2.0, "warm": 0.5, "set-up peak": 0.5, "peak": 0.75}


def test_the_page_of_costs_is_in_units(costs: ModuleType) -> None:
    page = costs.page([measured(costs)])
    assert same_width(page)
    assert "| net | 4 | 10.0 | **0.50** | 0.50 | 0.5050 | 20 |" in page
    assert " | 0.000 (0.000) | 0.500 (0.000) | 0.50 (0.10) | 0.200 | 0.3 |" in page
    assert "| net | 2.0 | 200 | 50.0 | 0.5 | 50 | 0.50 / 0.75 |" in page
    assert "| net | 5.0 | 5.0 | 5.0 | 5.0 | 20.0 |" in page
    assert "over the 128 images that score" in (words := " ".join(page.split()))
    assert "threads on 2 cores." in words


def test_trials_are_timed_around_a_place_and_at_the_end(long: ModuleType) -> None:
    assert [long.edges(at, 100, 5000) for at in (20, 200, 5000)] == [(0, 100), (150, 250), (4900, 5000)]
    came = [(i, 0.75 * i, 0.125 * i) for i in range(1, 11)]
    assert long.window(came, 2, 6) == {"ms": 1000, "own": 250, "cpu": 125, "mean": 1000}


@pytest.mark.parametrize("layers", [7, 30])
def test_the_deep_network_has_so_many_layers_and_its_signals_live(long: ModuleType, layers: int) -> None:
    model = long.deep(layers, 4)
    assert len(find_sites(model).sites) == layers
    images = np.random.default_rng(0).standard_normal((16, long.SIZE, long.SIZE, 3)).astype(np.float32)
    outputs = np.asarray(model(images))
    assert 0.01 < outputs.std(axis=0).min() < outputs.std(axis=0).max() < 100


def test_the_page_of_a_long_study_is_compared_with_the_first_place(long: ModuleType) -> None:
    around = {
        "200": {"ms": 20, "own": 10, "cpu": 5, "mean": 21},
        "5000": {"ms": 22, "own": 15, "cpu": 5, "mean": 23},
    }
    row = {"network": "net", "layers": 3, "trials": 5000, "seconds": 100, "database": 7.4, "resumed": 1.25}
    page = long.page([row | {"around": around, "memory": {"200": 0.5, "5000": 0.625}}])
    assert same_width(page)
    assert "| net | 5,000 | 22.0 | 1.10 | 15.0 | 1.50 | 5.0 | 1.00 | 23.0 | 0.62 |" in page
    assert "| net | 3 | 5,000 | 100 | 7 | 1.2 |" in page
