"""The Plotly figures of a run are its charts, its front in 3-D and its layers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest
from support.report import content_of

from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.figures import run_figures
from lrf_optuna.report.run_charts import run_charts


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return content_of()


@pytest.fixture(scope="module")
def drawn(content: ReportContent) -> dict[str, go.Figure]:
    return run_figures(content)


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_every_chart_is_a_figure_whose_id_is_fit_for_the_dashboard(
    content: ReportContent, drawn: dict[str, go.Figure]
) -> None:
    assert list(drawn) == [*run_charts(content), "front-3d", "layers"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in drawn)


def test_a_figure_has_the_marks_and_the_ticks_of_its_chart(content: ReportContent, drawn: dict[str, go.Figure]) -> None:
    for name, chart in run_charts(content).items():
        figure = drawn[name]
        assert [tuple(trace.x) for trace in figure.data] == [tuple(m.x for m in s.marks) for s in chart.series]
        assert list(figure.layout.yaxis.ticktext) == [text for _, text in chart.y.ticks]


def test_the_front_in_3d_has_every_trial_where_its_costs_are(
    content: ReportContent, drawn: dict[str, go.Figure]
) -> None:
    found = traces(drawn["front-3d"])
    for name, of in (("trials", content.candidates[:-1]), ("chosen", [content.result.chosen])):
        deep = found[name]
        expected = [(c.costs["params"], c.costs["macs"], c.costs["loss"]) for c in of]
        assert list(zip(deep.x, deep.y, deep.z, strict=True))[: len(of)] == expected


@pytest.mark.parametrize("layers", [5, 100])
def test_every_layer_has_the_same_room(layers: int) -> None:
    figure = run_figures(content_of(layers=layers))["layers"]
    assert len(figure.layout.yaxis.ticktext) == layers + 1
    assert figure.layout.height >= 20 * layers
    before = next(trace for trace in figure.data if trace.name == "before")
    assert list(before.x) == [*(1000 * (i + 1) for i in range(layers)), 90]


def test_names_are_text_and_never_markup(content: ReportContent) -> None:
    layers = [replace(part, name="<i>&x", kind="<i>") for part in content.result.layers]
    figure = run_figures(replace(content, result=replace(content.result, layers=layers)))["layers"]
    assert set(figure.layout.yaxis.ticktext) == {"&lt;i&gt;&amp;x"}
