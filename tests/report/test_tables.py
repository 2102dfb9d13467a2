"""A table is made once, and the terminal and the page show all of its text."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from lrf_optuna.plans.plan import Candidate, Choice, Plan
from lrf_optuna.plans.result import Evaluation, LayerResult, Result
from lrf_optuna.report.page import TEMPLATES
from lrf_optuna.report.tables import (
    NONE,
    UNCOUNTED,
    Table,
    columns,
    evaluation_table,
    inventory_table,
    layer_table,
    uncounted_remark,
)
from lrf_optuna.report.terminal_table import FAINT

LAYERS = [
    LayerResult("conv2d_1", "Conv2D", "cp3", (22,), 9216, 1606, 589_824, 102_784),
    LayerResult("depthwise", "DepthwiseConv2D", "intact", (), 90, 90, 900, 900, "too small"),
    LayerResult("norm", "BatchNormalization", "intact", (), 64, 64, 0, 0, "no kernel"),
]


def terminal(table: Table, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def on_page(table: Table) -> list[str]:
    """The texts of a table as the page shows them."""

    class Texts(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_data(self, data: str) -> None:
            self.found += [data] if data.strip() else []

    template = TEMPLATES.from_string('{% from "table.html" import table %}{{ table(it) }}')
    parser = Texts()
    parser.feed(template.render(it=table))
    return parser.found


def test_the_terminal_and_the_page_show_the_same_text() -> None:
    table = Table(columns(["layer"], ["size"]), "Sizes", "in bytes")
    table.add("<a> & [red]b", "1,000")
    table.add("c", tone=FAINT)
    assert on_page(table) == ["layer", "size", "<a> & [red]b", "1,000", "c", "in bytes"]
    shown = terminal(table)
    assert all(text in shown for text in ("Sizes", "layer", "size", "<a> & [red]b", "1,000", "c", "in bytes"))


def test_a_layer_has_its_method_or_the_reason_why_it_has_none() -> None:
    assert layer_table(LAYERS).rows == [
        (("conv2d_1", "Conv2D", "cp3(22)", "9,216 → 1,606", "17.4%", "590 k → 103 k", "17.4%"), ""),
        (("depthwise", "DepthwiseConv2D", "intact: too small", "90", "", "900", ""), FAINT),
        (("the others", "", "1 BatchNormalization", "64", "", "–", ""), FAINT),
    ]


@pytest.mark.parametrize("width", [70, 80, 120])
def test_no_number_of_a_layer_is_cut(width: int) -> None:
    lines = terminal(layer_table(LAYERS), width).splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert all(number in "\n".join(lines) for number in ("9,216 → 1,606", "590 k → 103 k", "17.4%"))


def test_networks_stand_side_by_side_and_only_those_that_there_are() -> None:
    chosen = Candidate(3, Plan.of({"conv2d_1": Choice("cp3", (22,))}), {"loss": 0.1, "params": 0.3, "macs": 0.4})
    original, built = Evaluation(10_000, 10**6, 0.9, 0.8, 2048), Evaluation(3000, 4 * 10**5, 0.85, 0.75, 1024)
    result = Result("net", 5, 5, 64, {"search": 2.0, "tune": 0.0}, original, chosen, built=built)
    table = evaluation_table(result)
    assert [column.head for column in table.columns] == ["", "original", "built"]
    found: dict[str, Any] = {texts[0]: texts[1:] for texts, _ in table.rows}
    assert found["parameters"] == ("10,000", "3,000 (30.0%)")
    assert found["test accuracy"] == ("80.00%", "75.00% (-5.00)")
    assert table.caption == "seconds: search 2.0, in all 2.0"


def test_milliseconds_are_rows_and_one_line_says_where_the_last_network_is_not_faster() -> None:
    chosen = Candidate(3, Plan(()), {})
    original = Evaluation(10_000, 10**6, 0.9, 0.8, milliseconds={"litert": 2.0, "keras": 1.0})
    built = Evaluation(3000, 10**5, 0.9, 0.8)
    tuned = Evaluation(3000, 10**5, 0.9, 0.8, milliseconds={"litert": 0.5, "keras": 1.25})
    place = "LiteRT 2.3, 1 thread, 1 image"
    result = Result("net", 5, 5, 64, {}, original, chosen, built=built, tuned=tuned, place=place)
    table = evaluation_table(result)
    found: dict[str, Any] = {texts[0]: texts[1:] for texts, _ in table.rows}
    assert found["ms, litert"] == ("2", NONE, "0.5 (4.00)")
    assert found["ms, keras"] == ("1", NONE, "1.25 (0.80)")
    at, why = table.caption.splitlines()
    assert at == f"ms of a call (times faster): {place}"
    assert why.startswith("not faster in keras: ")
    assert "--runtime" not in why
    tuned.milliseconds["litert"] = 2.5
    assert "search with --target latency=0.7 --runtime litert" in evaluation_table(result).caption
    tuned.milliseconds.update(litert=0.5, keras=0.9)
    assert "not faster" not in evaluation_table(result).caption


def test_macs_that_are_not_known_are_never_0_and_a_total_without_them_says_so() -> None:
    unknown = LayerResult("own", "Twice", "intact", (), 0, 0, None, None, "custom layer Twice: not known here")
    text = terminal(layer_table([*LAYERS, unknown]), 200)
    (line,) = [line for line in text.splitlines() if line.startswith("own")]
    assert UNCOUNTED in line
    names = [f"layer_{i}" for i in range(7)]
    assert uncounted_remark(names).endswith("layer_3, layer_4 and 2 others")
    assert uncounted_remark([]) == ""
    row = {"layer": "own", "kind": "Twice", "params": 0, "params_share": 0.0, "macs": None, "macs_share": None}
    assert UNCOUNTED in terminal(inventory_table([row | {"methods": "", "reason": "custom layer"}]), 120)


def test_a_result_with_unknown_macs_says_so_beside_its_totals() -> None:
    network = Evaluation(1000, 2000, 0.9, 0.9)
    found = Result("net", 8, 8, 64, {}, network, Candidate(0, Plan(()), {}), built=network, uncounted_macs=["own"])
    text = terminal(evaluation_table(found), 120)
    assert "MACs an image, of what is counted" in text
    assert "not counted: own" in text
    found.uncounted_macs = []
    assert "counted" not in terminal(evaluation_table(found), 120)
