"""The front against other rules for ranks: every row there, every budget met, and the files say what is returned."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from rich.console import Console
from support.evaluation import accuracy
from typer.testing import CliRunner

from lrf_optuna.baselines.compare import BaselineComparison
from lrf_optuna.baselines.rules import baselines_of
from lrf_optuna.cli.app import app
from lrf_optuna.config import StudySpec
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.pipeline.build import build
from lrf_optuna.pipeline.compare import compare_run, comparison_of
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.plans.comparison import FILTERS, OURS, BudgetRows, Comparison, Row, Score, checked_budgets
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import INTACT
from lrf_optuna.report.run_charts import comparison_chart
from lrf_optuna.report.tables import budget_table, with_star
from lrf_optuna.scoring.objectives import Measured
from lrf_optuna.scoring.proxy import Proxy

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

BUDGETS = (0.6, 0.35, 0.001)
FAST: dict[str, Any] = {
    "search.trials": 16,
    "search.calibration": 64,
    "search.population": 6,
    "search.methods": ("svd", "channel_svd", "tucker2"),
    "search.keep": (0.2, 0.4, 0.7),
    "tune.epochs": 0,
    "latency.time_at_end": False,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, digits_net: Any, digits: Data) -> Run:
    """A study that was run; no test changes its folder but by comparing."""
    folder = tmp_path_factory.mktemp("compare") / "net"
    folder.parent.mkdir(exist_ok=True)
    digits_net.save(folder.parent / "net.keras")
    parts = {"train": digits.train, "val": digits.val, "test": digits.test}
    images, labels = {f"x_{n}": p.pixels for n, p in parts.items()}, {f"y_{n}": p.labels for n, p in parts.items()}
    np.savez(folder.parent / "net.npz", **images, **labels)
    plain = StudySpec(
        name="net",
        model=ModelSpec(path=str(folder.parent / "net.keras")),
        data=DataSpec(path=str(folder.parent / "net.npz"), divide=16),
    )
    work = Run.open(plain.override(FAST), folder)
    work.finish(work.search())
    return work


@pytest.fixture(scope="module")
def found(work: Run) -> Comparison:
    return compare_run(work, BUDGETS, test=True)


@pytest.fixture
def comparison(work: Run) -> BaselineComparison:
    return comparison_of(work)


def rows_of(found: Comparison) -> list[tuple[float, Row]]:
    return [(block.budget, row) for block in found.blocks for row in block.rows]


def called(*args: str) -> Any:
    return CliRunner().invoke(app, ["compare", *args], env={"COLUMNS": "160", "NO_COLOR": "1"})


def test_every_way_has_a_row_at_every_budget_ours_first(work: Run, found: Comparison) -> None:
    names = [OURS, *baselines_of(work.proxy), FILTERS]
    assert [block.budget for block in found.blocks] == list(BUDGETS)
    assert all([row.name for row in block.rows] == names for block in found.blocks)
    assert {"uniform tucker2", "minmax", "greedy"} < set(names)


def test_a_row_meets_its_budget_or_says_why_not(found: Comparison) -> None:
    for budget, row in rows_of(found):
        if row.reason:
            numbers = (row.params, row.macs, row.loss, row.fitted, row.plain, row.built, row.dominated)
            assert numbers == (None,) * 6 + (0,)
            continue
        assert row.params is not None
        assert row.macs is not None
        assert 0 < row.params <= budget
        assert 0 < row.macs < 1
        assert row.plain is not None
        assert (row.fitted is None) == (row.name == FILTERS)
    reasons = [row.reason for budget, row in rows_of(found) if budget == min(BUDGETS)]
    assert all(reasons), "no network is that small"


def test_our_point_is_on_the_front_and_as_good_as_choosing_found_it(work: Run, found: Comparison) -> None:
    points = {point.trial: point for point in pareto_front(work.record.candidates())}
    for budget, row in rows_of(found):
        if row.name == OURS and not row.reason:
            assert row.trial is not None
            point = points[row.trial]
            assert (row.params, row.macs, row.loss) == pytest.approx(
                tuple(point.costs[name] for name in ("params", "macs", "loss")), abs=1e-6
            )
            assert row.fitted is not None
            assert row.fitted.val == pytest.approx(work.validation.of(work.proxy.dense_kernels(point.plan)))
            assert f"params <= {budget:g}" in row.source


def test_plain_kernels_are_those_of_a_proxy_that_fits_nothing(work: Run, comparison: BaselineComparison) -> None:
    plain = Proxy(work.model, work.data.preprocess(work.calibration), inventory=work.inventory, refit=False)
    plan = baselines_of(work.proxy)["uniform tucker2"].plan(comparison.context, {"params": 0.6})
    ours, theirs = comparison.kernels(plan, "plain"), plain.dense_kernels(plan)
    assert ours.keys() == theirs.keys() == {site for site, choice in plan if choice != INTACT}
    assert all(np.allclose(ours[site], theirs[site], atol=1e-5) for site in ours)


def test_the_original_scores_as_a_plan_of_nothing_and_test_images_only_where_asked(
    work: Run, found: Comparison, comparison: BaselineComparison
) -> None:
    assert found.original.val == pytest.approx(work.validation.of({}))
    assert found.original.test is not None
    assert comparison.original() == replace(found.original, test=None)


def test_test_images_are_measured_of_ours_filter_pruning_and_the_best_baseline_of_each_kind(found: Comparison) -> None:
    measured = 0
    for block in found.blocks:
        best = {(kind, row.name) for kind in ("fitted", "plain") if (row := block.best(kind))}
        wanted = best | {("fitted", OURS), ("plain", OURS), ("plain", FILTERS)}
        for row in block.rows:
            for kind in ("fitted", "plain"):
                if score := getattr(row, kind):
                    assert (score.test is not None) == ((kind, row.name) in wanted)
                    measured += score.test is not None
            finals = {OURS, *(name for kind, name in best if kind == "fitted")}
            assert (row.built is None) == (row.name not in finals or row.fitted is None)
            assert row.built is None or row.built.test is not None
    assert measured == 2 * 5, "of two budgets that can be met"
    assert next(name for name, _ in found.blocks[0].finals) == OURS
    assert len(found.blocks[0].finals) == 2


def test_a_test_metric_is_that_of_the_kernels_of_its_row(
    work: Run, found: Comparison, comparison: BaselineComparison
) -> None:
    points = {point.trial: point for point in comparison.points}
    ours = found.blocks[0].row(OURS)
    assert ours.trial is not None
    assert ours.fitted
    assert ours.fitted.test == comparison.on_test(work.proxy.dense_kernels(points[ours.trial].plan))
    best = found.blocks[0].best("plain")
    assert best is not None
    assert best.plain
    plan = baselines_of(work.proxy)[best.name].plan(comparison.context, {"params": BUDGETS[0]})
    assert best.plain.test == comparison.on_test(comparison.kernels(plan, "plain"))


def test_ours_as_built_is_as_good_as_the_model_that_a_run_builds(work: Run, found: Comparison) -> None:
    points = {point.trial: point for point in pareto_front(work.record.candidates())}
    ours = found.blocks[0].row(OURS)
    assert ours.trial is not None
    assert ours.built
    plan = points[ours.trial].plan
    built = build(work.model, plan, work.proxy, work.refits.result(plan))
    assert ours.built.val == pytest.approx(
        accuracy(built, work.data, work.data.val), abs=2 / len(work.validation.images)
    )
    assert ours.built.test == pytest.approx(accuracy(built, work.data, work.data.test), abs=2 / len(work.data.test))


def test_the_best_baseline_is_neither_ours_nor_filter_pruning_and_of_equals_the_first() -> None:
    high, low = Score(0.9), Score(0.5)
    rows = (
        Row(OURS, "", fitted=high),
        Row("a", "", fitted=low),
        Row("b", "", fitted=low),
        Row(FILTERS, "", plain=high),
    )
    block = BudgetRows(0.5, (*rows, Row("c", "", "too large")))
    assert block.best("fitted") == rows[1]
    assert block.best("plain") is None


def test_a_point_is_dominated_by_what_is_no_worse_and_better_in_one(comparison: BaselineComparison) -> None:
    point = max(comparison.points, key=lambda p: p.costs["params"])
    costs = point.costs

    def measured(loss: float, params: float, macs: float) -> Measured:
        return Measured({"output": 1 - loss}, 0, 0, params, macs)

    assert comparison.count_dominated(measured(costs["loss"], costs["params"], costs["macs"])) == 0
    assert comparison.count_dominated(measured(costs["loss"] - 1e-9, costs["params"], costs["macs"])) == 0
    assert comparison.dominated_points == set()
    assert (
        comparison.count_dominated(measured(0.0, 0.0, 0.0))
        == len(comparison.points)
        == len(comparison.dominated_points)
    )


def test_the_verdict_names_who_dominates(found: Comparison) -> None:
    one, other = Row("a", "", dominated=2), Row("a", "", dominated=3)
    few = replace(found, dominated=4, blocks=(BudgetRows(0.5, (one,)), BudgetRows(0.3, (other,))))
    assert few.verdict.endswith("4 are dominated in loss, params, macs, by: a (up to 3).")
    assert "No baseline dominates" in replace(found, blocks=(BudgetRows(0.5, (replace(one, dominated=0),)),)).verdict


def test_compare_json_is_what_is_returned(work: Run, found: Comparison) -> None:
    assert json.loads((work.folder.path / "compare.json").read_text()) == found.to_dict()
    assert Comparison.read(work.folder.path, "net") == found
    assert Comparison.read(work.folder.path, "another") is None
    assert Comparison.read(work.folder.path.parent, "net") is None


def test_a_broken_file_is_no_comparison(tmp_path: Path) -> None:
    for text in ("", "[]", '{"study": "net"}', '{"study": "net", "blocks": [{"budget": 1, "rows": [{}]}]}'):
        (tmp_path / "compare.json").write_text(text)
        assert Comparison.read(tmp_path, "net") is None


def test_the_report_has_the_section_and_keeps_it_after_the_next_run(work: Run, found: Comparison) -> None:
    def sections() -> list[str]:
        page = (work.folder.path / "report.html").read_text(encoding="utf-8")
        parts = "<h2[^>]*>Against.*?</h2>", 'scope="row">(?:uniform tucker2|[^<]*refitted[^<]*)</th>', 'id="compare"'
        return re.findall("|".join(parts), page)

    assert len(sections()) == 4
    (work.folder.path / "result.json").unlink()
    work.finish(work.search())
    assert len(sections()) == 4


def test_the_figure_is_in_the_study_for_the_dashboard(work: Run, found: Comparison) -> None:
    study = work.record.study
    assert "compare" in get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))


def test_the_chart_has_a_line_for_every_row_and_ours_is_the_last_one(found: Comparison) -> None:
    (chart,) = comparison_chart(found, "accuracy")
    assert sorted(series.name for series in chart.series) == sorted(row.name for row in found.blocks[0].rows)
    last = chart.series[-1]
    assert (last.name, last.color) == (OURS, "chosen")
    ours = [row for block in found.blocks if (row := block.row(OURS)).fitted]
    assert {(mark.x, mark.y) for mark in last.marks} == {(row.params, row.fitted.val) for row in ours if row.fitted}


def test_the_terminal_has_a_star_at_the_best_of_every_kind(found: Comparison) -> None:
    assert with_star([0.5, None, 0.9, 0.9]) == ["50.00%", "–", "*90.00%", "*90.00%"]
    assert with_star([None]) == ["–"]
    console = Console(width=120, record=True)
    console.print(budget_table(found, found.blocks[0]))
    lines = console.export_text().splitlines()
    assert "params <= 0.6" in lines[0]
    assert len(lines) == 5 + len(found.blocks[0].rows)
    assert lines[-2].startswith("ours, refitted in layer order: ")
    assert lines[-1].rstrip().endswith("on test")
    assert "refitted" not in console_of(BudgetRows(0.5, (Row(OURS, "", "too large"),)), found)


def console_of(block: BudgetRows, found: Comparison) -> str:
    console = Console(width=120, record=True)
    console.print(budget_table(found, block))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 70])
def test_no_number_is_cut_in_a_narrow_terminal(found: Comparison, width: int) -> None:
    block = found.blocks[0]
    rows = [replace(row, fitted=row.fitted and Score(1.0, 0.9876), plain=Score(0.5, 1.0)) for row in block.rows]
    console = Console(width=width, record=True)
    console.print(budget_table(found, replace(block, rows=tuple(rows))))
    text = console.export_text()
    assert "…" not in text
    assert (text.count("*100.00%"), text.count("*98.76%")) == (2 * len(rows) - 1, len(rows) - 1)
    assert max(map(len, text.splitlines())) <= width


def test_the_command_prints_json_alone_and_leaves_the_same(work: Run, found: Comparison) -> None:
    outcome = called(str(work.folder.path), "--budgets", "0.6", "--cost", "macs", "--json")
    assert outcome.exit_code == 0, outcome.stderr or outcome.exception
    told = json.loads(outcome.stdout)
    assert told == json.loads((work.folder.path / "compare.json").read_text())
    assert (told["cost"], told["original"]["test"]) == ("macs", None)
    assert [block["budget"] for block in told["blocks"]] == [0.6]
    assert all(row["macs"] is None or row["macs"] <= 0.6 for row in told["blocks"][0]["rows"])
    work.folder.write_comparison(work.record, found)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nowhere",), "no study nowhere here"),
        (("net", "--budgets", "0.5,x"), "--budgets should be numbers separated by commas"),
        (("net", "--budgets", "0.5,0"), "should be shares in (0, 1]"),
        (("net", "--budgets", "1.5"), "should be shares in (0, 1]"),
        (("net", "--budgets", "nan"), "should be shares in (0, 1]"),
        (("net", "--cost", "loss"), "unknown cost 'loss'"),
    ],
)
def test_a_mistake_is_one_line(work: Run, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], words: str) -> None:
    monkeypatch.chdir(work.folder.path.parent)
    outcome = called(*args)
    assert outcome.exit_code == 2
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_study_without_trials_has_nothing_to_compare(work: Run, tmp_path: Path) -> None:
    empty = Run(work.spec, RunFolder(tmp_path), work.model, work.data)
    with pytest.raises(LrfError, match="no finished trial to compare"):
        compare_run(empty, BUDGETS)
    assert not (tmp_path / "compare.json").exists()


def test_budgets_come_in_order_each_once() -> None:
    assert checked_budgets((0.2, 0.5, 0.2), "params") == (0.5, 0.2)
    with pytest.raises(LrfError, match="no budget"):
        checked_budgets((), "params")


class Stopped:
    """Progress of somebody who presses Ctrl-C at a task."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        if label.startswith("baselines"):
            raise KeyboardInterrupt
        yield lambda n, note="": None

    def say(self, text: str) -> None:
        pass


def test_an_interrupt_leaves_what_was_there(work: Run, found: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in work.folder.path.iterdir() if path.suffix in (".json", ".html")}
    monkeypatch.setattr(work, "progress", Stopped())
    with pytest.raises(KeyboardInterrupt):
        compare_run(work, BUDGETS)
    assert before == {
        path.name: path.read_bytes() for path in work.folder.path.iterdir() if path.suffix in (".json", ".html")
    }


def test_scores_are_shares_of_images(found: Comparison) -> None:
    scores = [score for _, row in rows_of(found) for score in (row.fitted, row.plain, row.built) if score]
    assert all(0 <= share <= 1 for score in scores for share in (score.val, score.test) if share is not None)
    assert found.original.val > 0.9
