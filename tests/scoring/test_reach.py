"""What plans can reach is known before the search, and is what the smallest plan has."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers

from lrf_optuna.decompositions.registry import DECOMPOSITIONS, applicable_methods, choice_of
from lrf_optuna.errors import LrfError
from lrf_optuna.models.inventory import find_sites, plan_counts
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.option_table import Shares
from lrf_optuna.scoring.reach import check_targets, least_shares, reach_text

KEEPS = (0.3, 0.6)


def sequences_net() -> Any:
    inputs = keras.Input((20, 16))
    x = layers.LSTM(32, return_sequences=True, name="lstm")(inputs)
    x = layers.Conv1D(24, 3, name="conv")(x)
    return keras.Model(inputs, layers.Dense(10, name="top")(layers.Flatten()(x)))


def test_the_least_shares_are_those_of_the_smallest_plan() -> None:
    inventory = find_sites(sequences_net())
    least = least_shares(inventory, tuple(DECOMPOSITIONS), KEEPS)
    found = []
    for turn in range(12):
        choices = {}
        for site in inventory.sites:
            options = [choice_of(site.op, method, keep) for method in applicable_methods(site.op) for keep in KEEPS]
            choices[site.name] = options[turn % len(options)]
        params, macs = plan_counts(inventory, Plan.of(choices))
        found.append((params / inventory.params, macs / inventory.macs))
    assert all(params >= least.params and macs >= least.macs for params, macs in found)
    assert least.macs > 4 * 32 * 32 * 20 / inventory.macs  # the recurrent kernel stays


def test_a_target_below_the_least_share_is_refused_with_a_target_that_is_not() -> None:
    least = Shares(0.123412, 0.3)
    with pytest.raises(LrfError, match=r"the target params=0.1 is out of reach: no plan has less than 12.34%.*=0.1235"):
        check_targets({"params": 0.1, "macs": 0.5}, least)
    check_targets({"params": 0.1235, "macs": 0.3}, least)
    check_targets({}, least)


def test_what_can_be_reached_is_said_of_what_is_limited_and_counted() -> None:
    assert reach_text({"macs": 0.5}, Shares(0.1, 0.31), ()) == "plans can go down to 31.0% of the MACs"
    both = reach_text({"macs": 0.5, "params": 0.5}, Shares(0.1, 0.31), ["own"])
    assert both == "plans can go down to 10.0% of the parameters and 31.0% of the MACs that are counted"
    assert reach_text({}, Shares(0.1, 0.31), ()) == ""
