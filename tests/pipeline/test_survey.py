"""`layers --all-methods`: what every method makes of every layer, against the rooms that its figures come from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.fitting import error, fit
from typer.testing import CliRunner

from lrf_optuna.chains.chain import Chain
from lrf_optuna.cli.app import app
from lrf_optuna.decompositions.registry import applicable_methods, chain_of, choice_of, compose
from lrf_optuna.models.inventory import Inventory, find_sites
from lrf_optuna.models.layer_kinds import read_kernel
from lrf_optuna.pipeline.survey import MethodRow, survey
from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.report.tables import survey_table
from lrf_optuna.scoring.proxy import Proxy

Array = np.ndarray[Any, Any]
GRID = (0.2, 0.4, 0.6)


@pytest.fixture(scope="module")
def inventory(net: Any) -> Inventory:
    return find_sites(net)


@pytest.fixture(scope="module")
def of_weights(net: Any, inventory: Inventory) -> list[MethodRow]:
    return survey(net, inventory, keeps=GRID)


@pytest.fixture(scope="module")
def of_outputs(net: Any, inventory: Inventory, images: Array) -> list[MethodRow]:
    return survey(net, inventory, keeps=GRID, images=images)


def choice_in(row: MethodRow) -> Choice:
    return Choice(row.method, row.ranks) if row.saves else INTACT


def test_there_is_a_row_for_every_site_method_and_keep(inventory: Inventory, of_weights: list[MethodRow]) -> None:
    wanted = [
        (s.name, method, keep) for s in inventory.sites for method in applicable_methods(s.op)[1:] for keep in GRID
    ]
    assert [(row.layer, row.method, row.keep) for row in of_weights] == wanted


def test_ranks_and_costs_are_those_of_the_chain(inventory: Inventory, of_weights: list[MethodRow]) -> None:
    sites = {site.name: site for site in inventory.sites}
    for row in of_weights:
        site, choice = sites[row.layer], choice_in(row)
        assert choice == choice_of(site.op, row.method, row.keep)
        chain = chain_of(site.op, choice)
        assert (row.params, row.macs) == (chain.params, site.macs(chain))
        assert row.params_share == row.params / site.op.params
        assert row.macs_share == row.macs / site.macs(Chain((site.op,)))
        assert (row.params_share < 1) == row.saves


def test_without_images_the_error_is_that_of_the_weights(
    net: Any, inventory: Inventory, of_weights: list[MethodRow]
) -> None:
    sites = {site.name: site for site in inventory.sites}
    for row in of_weights:
        op, kernel, choice = sites[row.layer].op, read_kernel(net.get_layer(row.layer)), choice_in(row)
        assert row.error == error(op, kernel, compose(op, choice, fit(op, choice, kernel, None)), None)
        assert row.saves == (row.error > 0)


def test_with_images_the_error_is_that_of_a_search(net: Any, images: Array, of_outputs: list[MethodRow]) -> None:
    proxy = Proxy(net, images)
    for row in of_outputs:
        assert row.error == pytest.approx(proxy.kernels.error(row.layer, choice_in(row)), rel=1e-4, abs=1e-9)


def test_images_change_errors_but_neither_ranks_nor_costs(
    of_weights: list[MethodRow], of_outputs: list[MethodRow]
) -> None:
    for plain, aware in zip(of_weights, of_outputs, strict=True):
        assert (plain.ranks, plain.params, plain.macs) == (aware.ranks, aware.params, aware.macs)
    assert [row.error for row in of_weights] != [row.error for row in of_outputs]


@pytest.fixture
def desk(digits_net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.keras in it."""
    digits_net.save(tmp_path / "net.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def layers(*options: str) -> Any:
    return CliRunner().invoke(app, ["layers", *options], env={"COLUMNS": "120", "NO_COLOR": "1"})


@pytest.mark.usefixtures("desk")
def test_json_has_every_row_and_says_what_the_errors_are_of(digits_net: Any) -> None:
    outcome = layers("net.keras", "--all-methods", "--json", "--keeps", "0.3,0.5")
    assert outcome.exit_code == 0, outcome.stderr
    table = json.loads(outcome.stdout)
    assert (table["error_of"], table["images"], table["trained"]) == ("weights", 0, True)
    rows = survey(digits_net, find_sites(digits_net), keeps=(0.3, 0.5))
    assert [(row["layer"], row["method"], tuple(row["ranks"])) for row in table["layers"]] == [
        (row.layer, row.method, row.ranks) for row in rows
    ]
    assert [row["error"] for row in table["layers"]] == pytest.approx([row.error for row in rows], rel=1e-4)


@pytest.mark.usefixtures("desk")
def test_with_data_the_errors_are_of_outputs() -> None:
    options = ("net.keras", "--all-methods", "--keeps", "0.4", "--data", "digits", "--divide", "16")
    table = json.loads(layers(*options, "--calibration", "64", "--json").stdout)
    assert (table["error_of"], table["images"]) == ("outputs", 64)
    plain = json.loads(layers("net.keras", "--all-methods", "--keeps", "0.4", "--json").stdout)
    assert [row["ranks"] for row in table["layers"]] == [row["ranks"] for row in plain["layers"]]
    assert [row["error"] for row in table["layers"]] != [row["error"] for row in plain["layers"]]


@pytest.mark.usefixtures("desk")
def test_the_table_names_every_layer_and_method_and_says_what_the_errors_are_of() -> None:
    printed = layers("net.keras", "--all-methods").stdout
    assert "of the layer's weights" in printed
    assert all(word in printed for word in ("second", "hidden", "channel_svd", "tucker2"))
    assert "untrained" not in printed
    fitted = ("--data", "digits", "--divide", "16", "--calibration", "64")
    printed = " ".join(layers("net.keras", "--all-methods", *fitted).stdout.split())  # a title may go over two lines
    assert "outputs, with 64 calibration images" in printed


def test_the_table_says_where_no_chain_is_smaller() -> None:
    row = MethodRow("small", "svd", 0.5, False, (), 6, 1.0, 6, 1.0, 0.0)
    shown = Console(width=100, file=io.StringIO(), record=True)
    shown.print(survey_table([row], "title"))
    assert "no smaller chain" in shown.export_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keeps", "0.2"), "--all-methods"),
        (("--data", "digits"), "--all-methods"),
        (("--all-methods", "--divide", "16"), "--data"),
        (("--all-methods", "--keeps", "lots"), "--keep should be a valid number, but got 'lots'"),
        (("--all-methods", "--keeps", "0.2,3"), "3"),
        (("--all-methods", "--data", "nowhere.npz"), "nowhere.npz"),
    ],
)
@pytest.mark.usefixtures("desk")
def test_options_that_do_not_fit_are_one_line(options: tuple[str, ...], words: str) -> None:
    outcome = layers("net.keras", *options)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
