"""The figure of a comparison: accuracy over size, a line for every way to choose ranks, ours thick."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrf_optuna.plans.comparison import FILTERS, OURS, Comparison, Row, Score
from lrf_optuna.report.figures import CHOSEN_COLOR, METHOD_COLORS, MUTED, axis_title, figure_template

PANEL_TITLES = {"fitted": "fitted to data, as ours", "plain": "as published"}
DASHES = ("solid", "dash", "dot")


def comparison_figure(found: Comparison) -> go.Figure:
    """Validation accuracy over the share of parameters or MACs: baselines fitted to data, and as published."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=[*PANEL_TITLES.values()])
    names = [row.name for row in found.blocks[0].rows]
    for column, panel in enumerate(PANEL_TITLES, start=1):
        for number, name in enumerate([*names[1:], OURS]):  # ours last, over the others
            rows = [row for block in found.blocks if (row := block.row(name)).best]
            kind = "fitted" if name == OURS else panel
            style = line_style(name, number) | {"legendgroup": name, "showlegend": column == 1}
            figure.add_trace(rule_trace(rows, found.cost, kind, style), row=1, col=column)
        figure.add_hline(found.original.val, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title=axis_title(found.cost), tickformat=".0%", rangemode="tozero", row=1, col=column)
    figure.update_yaxes(title="validation accuracy", tickformat=".0%", row=1, col=1)
    legend = {"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"}
    title = "Accuracy against other ways to choose ranks"
    return figure.update_layout(template=figure_template(), title=title, height=540, legend=legend)


def rule_trace(rows: list[Row], cost: str, kind: str, style: dict[str, Any]) -> go.Scatter:
    """The line of one way to choose ranks. Filter pruning has the same accuracies with both kinds of kernels."""
    scores: list[Score | None] = [row.best if row.name == FILTERS else getattr(row, kind) for row in rows]
    accuracies = [score and score.val for score in scores]
    sizes, hover = [getattr(row, cost) for row in rows], "%{y:.2%} at %{x:.1%}<extra>%{fullData.name}</extra>"
    return go.Scatter(x=sizes, y=accuracies, mode="lines+markers", hovertemplate=hover, **style)


def line_style(name: str, number: int) -> dict[str, Any]:
    """The style of a line: ours thick, filter pruning gray, the others in colors and then dashes."""
    if name == OURS:
        return {"name": name, "line": {"color": CHOSEN_COLOR, "width": 4}, "marker": {"size": 9, "symbol": "star"}}
    color = MUTED if name == FILTERS else METHOD_COLORS[number % len(METHOD_COLORS)]
    dash = "longdash" if name == FILTERS else DASHES[number // len(METHOD_COLORS) % len(DASHES)]
    return {"name": escape(name), "line": {"color": color, "width": 1.5, "dash": dash}, "marker": {"size": 5}}
