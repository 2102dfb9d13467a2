"""Plotly figures of a run for Optuna's dashboard and for notebooks: the charts of the page, and the front in 3-D.

Names are escaped, because Plotly reads tags in text.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrf_optuna.plans.plan import Candidate, Choice
from lrf_optuna.plans.result import LayerResult
from lrf_optuna.report.bars import method_colors
from lrf_optuna.report.charts import Axis, Chart, Series, log_axis, spread
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.costs import ORIGINAL, ZERO_LOSS, axes_of, cost_name, point_text
from lrf_optuna.report.run_charts import run_charts
from lrf_optuna.report.tables import UNCOUNTED
from lrf_optuna.scoring.option_table import SIZES

PLOTLY_COLORS = {
    **{"soft": "#8a92a0", "front": "#5b7fd0", "chosen": "#e8542f"},
    **{"c0": "#5b7fd0", "c1": "#1fa58f", "c2": "#d9902f", "c3": "#b04fc8"},
    **{"c4": "#d4577f", "c5": "#4aa3d8", "c6": "#8a9a3a", "c7": "#a0704f"},
}
"""Class of page.css -> a color that can be read on a light and on a dark dashboard."""
PALE = "rgba(128, 136, 150, 0.4)"
PLOTLY_SYMBOLS = {"dot": "circle", "spot": "circle", "ring": "circle-open", "diamond": "diamond-open", "star": "star"}
"""Symbol of a series -> Plotly's name of it."""
SIZES_OF_SYMBOLS = {"dot": 7, "spot": 1, "ring": 7, "diamond": 10, "star": 16}
"""Symbol of a series -> pixels."""
CLOUD = 2000
"""Trials that are drawn faintly, at most: a figure is kept in the database in small pieces."""
LAYER_HEIGHT, NAME_LENGTH = 24, 34
"""Pixels of height that a layer takes, and letters of its name that are shown: both fit text of 13 pixels."""


def run_figures(content: ReportContent) -> dict[str, go.Figure]:
    """The figures of a run by id: its charts; with three objectives "front-3d"; "layers" where some may have MACs."""
    found = {name: chart_figure(chart) for name, chart in run_charts(content).items()}
    axes = axes_of(tuple(content.result.chosen.costs))
    if len(axes) > 2:
        found["front-3d"] = front_3d(content, axes)
    counted = [part for part in content.result.layers if part.macs_before]
    return found | ({"layers": layer_figure(counted)} if counted else {})


def figure_template() -> go.layout.Template:
    """The fonts and margins of a figure."""
    font = {"family": "system-ui, sans-serif", "size": 13}
    axis = {"automargin": True, "title": {"standoff": 8}}
    title = {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10}}
    legend = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemsizing": "constant"}
    margin = {"l": 10, "r": 10, "t": 90, "b": 30}
    shared = {"font": font, "title": title, "legend": legend, "margin": margin, "hoverlabel": {"align": "left"}}
    return go.layout.Template(layout={**shared, "xaxis": axis, "yaxis": axis})


def chart_figure(chart: Chart) -> go.Figure:
    """A chart as a Plotly figure."""
    figure = go.Figure([trace(series) for series in chart.series])
    figure.update_layout(template=figure_template(), title=escape(chart.title), height=450)
    figure.update_layout(xaxis=axis_layout(chart.x), yaxis=axis_layout(chart.y))
    for value, text in chart.levels:
        line = {"color": PLOTLY_COLORS["soft"], "width": 1, "dash": "dot"}
        figure.add_hline(value, line=line, annotation_text=escape(text), annotation_position="top left")
    return figure


def axis_layout(axis: Axis) -> dict[str, Any]:
    """An axis as Plotly has it."""
    values, texts = zip(*axis.ticks, strict=True) if axis.ticks else ((), ())
    ends = [log10(end) if axis.is_log else end for end in (axis.low, axis.high)]
    shown = {"range": ends, "tickvals": list(values), "ticktext": list(texts)}
    return {"title": {"text": escape(axis.title)}, "type": "log" if axis.is_log else "linear", **shown}


def trace(series: Series) -> go.Scatter:
    """A series as a trace."""
    color = PALE if series.is_cloud else PLOTLY_COLORS[series.color]
    marks = spread(series.marks, CLOUD) if series.is_cloud else series.marks
    texts = None if series.is_cloud else [hover_text(mark.text) for mark in marks]
    shape = "hv" if series.line == "steps" else "linear"
    marker = {
        "symbol": PLOTLY_SYMBOLS.get(series.symbol),
        "size": SIZES_OF_SYMBOLS.get(series.symbol, 5),
        "color": color,
    }
    return go.Scatter(
        x=[mark.x for mark in marks],
        y=[mark.y for mark in marks],
        name=escape(series.name),
        mode="+".join([*["lines"] * bool(series.line), *["markers"] * bool(series.symbol)]),
        line={"shape": shape, "color": color, "width": 1.5},
        marker=marker | ({"size": 4} if series.is_cloud else {}),
        hovertext=texts,
        hoverinfo="text" if series.symbol and not series.is_cloud else "skip",
        showlegend=series.in_legend,
    )


def hover_text(text: str) -> str:
    """Lines of text as Plotly shows them, the first one bold."""
    first, *others = map(escape, text.split("\n"))
    return "<br>".join([f"<b>{first}</b>", *others])


