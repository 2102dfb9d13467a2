"""The figure of a comparison: accuracy over size, a line for every way to choose ranks, ours thick."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrf_optuna.plans.comparison import FILTERS, OURS, Comparison, Row, Score
from lrf_optuna.report.figures import CHOSEN, METHODS, MUTED, template, title

COMPARE = "compare"
PANELS = ("fitted to data, as ours", "as published")
DASHES = ("solid", "dash", "dot")


def drawn(found: Comparison | None) -> dict[str, go.Figure]:
    """The figure by its id; none where there is no comparison."""
    return {COMPARE: curves(found)} if found else {}


def curves(found: Comparison) -> go.Figure:
    """Validation accuracy over the share of parameters or MACs: baselines fitted to data, and as published."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=PANELS)
    names = [row.name for row in found.blocks[0].rows]
    for column, panel in enumerate(("fitted", "plain"), start=1):
        for number, name in enumerate([*names[1:], OURS]):  # ours last, over the others
            rows = [row for block in found.blocks if (row := block.row(name)).best]
            kind = "fitted" if name == OURS else panel
            look = line(name, number) | {"legendgroup": name, "showlegend": column == 1}
            figure.add_trace(trace(rows, found.cost, kind, look), row=1, col=column)
        figure.add_hline(found.original.val, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=column)
        figure.update_xaxes(title=title(found.cost), tickformat=".0%", rangemode="tozero", row=1, col=column)
    figure.update_yaxes(title="validation accuracy", tickformat=".0%", row=1, col=1)
    legend = {"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"}
    words = "Accuracy against other ways to choose ranks"
    return figure.update_layout(template=template(), title=words, height=540, legend=legend)


def score(row: Row, kind: str) -> Score | None:
    """The accuracies that a row has in a panel: of filter pruning the only ones."""
    found: Score | None = row.best if row.name == FILTERS else getattr(row, kind)
    return found


def trace(rows: list[Row], cost: str, kind: str, look: dict[str, Any]) -> go.Scatter:
    """The line of one way to choose ranks."""
    sizes = [getattr(row, cost) for row in rows]
    values = [found.val if (found := score(row, kind)) else None for row in rows]
    over = "%{y:.2%} at %{x:.1%}<extra>%{fullData.name}</extra>"
    return go.Scatter(x=sizes, y=values, mode="lines+markers", hovertemplate=over, **look)


def line(name: str, number: int) -> dict[str, Any]:
    """How a line looks: ours thick, filter pruning grey, the others in colours and then dashes."""
    if name == OURS:
        return {"name": name, "line": {"color": CHOSEN, "width": 4}, "marker": {"size": 9, "symbol": "star"}}
    colour = MUTED if name == FILTERS else METHODS[number % len(METHODS)]
    dash = "longdash" if name == FILTERS else DASHES[number // len(METHODS) % len(DASHES)]
    return {"name": escape(name), "line": {"color": colour, "width": 1.5, "dash": dash}, "marker": {"size": 5}}
