"""What a user takes out of the search space by hand is in no plan, and is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import residual_net

from lrf_optuna.decompositions.registry import chain_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites, inventory_rows
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.space_limits import SpaceLimits

if TYPE_CHECKING:
    from lrf_optuna.models.inventory import Inventory

IMAGES = np.random.default_rng(0).standard_normal((32, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> Any:
    return residual_net()


@pytest.fixture(scope="module")
def inventory(net: Any) -> Inventory:
    return find_sites(net)


def names(found: Inventory) -> list[str]:
    return [site.name for site in found.sites]


def test_a_layer_that_is_excluded_is_no_site_and_says_why(inventory: Inventory) -> None:
    found = SpaceLimits(exclude=["s*", "top"]).apply(inventory)
    assert names(found) == [name for name in names(inventory) if name not in ("stem", "short", "top")]
    rows = {row["layer"]: row for row in inventory_rows(found)}
    assert rows["short"]["reason"] == "left out by --exclude"
    assert not rows["short"]["methods"]
    assert (found.params, found.macs) == (inventory.params, inventory.macs)


def test_of_only_some_layers_the_excluded_ones_are_left_out(inventory: Inventory) -> None:
    found = SpaceLimits(only=["d*", "hidden"], exclude=["down"]).apply(inventory)
    assert names(found) == ["deep", "hidden"]
    reasons = {row.path: row.reason for row in found.rows}
    assert (reasons["stem"], reasons["down"]) == ("left out by --only", "left out by --exclude")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"exclude": ["hiden"]}, "--exclude 'hiden' fits no layer; near it: hidden"),
        ({"only": ["depe*"]}, "--only 'depe*' fits no layer that can be factorized; near it: deep"),
        ({"only": ["norm"]}, "fits no layer that can be factorized"),
        ({"exclude": ["qqq"]}, "there is: "),
        ({"layers": {"tpo": {}}}, "[layers.'tpo'] fits no layer that can be factorized; near it: top"),
        ({"layers": {"top": {"methods": ["svdd"]}}}, "did you mean 'svd'"),
        ({"layers": {"top": {"kep": 1}}}, """unknown key in [layers."top"]: 'kep' (did you mean 'keep'?)"""),
        ({"layers": {"top": {"keep": (0.9, 0.2)}}}, """[layers."top"] keep should be the least and the largest"""),
        ({"exclude": "top"}, "should be a list of patterns"),
        ({"rank_multiple": 0}, "rank_multiple should be 1 or more"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused_in_one_line(
    inventory: Inventory, limits: dict[str, Any], words: str
) -> None:
    with pytest.raises(LrfError) as caught:
        SpaceLimits(**limits).apply(inventory)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_of_several_patterns_each_key_counts_as_the_last_one_says(inventory: Inventory) -> None:
    layers = {"*": {"keep": (0.2, 0.6), "methods": ["cp"]}, "deep": {"keep": (0.5, 1)}, "hidden": {"methods": ["svd"]}}
    sites = {site.name: site.limits for site in SpaceLimits(layers=layers).apply(inventory).sites}
    assert (sites["deep"].least, sites["deep"].most, sites["deep"].methods) == (0.5, 1, ("cp",))
    assert (sites["hidden"].least, sites["hidden"].most, sites["hidden"].methods) == (0.2, 0.6, ("svd",))


def test_a_layer_for_which_limits_leave_only_itself_is_left_out(inventory: Inventory) -> None:
    layers = {"hidden": {"methods": ["cp"]}, "deep": {"keep": (1, 1)}, "down": {"methods": ["intact"]}}
    found = SpaceLimits(layers=layers).apply(inventory)
    reasons = {row.path: row.reason for row in found.rows}
    assert all(reasons[name].startswith("left out by [layers]") for name in layers)
    assert not set(layers) & set(names(found))


def test_the_option_table_has_only_choices_within_the_limits(net: Any) -> None:
    layers = {"*": {"keep": (0.3, 0.7)}, "deep": {"methods": ["tucker2", "cp"], "keep": (0.4, 1)}}
    limits = SpaceLimits(exclude=["top", "short"], layers=layers, rank_multiple=2)
    proxy = Proxy(net, IMAGES, limits=limits)
    table = proxy.table()
    assert set(table) == {"stem", "down", "deep", "hidden"}
    assert {option.choice.method for option in table["deep"]} <= {"intact", "tucker2", "cp"}
    for name, options in table.items():
        site = proxy.sites[name]
        assert options
        methods, keeps = table.methods_and_keeps(name)
        assert methods == proxy.methods_of(name)
        for choice in [option.choice for option in options] + [
            proxy.choice(name, m, k) for m in methods for k in keeps
        ]:
            chain = chain_of(site.op, choice)
            assert site.limits.least <= chain.params / site.op.params <= site.limits.most
            assert choice.method == "intact" or all(stage.cout % 2 == 0 for stage in chain.stages[:-1])


def test_limits_that_leave_a_layer_no_choice_are_refused(net: Any) -> None:
    with pytest.raises(LrfError, match=r"no choice for deep keeps 0.001 to 0.002 of its parameters"):
        Proxy(net, IMAGES, limits=SpaceLimits(layers={"deep": {"keep": (0.001, 0.002)}}))


def test_layers_that_stay_need_no_second_fit_when_another_is_left_out(net: Any, tmp_path: Any) -> None:
    fitted = Proxy(net, IMAGES, cache=tmp_path)
    whole = fitted.table((0.3, 0.6))
    proxy = Proxy(net, IMAGES, cache=tmp_path, limits=SpaceLimits(exclude=["top"]))
    found = proxy.table((0.3, 0.6))
    assert "moments" not in vars(proxy)
    assert all([o.choice for o in found[name]] == [o.choice for o in whole[name]] for name in found)
