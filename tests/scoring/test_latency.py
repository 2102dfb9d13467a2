"""Milliseconds of plans are sums over their layers, come back from files, and follow whole networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.latency import PlantedTimer, planted_time

from lrf_optuna.chains.conv import Conv
from lrf_optuna.chains.site import Site
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.latency import (
    LATENCY,
    LEAST_SHARE,
    FileTimer,
    LatencyTable,
    check_layers,
    latencies_of,
    read_latencies,
    scaled_table,
)
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.space_limits import SpaceLimits

OBJECTIVES = ("loss", "params", LATENCY)
METHODS = ("svd", "channel_svd", "tucker2")
CONV = Site("a", Conv((3, 3), 24, 24, (1, 1), (1, 1), "same"), ((8, 8),))
DENSE = Site("b", Conv((), 96, 80, (), ()), ((),))
SITES = {site.name: site for site in (CONV, DENSE)}
TABLE = LatencyTable(
    "a device, 1 thread",
    10.0,
    {
        "a": {INTACT: 4.0, Choice("tucker2", (8, 8)): 1.0},
        "b": {INTACT: 3.0, Choice("svd", (8,)): 1.0, Choice("svd", (16,)): 3.0},
    },
    rank_multiple=8,
)

TIMES = st.floats(1e-6, 1e4)
CHOICES = st.builds(
    Choice, st.sampled_from(["intact", "svd", "my own"]), st.lists(st.integers(1, 999), max_size=3).map(tuple)
)
NAMES = st.sampled_from(["conv1", "block/conv,1", "#1", 'with "quotes"', "größe", "network"])


@given(TIMES, st.dictionaries(NAMES, st.dictionaries(CHOICES, TIMES, min_size=1), max_size=4), st.integers(1, 64))
def test_a_table_is_the_same_after_a_trip_through_its_file(
    original: float, layers: dict[str, dict[Choice, float]], multiple: int
) -> None:
    found = latencies_of(LatencyTable("a: place, 1 thread", original, layers, rank_multiple=multiple).to_csv(), "file")
    assert (found.place, found.rank_multiple) == ("a: place, 1 thread", multiple)
    assert found.original == pytest.approx(original, rel=1e-5)
    assert list(found.layers) == list(layers)
    for name, times in layers.items():
        assert found.layers[name] == pytest.approx(times, rel=1e-5)


def test_a_file_needs_no_remarks_and_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "phone.csv"
    path.write_bytes("layer,method,ranks,milliseconds\r\n,network,,2\r\nb,intact,,1\r\n\r\n".encode("utf-8-sig"))
    assert read_latencies(path) == LatencyTable(str(path), 2.0, {"b": {INTACT: 1.0}})


def test_the_share_of_a_plan_is_one_minus_what_its_layers_save() -> None:
    plan = Plan.of({"a": Choice("tucker2", (8, 8)), "b": Choice("svd", (8,))})
    assert TABLE.plan_share(SITES, plan) == pytest.approx(1 - (4 - 1 + 3 - 1) / 10)
    assert TABLE.plan_share(SITES, Plan(())) == TABLE.plan_share(SITES, Plan.of({"a": INTACT})) == 1
    slower = LatencyTable("", 10.0, {"b": {INTACT: 3.0, Choice("svd", (8,)): 5.0}})
    assert slower.plan_share(SITES, Plan.of({"b": Choice("svd", (8,))})) == pytest.approx(1.2)


def test_a_share_is_never_below_what_a_sum_of_differences_can_say() -> None:
    noisy = LatencyTable("", 1.0, {"b": {INTACT: 3.0, Choice("svd", (8,)): 1.0}})
    assert noisy.plan_share(SITES, Plan.of({"b": Choice("svd", (8,))})) == LEAST_SHARE


@pytest.mark.parametrize(("rank", "milliseconds"), [(8, 1.0), (12, 2.0), (16, 3.0), (4, 0.5), (32, 6.0)])
def test_between_measured_ranks_times_are_interpolated_and_beyond_them_proportional(
    rank: int, milliseconds: float
) -> None:
    assert TABLE.milliseconds(DENSE, Choice("svd", (rank,))) == pytest.approx(milliseconds)


def test_a_method_without_rows_is_refused_by_name() -> None:
    assert TABLE.has_method("b", "svd")
    assert not TABLE.has_method("b", "cp")
    for site, choice in ((DENSE, Choice("cp", (3,))), (Site("c", DENSE.op, DENSE.maps), Choice("svd", (3,)))):
        with pytest.raises(LrfError, match=f"no row of {choice.method} at {site.name}"):
            TABLE.milliseconds(site, choice)


HEAD = "layer,method,ranks,milliseconds\n"
WRONG = {
    "nothing": ("", "should begin with the line layer,method,ranks,milliseconds"),
    "another header": ("layer,method,ms\n", "should begin with the line layer,method,ranks,milliseconds"),
    "a column too few": (f"{HEAD},network,,2\nb,svd,8\n", "phone.csv, line 3: give layer,method,ranks,milliseconds"),
    "no number": (f"# place: x\n{HEAD},network,,2\nb,svd,8,fast\n", "phone.csv, line 4: give"),
    "no rank": (f"{HEAD},network,,2\nb,svd,eight,1\n", "phone.csv, line 3: give"),
    "a rank below one": (f"{HEAD},network,,2\nb,svd,-8,1\n", "phone.csv, line 3: give"),
    "a field without an end": (f"{HEAD}{'x' * 200_000}\n", "cannot read the latencies"),
    "a negative time": (f"{HEAD},network,,-2\n", "phone.csv, line 2: give"),
    "no finite time": (f"{HEAD},network,,inf\n", "phone.csv, line 2: give"),
    "not a number": (f"{HEAD},network,,nan\n", "phone.csv, line 2: give"),
    "no network": (f"{HEAD}b,intact,,1\n", "lacks the row of the whole original network: ,network,,MILLISECONDS"),
    "no multiple": (f"# rank multiple: 0\n{HEAD},network,,2\n", "the rank multiple should be 1 or more, but is '0'"),
    "multiple in words": (f"# rank multiple: four\n{HEAD},network,,2\n", "should be 1 or more, but is 'four'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_line(case: str, tmp_path: Path) -> None:
    text, words = WRONG[case]
    (tmp_path / "phone.csv").write_text(text)
    with pytest.raises(LrfError) as caught:
        read_latencies(tmp_path / "phone.csv")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe\x00"), lambda path: None])
def test_a_file_that_cannot_be_read_is_one_line(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "phone.csv")
    with pytest.raises(LrfError, match=r"cannot read the latencies .*phone\.csv"):
        read_latencies(tmp_path / "phone.csv")


def test_a_table_that_lacks_an_intact_layer_is_refused_with_the_row_to_add() -> None:
    check_layers(TABLE, SITES.values())
    with pytest.raises(LrfError, match="no row of the intact layer c: add c,intact,,MILLISECONDS"):
        check_layers(TABLE, [DENSE, Site("c", DENSE.op, DENSE.maps)])


def test_a_layer_that_takes_longer_than_the_network_is_refused() -> None:
    table = LatencyTable("phone.csv", 1.0, {DENSE.name: {INTACT: 50.0}})
    with pytest.raises(LrfError, match=f"cannot be right: {DENSE.name} takes 50 ms, and the whole network 1 ms"):
        check_layers(table, [DENSE])


@pytest.mark.parametrize(
    ("choice", "words"), [(Choice("svdd", (8,)), "unknown method 'svdd'"), (Choice("svd", (8, 8)), r"ranks \[8, 8\]")]
)
def test_a_row_of_no_method_or_of_other_ranks_is_refused_with_its_layer(choice: Choice, words: str) -> None:
    with pytest.raises(LrfError, match=f"a device, at b: .*{words}"):
        check_layers(LatencyTable("a device", 1.0, {"b": {INTACT: 1.0, choice: 1.0}}), [DENSE])


@pytest.fixture(scope="module")
def timed(net: Any, images: np.ndarray[Any, Any]) -> Proxy:
    """A proxy whose layers are faster in a network than alone, where one method cannot run."""
    timer = PlantedTimer(factor=0.8, lacks=frozenset({"tucker2"}))
    return Proxy(net, images, methods=METHODS, objectives=OBJECTIVES, timer=timer)


@pytest.fixture(scope="module")
def timed_table(timed: Proxy, keeps: tuple[float, ...]) -> OptionTable:
    return timed.table(keeps)


@pytest.mark.usefixtures("timed_table")
def test_layers_are_scaled_by_what_they_take_in_whole_networks(timed: Proxy) -> None:
    assert timed.latencies
    for name, times in timed.latencies.layers.items():
        for choice, time in times.items():
            assert time == pytest.approx(0.8 * planted_time(timed.sites[name], choice))
    assert timed.latencies.error == pytest.approx(0, abs=1e-9)
    assert timed.latencies.rank_multiple == 4


def test_a_factor_is_recovered_from_noisy_networks_and_the_error_is_said(timed: Proxy) -> None:
    last = {name: timed.methods_of(name)[-1] for name in timed.sites}
    plans = [
        Plan.of({name: timed.choice(name, method, keep) for name, method in last.items()})
        for keep in (0.2, 0.35, 0.5, 0.7)
    ]
    layers = PlantedTimer().layers(timed, {name: {dict(plan)[name] for plan in plans} for name in last})
    found = scaled_table(PlantedTimer(factor=1.5, noise=0.02), timed, layers, plans)
    assert found.layers["deep"][INTACT] == pytest.approx(1.5 * layers["deep"][INTACT], rel=0.1)
    assert found.error == pytest.approx(0.02, rel=0.5)


def test_a_method_that_the_runtime_cannot_run_leaves_the_search_space(
    proxy: Proxy, timed: Proxy, timed_table: OptionTable
) -> None:
    assert any("tucker2" in proxy.methods_of(name) for name in proxy.sites)
    for name, options in timed_table.items():
        assert {option.method for option in options} <= {"intact", "svd", "channel_svd"}
        assert "tucker2" not in timed.methods_of(name)
        assert "tucker2" not in timed_table.methods_and_keeps(name)[0]


def test_a_choice_that_the_runtime_cannot_run_is_no_option_where_others_of_its_method_are(
    net: Any, images: np.ndarray[Any, Any], timed: Proxy, keeps: tuple[float, ...]
) -> None:
    lacking = timed.choice("deep", "channel_svd", 0.35)
    timer = PlantedTimer(lacks=frozenset({str(lacking)}))
    proxy = Proxy(net, images, methods=("channel_svd",), objectives=OBJECTIVES, timer=timer)
    found = {option.choice for option in proxy.table(keeps)["deep"]}
    assert lacking not in found
    assert timed.choice("deep", "channel_svd", 0.7) in found


def test_the_latency_of_a_plan_is_its_share_in_the_option_table(timed: Proxy, timed_table: OptionTable) -> None:
    assert timed_table.sizes == ("params", LATENCY)
    rng = np.random.default_rng(0)
    for row in rng.integers(0, timed_table.counts, (10, len(timed_table))):
        share = float(timed_table.share(row[None], LATENCY)[0])
        assert timed.costs(timed_table.decode(row))[LATENCY] == pytest.approx(share)
    assert timed.costs(Plan(()))[LATENCY] == pytest.approx(1)


def test_latency_as_an_objective_needs_a_timer(net: Any, images: np.ndarray[Any, Any]) -> None:
    with pytest.raises(LrfError, match="give a `timer`"):
        Proxy(net, images, objectives=OBJECTIVES)


def test_a_file_in_the_place_of_a_clock_gives_its_own_sums(timed: Proxy, timed_table: OptionTable) -> None:
    assert timed.latencies
    timer = FileTimer(latencies_of(timed.latencies.to_csv(), "file"))
    wanted = {name: [option.choice for option in options] for name, options in timed_table.items()}
    plans = [timed_table.decode(timed_table.counts - 1), timed_table.decode(timed_table.counts // 2)]
    found = scaled_table(timer, timed, timer.layers(timed, wanted), plans)
    assert (found.place, found.rank_multiple, found.error) == ("a planted machine", 4, None)
    for name, times in found.layers.items():
        assert times == pytest.approx({c: timed.latencies.layers[name][c] for c in times}, rel=1e-4)


def test_a_layer_whose_limits_leave_only_methods_without_times_is_refused(
    net: Any, images: np.ndarray[Any, Any], keeps: tuple[float, ...]
) -> None:
    limits = SpaceLimits(layers={"deep": {"keep": (0.1, 0.6), "methods": ["tucker2"]}})
    timer = PlantedTimer(lacks=frozenset({"tucker2"}))
    proxy = Proxy(net, images, methods=METHODS, objectives=OBJECTIVES, timer=timer, limits=limits)
    with pytest.raises(LrfError, match=r"no choice for deep .* and has milliseconds"):
        proxy.table(keeps)
