"""Milliseconds as an objective: a table of another device decides a study alone, and stays with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
from end_to_end.test_run import FAST, Heard, arrays, ran, trials
from support.latency import planted_table
from typer.testing import CliRunner

from lrf_optuna.cli.app import app
from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.models.inventory import find_sites
from lrf_optuna.pipeline.run import Run
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.latency import LATENCY, read_latencies
from lrf_optuna.storage.study import plan_of

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

OBJECTIVES = ("loss", "params", LATENCY)
MEASURING = "milliseconds"
"""Beginning of the tasks that time something."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, digits_net: Any, digits: Data) -> Path:
    """A folder with net.keras, net.npz, and phone.csv with the milliseconds of its layers."""
    folder = tmp_path_factory.mktemp("desk")
    digits_net.save(folder / "net.keras")
    np.savez(folder / "net.npz", **arrays(digits))
    table = planted_table(find_sites(digits_net, (8, 8, 1)).sites, FAST["search.methods"], FAST["search.keep"])
    (folder / "phone.csv").write_text(table.to_csv())
    return folder


@pytest.fixture
def spec(desk: Path) -> StudySpec:
    """The study of the digits with the table of a device, without a clock."""
    plain = StudySpec(
        name="net",
        model=ModelSpec(path=str(desk / "net.keras")),
        data=DataSpec(path=str(desk / "net.npz"), divide=16),
    )
    timed = {"search.objectives": OBJECTIVES, "search.by": "loss", "latency.latency_table": str(desk / "phone.csv")}
    return plain.override(FAST | timed)


def latencies(folder: Path) -> list[tuple[Plan, float]]:
    """The plan and the latency of every trial of a study."""
    return [(plan_of(t), t.values[OBJECTIVES.index(LATENCY)]) for t in trials(folder)]


def check_sums(folder: Path, table_file: Path, net: Any) -> None:
    """Every trial's latency is the sum over the layers in the table."""
    sites = {site.name: site for site in find_sites(net, (8, 8, 1)).sites}
    table = read_latencies(table_file)
    for plan, share in latencies(folder):
        assert share == pytest.approx(table.plan_share(sites, plan), rel=1e-4)


def test_a_table_decides_a_study_without_a_clock_and_equal_runs_are_equal(
    spec: StudySpec, desk: Path, digits_net: Any, tmp_path: Path
) -> None:
    heard = Heard()
    one, other = ran(spec, tmp_path / "one", heard), ran(spec, tmp_path / "other")
    assert not [label for label in heard.labels if label.startswith(MEASURING)]
    assert [t.values for t in trials(tmp_path / "one")] == [t.values for t in trials(tmp_path / "other")]
    assert one.chosen == other.chosen
    check_sums(tmp_path / "one", desk / "phone.csv", digits_net)
    assert len({round(share, 6) for _, share in latencies(tmp_path / "one")}) > 3
    assert not one.original.milliseconds
    assert one.place == ""


def test_a_study_goes_on_with_its_own_table_where_none_is_given(
    spec: StudySpec, desk: Path, digits_net: Any, tmp_path: Path
) -> None:
    ran(spec, tmp_path, search_trials=4)
    own = (tmp_path / "latency.csv").read_bytes()
    heard = Heard()
    without = StudySpec.from_json(json.dumps(json.loads(spec.model_dump_json()) | {"latency": {"time_at_end": False}}))
    assert without.latency.latency_table is None
    assert ran(without, tmp_path, heard, search_trials=8).trials == 8
    assert not [label for label in heard.labels if label.startswith(MEASURING)]
    assert (tmp_path / "latency.csv").read_bytes() == own
    check_sums(tmp_path, desk / "phone.csv", digits_net)


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_study_whose_milliseconds_are_gone_or_changed_does_not_go_on(
    spec: StudySpec, tmp_path: Path, change: str
) -> None:
    ran(spec, tmp_path, search_trials=3)
    file = tmp_path / "latency.csv"
    if change == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text() + "\n")
    without = StudySpec.from_json(json.dumps(json.loads(spec.model_dump_json()) | {"latency": {"time_at_end": False}}))
    with pytest.raises(LrfError, match=r"latency\.csv .*the study's trials are measured by it: bring it back"):
        ran(without, tmp_path, search_trials=6)
    assert len(trials(tmp_path)) == 3


def test_a_table_that_another_study_left_in_the_folder_is_not_used(
    spec: StudySpec, desk: Path, digits_net: Any, tmp_path: Path
) -> None:
    lines = (desk / "phone.csv").read_text().splitlines()
    (tmp_path / "latency.csv").write_text("\n".join(f"{line}9" if ",tucker2," in line else line for line in lines))
    ran(spec, tmp_path, search_trials=4)
    check_sums(tmp_path, desk / "phone.csv", digits_net)
    assert "(table " in (tmp_path / "latency.csv").read_text().splitlines()[0]


def test_another_runtime_or_table_for_the_same_study_is_refused(spec: StudySpec, desk: Path, tmp_path: Path) -> None:
    ran(spec, tmp_path / "run", search_trials=3)
    for change in ({"latency.runtime": "onnx"}, {"latency.threads": 2}, {"latency.runtime_batch": 8}):
        with pytest.raises(LrfError, match="another latency"):
            Run.open(spec.override(change), tmp_path / "run")
    faster = read_latencies(desk / "phone.csv").to_csv().replace("# rank multiple: 1", "# rank multiple: 1 ")
    head, *rows = faster.splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([head, *rows[:2], *(f"{row}1" for row in rows[2:])]) + "\n")
    with pytest.raises(LrfError, match="another place of the latency"):
        ran(spec.override({"latency.latency_table": str(other)}), tmp_path / "run", search_trials=4)


def test_a_target_of_milliseconds_makes_them_an_objective_and_is_met(spec: StudySpec, tmp_path: Path) -> None:
    plain = spec.model_dump()
    del plain["search"]["objectives"]
    found = StudySpec.model_validate(plain, strict=False).override({"search.targets": {LATENCY: "0.6"}})
    assert found.search.objectives == OBJECTIVES
    result = ran(found, tmp_path, search_trials=12)
    assert result.chosen.costs[LATENCY] <= 0.6
    assert "latency <= 0.6" in result.why


def test_a_target_of_milliseconds_out_of_reach_is_refused_before_the_search(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "--model", str(desk / "net.keras"), "--data", str(desk / "net.npz"), "--divide", "16"]
    options = ["--latency-table", str(desk / "phone.csv"), "--target", "latency=0.01", "--calibration", "64"]
    outcome = CliRunner().invoke(app, [*command, *options, "--methods", "svd,tucker2", "--keep", "0.2,0.4,0.7"])
    assert outcome.exit_code == 2
    assert "the target latency=0.01 is out of reach" in " ".join(outcome.stderr.split())
    (database,) = tmp_path.rglob("study.db")
    (name,) = optuna.study.get_all_study_names(f"sqlite:///{database}")
    assert not optuna.load_study(study_name=name, storage=f"sqlite:///{database}").trials
