"""The networks that the benchmarks make are those of their papers."""

from __future__ import annotations

import pytest

from benchmarks.coverage.classics import CLASSICS
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.models.load import describe_input

LITERATURE = {
    "alexnet": ((227, 227, 3), 1000, 60_965_224, {1, 2}),
    "squeezenet": ((224, 224, 3), 1000, 1_235_496, {1}),
}
"""Images, classes, parameters, and numbers of groups."""


@pytest.mark.parametrize("name", CLASSICS)
def test_a_classic_net_is_the_one_of_its_paper_and_all_its_weights_are_in_sites(name: str) -> None:
    model = CLASSICS[name](0, name)
    inventory = find_sites(model)
    assert model.name == name
    groups = {site.op.groups for site in inventory.sites}
    assert (*describe_input(model), model.count_params(), groups) == LITERATURE[name]
    assert all(row.site for row in inventory.rows if row.params)