def front_3d(content: ReportContent, names: Sequence[str]) -> go.Figure:
    """All trials faintly, the front, the chosen point, the original, over three objectives; the loss is the height."""
    across, up, deep = names[:3]
    everything = [*content.candidates, *content.points, content.result.chosen]
    zero, height = log_axis(cost_name(up), (c.costs[up] for c in everything), ZERO_LOSS)
    floor = zero if up == "loss" else -float("inf")

    def dots(of: Sequence[Candidate], name: str, **style: Any) -> go.Scatter3d:
        z = [floor if up == "loss" and c.costs[up] < ZERO_LOSS else c.costs[up] for c in of]
        x, y = ([c.costs[axis] for c in of] for axis in (across, deep))
        texts = [name if c is ORIGINAL else hover_text(point_text(c)) for c in of]
        return go.Scatter3d(x=x, y=y, z=z, name=name, mode="markers", hovertext=texts, hoverinfo="text", marker=style)

    known = {across, up, deep} <= set(ORIGINAL.costs)
    traces = [
        dots(spread(content.candidates, CLOUD), "trials", size=2, color=PLOTLY_COLORS["soft"], opacity=0.5),
        dots(content.points, "front", size=4, color=PLOTLY_COLORS["front"]),
        *([dots([ORIGINAL], "original", size=6, symbol="diamond-open", color=PLOTLY_COLORS["soft"])] if known else []),
        dots([content.result.chosen], "chosen", size=8, symbol="diamond", color=PLOTLY_COLORS["chosen"]),
    ]
    scene = {f"{axis}axis": flat_axis(name) for axis, name in (("x", across), ("y", deep), ("z", up))}
    if up == "loss":
        scene["zaxis"] = axis_layout(height)
    camera = {"eye": {"x": 1.35, "y": -1.8, "z": 0.65}, "center": {"x": 0, "y": 0, "z": -0.12}}
    layout = {"title": "Front in 3-D", "height": 600, "scene": scene | {"camera": camera}}
    return go.Figure(traces).update_layout(template=figure_template(), **layout, margin={"l": 0, "r": 0, "b": 0})


def flat_axis(name: str) -> dict[str, Any]:
    """The axis of an objective in 3-D, whose title is short."""
    return {"title": {"text": escape(cost_name(name))}, "tickformat": ".0%" if name in SIZES else None}


def layer_figure(parts: Sequence[LayerResult]) -> go.Figure:
    """Every layer's parameters and MACs, before as a pale bar and after as a full one; the method and ranks as text."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.05, column_widths=[0.6, 0.4])
    places = list(range(len(parts)))
    texts, methods = [*map(layer_text, parts)], [escape(str(Choice(part.method, part.ranks))) for part in parts]
    for column, (what, room) in enumerate((("params", 1.65), ("macs", 1.25)), start=1):
        sizes = [(getattr(part, f"{what}_before"), getattr(part, f"{what}_after")) for part in parts]
        before, after = ([size or 0 for size in column] for column in zip(*sizes, strict=True))
        kept = [UNCOUNTED if old is None else f"{new / old:.0%}" if old else "" for old, new in sizes]
        labels = [f"{method}, {share}" for method, share in zip(methods, kept, strict=True)]
        text = {"text": labels if what == "params" else kept, "textposition": "outside", "cliponaxis": False}
        pale = {"marker_color": PALE, "name": "before", "legendgroup": "before", "showlegend": column == 1}
        common: dict[str, Any] = {"orientation": "h", "hovertext": texts, "hoverinfo": "text"}
        figure.add_bar(x=before, y=places, **pale, **text, **common, col=column, row=1)
        for method, color in method_colors(parts).items():
            mine = [i for i, part in enumerate(parts) if part.method == method]
            look: dict[str, Any] = {"marker_color": PLOTLY_COLORS[color], "name": escape(method), "legendgroup": method}
            look["showlegend"] = column == 1
            here = {"x": [after[i] for i in mine], "y": mine, "hovertext": [texts[i] for i in mine]}
            figure.add_bar(width=0.5, **look, **(common | here), col=column, row=1)
        figure.update_xaxes(title=cost_name(what), range=[0, room * max([*before, 1])], nticks=5, col=column, row=1)
    names = [part.name for part in parts]
    shown = [escape(n if len(n) <= NAME_LENGTH else f"{n[:12]}…{n[13 - NAME_LENGTH :]}") for n in names]
    figure.update_yaxes(tickvals=places, ticktext=shown, range=[len(parts) - 0.4, -0.6])
    figure.update_yaxes(showgrid=False, ticklabelstandoff=6)
    height: dict[str, Any] = {"height": 150 + LAYER_HEIGHT * len(parts), "barmode": "overlay", "bargap": 0.25}
    return figure.update_layout(template=figure_template(), title="Layers, before and after", **height)


def layer_text(part: LayerResult) -> str:
    """The text beside the mouse over a layer: its kind, its method and its sizes."""
    method = part.reason or str(Choice(part.method, part.ranks))
    params = f"parameters {part.params_before:,} → {part.params_after:,}"
    known = part.macs_before is not None and part.macs_after is not None
    macs = f"MACs {part.macs_before:,} → {part.macs_after:,}" if known else f"MACs {UNCOUNTED}"
    return "<br>".join([f"<b>{escape(part.name)}</b>", escape(part.kind), escape(method), params, macs])
