"""The figures of a run: the front in 2-D and 3-D, the hypervolume, the three networks, the layers before and after.

The page and Optuna's dashboard have the same figures. `figure_template` has all that depends on a light or a dark page,
so that the page can change it. Names are escaped, because Plotly reads tags in text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, inf, log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrf_optuna.plans.front import hypervolume_history
from lrf_optuna.plans.plan import INTACT, Candidate, Choice
from lrf_optuna.plans.result import LayerResult, Result
from lrf_optuna.report.tables import method_counts

ORIGINAL_COSTS = {"loss": 0.0, "params": 1.0, "macs": 1.0}
"""The costs of the original network, as shares and as a loss. Over other objectives the original is not drawn."""
COST_NAMES = {"loss": "loss", "params": "parameters", "macs": "MACs"}
SHARE_COSTS = ("params", "macs")
ZERO_LOSS = 1e-5
"""A loss below this is drawn as 0, because float32 outputs differ by about as much from rounding alone."""

PALE, MUTED, CHOSEN_COLOR, FRONT_COLOR = "rgba(128, 136, 150, 0.4)", "#8a92a0", "#e8542f", "#5b7fd0"
COST_SCALE = [[0.0, "#1fa58f"], [0.5, "#5b7fd0"], [1.0, "#b04fc8"]]
METHOD_COLORS = ("#5b7fd0", "#1fa58f", "#d9902f", "#b04fc8", "#d4577f", "#4aa3d8", "#8a9a3a", "#a0704f")
LAYER_HEIGHT, NAME_LENGTH = 24, 34
"""Pixels of height that a layer takes, and letters of its name that are shown: both fit text of 13 pixels."""


def run_figures(candidates: Sequence[Candidate], points: Sequence[Candidate], result: Result) -> dict[str, go.Figure]:
    """The figures of a run by id. `candidates` are all trials, `points` are the front.

    "front-2d" needs two objectives, "front-3d" three, "layers" a layer with MACs. Others are always there.
    """
    axes = axes_of(tuple(result.chosen.costs))
    found = {}
    if len(axes) >= 2:
        found["front-2d"] = front_2d(candidates, points, result.chosen, axes)
    if len(axes) >= 3:
        found["front-3d"] = front_3d(candidates, points, result.chosen, axes)
    found["hypervolume"] = hypervolume_figure(candidates)
    found["standing"] = evaluation_figure(result)
    counted = [part for part in result.layers if part.macs_before]
    if counted:
        found["layers"] = layer_figure(counted)
    return found


def figure_template(*, dark: bool = False) -> go.layout.Template:
    """The colors, fonts and margins of a figure on a light or a dark page."""
    ink, paper, grid = ("#d8dce3", "#15181d", "#323842") if dark else ("#2a2f38", "#ffffff", "#e3e6eb")
    font = {"family": "system-ui, sans-serif", "size": 13, "color": ink}
    axis = {"gridcolor": grid, "linecolor": grid, "zerolinecolor": grid, "automargin": True, "title": {"standoff": 8}}
    room = {"backgroundcolor": paper, "gridcolor": grid, "linecolor": grid, "zerolinecolor": grid}
    return go.layout.Template(
        layout={
            "font": font,
            "title": {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10}},
            "paper_bgcolor": paper,
            "plot_bgcolor": paper,
            "hoverlabel": {"bgcolor": paper, "bordercolor": MUTED, "font": font, "align": "left"},
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "itemsizing": "constant"},
            "margin": {"l": 10, "r": 10, "t": 90, "b": 30},
            "xaxis": axis,
            "yaxis": axis,
            "scene": {"xaxis": room, "yaxis": room, "zaxis": room},
        }
    )


def axes_of(names: Sequence[str]) -> list[str]:
    """The objectives as x, y and the rest: sizes come first, the parameters before all; the loss is y."""
    sizes = sorted((name for name in names if name != "loss"), key=lambda name: name != "params")
    return [*sizes[:1], "loss", *sizes[1:]] if "loss" in names else sizes


def axis_title(name: str) -> str:
    """The title of an objective's axis."""
    return f"{COST_NAMES[name]}, share of the original" if name in SHARE_COSTS else COST_NAMES.get(name, escape(name))


def cost_text(name: str, cost: float) -> str:
    """An objective with its cost, as text."""
    return f"{COST_NAMES.get(name, name)} {f'{cost:.1%}' if name in SHARE_COSTS else f'{cost:.4g}'}"


def hover_text(candidate: Candidate) -> str:
    """The text beside the mouse over a candidate: its costs, and how many layers have which method."""
    costs = [escape(cost_text(name, cost)) for name, cost in candidate.costs.items()]
    return "<br>".join([f"<b>trial {candidate.trial}</b>", *costs, escape(method_counts(candidate.plan))])


def coordinates(name: str, candidates: Sequence[Candidate], zero: float = 0.0) -> list[float]:
    """The coordinates of candidates on an objective's axis; a loss of 0 is at `zero`, where its log axis begins."""
    costs = [candidate.costs[name] for candidate in candidates]
    return [zero if name == "loss" and cost < ZERO_LOSS else cost for cost in costs]


def log_axis(candidates: Sequence[Candidate]) -> tuple[float, dict[str, Any]]:
    """The place of a loss of 0 on a log axis, which is half a decade below the least loss, and the axis."""
    losses = [cost for c in candidates if ZERO_LOSS <= (cost := c.costs["loss"]) < inf] or [1.0]
    least, most = log10(min(losses)), log10(max(losses))
    zero = 10 ** (least - 0.5)
    digits = (1, 2, 5) if most - least <= 2 else (1,)
    ticks = [digit * 10.0**power for power in range(floor(least), ceil(most) + 1) for digit in digits]
    ticks = [tick for tick in ticks if tick > 1.5 * zero]
    text = ["0", *(f"{tick:.10f}".rstrip("0").rstrip(".") for tick in ticks)]
    return zero, {"type": "log", "tickvals": [zero, *ticks], "ticktext": text, "range": [least - 0.65, most + 0.15]}


def axis_of(name: str, everything: Sequence[Candidate]) -> tuple[float, dict[str, Any]]:
    """The place of a cost of 0 on an objective's axis, and the axis."""
    if name == "loss":
        zero, axis = log_axis(everything)
        return zero, axis | {"title": {"text": f"{axis_title(name)}, log scale"}}
    return 0.0, {"title": {"text": axis_title(name)}} | ({"tickformat": ".0%"} if name in SHARE_COSTS else {})


def lower_edge(points: Sequence[Candidate], x: str, y: str) -> list[Candidate]:
    """The points that are the least in `y` among all that are no larger in `x`."""
    edge: list[Candidate] = []
    for point in sorted(points, key=lambda p: (p.costs[x], p.costs[y])):
        if not edge or point.costs[y] < edge[-1].costs[y]:
            edge.append(point)
    return edge


def front_markers(points: Sequence[Candidate], name: str | None, size: int) -> dict[str, Any]:
    """Markers, colored by the objective `name` if there is one."""
    if name is None:
        return {"size": size, "color": FRONT_COLOR}
    title = {"text": COST_NAMES.get(name, escape(name)), "side": "top"}
    bar = {"title": title, "thickness": 10, "len": 0.7, "outlinewidth": 0}
    bar |= {"tickformat": ".0%"} if name in SHARE_COSTS else {}
    color = {"color": coordinates(name, points), "colorscale": COST_SCALE, "showscale": True, "colorbar": bar}
    return {"size": size, **color}


@dataclass(frozen=True)
class Axes:
    """The axes of a figure: axis -> its objective and the place of a cost of 0. `trace` is Plotly's class."""

    trace: Any
    places: dict[str, tuple[str, float]]

    def dots(self, of: Sequence[Candidate], name: str, **style: Any) -> Any:
        """Candidates where their costs are, with their plan where the mouse is over them."""
        where = {axis: coordinates(objective, of, zero) for axis, (objective, zero) in self.places.items()}
        hover = {"mode": "markers", "hovertext": [hover_text(candidate) for candidate in of], "hoverinfo": "text"}
        return self.trace(**where, **(hover | style), name=name)

    def original(self, size: int) -> list[Any]:
        """The original network; nothing where its costs are not known."""
        if any(name not in ORIGINAL_COSTS for name, _ in self.places.values()):
            return []
        where = {axis: [ORIGINAL_COSTS[name] or zero] for axis, (name, zero) in self.places.items()}
        marker = {"symbol": "diamond-open", "size": size, "color": MUTED, "line": {"width": 2}}
        style = {"mode": "markers", "name": "original", "hovertext": "original", "hoverinfo": "text"}
        return [self.trace(**where, **style, marker=marker)]


def front_2d(
    candidates: Sequence[Candidate], points: Sequence[Candidate], chosen: Candidate, names: Sequence[str]
) -> go.Figure:
    """All trials faintly, the front colored by its third objective, its lower edge as steps, the chosen point."""
    x, y = names[:2]
    zero, vertical = axis_of(y, [*candidates, *points, chosen])
    axes = Axes(go.Scatter, {"x": (x, 0.0), "y": (y, zero)})
    steps = {"mode": "lines", "line": {"shape": "hv", "color": FRONT_COLOR, "width": 1.5}, "hoverinfo": "skip"}
    figure = go.Figure(
        [
            axes.dots(candidates, "trials", marker={"size": 5, "color": PALE}),
            axes.dots(lower_edge(points, x, y), "edge", **steps, showlegend=False),
            axes.dots(points, "front", marker=front_markers(points, names[2] if len(names) > 2 else None, 8)),
            *axes.original(11),
            axes.dots([chosen], "chosen", marker=chosen_marker("star", 17)),
        ]
    )
    horizontal = axis_of(x, candidates)[1]
    title = f"Front: {COST_NAMES.get(x, escape(x))} and {COST_NAMES.get(y, escape(y))}"
    return figure.update_layout(template=figure_template(), title=title, height=520, xaxis=horizontal, yaxis=vertical)


def front_3d(
    candidates: Sequence[Candidate], points: Sequence[Candidate], chosen: Candidate, names: Sequence[str]
) -> go.Figure:
    """All trials faintly, the front and the chosen point, over the first three objectives; the loss is the height."""
    z, (x, y) = names[1], (names[0], names[2])
    zero, height = axis_of(z, [*candidates, *points, chosen])
    axes = Axes(go.Scatter3d, {"x": (x, 0.0), "y": (y, 0.0), "z": (z, zero)})
    faint = {"marker": {"size": 2, "color": MUTED, "opacity": 0.5}, "hovertext": None, "hoverinfo": "skip"}
    figure = go.Figure(
        [
            axes.dots(candidates, "trials", **faint),
            axes.dots(points, "front", marker=front_markers(points, y, 4) | {"showscale": False}),
            *axes.original(6),
            axes.dots([chosen], "chosen", marker=chosen_marker("diamond", 8)),
        ]
    )
    sides = {"xaxis": short_axis(axis_of(x, candidates)[1], x), "yaxis": short_axis(axis_of(y, candidates)[1], y)}
    camera = {"eye": {"x": 1.35, "y": -1.8, "z": 0.65}, "center": {"x": 0, "y": 0, "z": -0.12}}
    scene = {**sides, "zaxis": short_axis(height, z), "camera": camera}
    layout = {"title": "Front in 3-D", "height": 600, "scene": scene, "margin": {"l": 0, "r": 0, "b": 0}}
    return figure.update_layout(template=figure_template(), **layout)


def short_axis(axis: dict[str, Any], name: str) -> dict[str, Any]:
    """An axis of a scene, where only a short title fits."""
    return axis | {"title": {"text": COST_NAMES.get(name, escape(name))}}


def chosen_marker(symbol: str, size: int) -> dict[str, Any]:
    """The marker of the chosen point."""
    return {"symbol": symbol, "size": size, "color": CHOSEN_COLOR, "line": {"color": "white", "width": 1}}


def evaluation_figure(result: Result) -> go.Figure:
    """The original, the built and the tuned network side by side: size and accuracy."""
    labels = ["parameters", "MACs", "validation<br>accuracy", "test<br>accuracy"]
    full = result.original
    rows = {"original": full, "built": result.built, "tuned": result.tuned}
    figure = go.Figure()
    for (name, row), color in zip(rows.items(), (MUTED, *METHOD_COLORS), strict=False):
        if row:
            shares = [row.params / (full.params or 1), row.macs / (full.macs or 1), row.val_accuracy, row.test_accuracy]
            figure.add_bar(x=shares, y=labels, name=name, marker_color=color, orientation="h", texttemplate="%{x:.1%}")
    over = "%{x:.2%}<extra>%{fullData.name}</extra>"
    figure.update_traces(textposition="outside", cliponaxis=False, hovertemplate=over)
    figure.update_xaxes(tickformat=".0%", range=[0, 1.25], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticklabelstandoff=6)
    return figure.update_layout(template=figure_template(), title="Original, built, tuned", height=400, bargap=0.25)


def hypervolume_figure(candidates: Sequence[Candidate]) -> go.Figure:
    """The hypervolume of the front after each trial."""
    line = go.Scatter(
        y=hypervolume_history(candidates), mode="lines", line={"color": CHOSEN_COLOR, "width": 2}, name="hypervolume"
    )
    figure = go.Figure(line.update(hovertemplate="trial %{x}: %{y:.4f}<extra></extra>"))
    figure.update_xaxes(title="trial").update_yaxes(title="hypervolume")
    return figure.update_layout(template=figure_template(), title="Hypervolume of the front", height=400)


def layer_figure(parts: Sequence[LayerResult]) -> go.Figure:
    """Every layer's parameters and MACs, before as a pale bar and after as a full one; the method and ranks as text."""
    figure = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.05, column_widths=[0.6, 0.4])
    places = list(range(len(parts)))
    texts = [layer_text(part) for part in parts]
    for column, (what, room) in enumerate((("params", 1.65), ("macs", 1.25)), start=1):
        before = [getattr(part, f"{what}_before") for part in parts]
        after = [getattr(part, f"{what}_after") for part in parts]
        kept = [f"{new / old:.0%}" if old else "" for new, old in zip(after, before, strict=True)]
        labels = [f"{escape(method_text(part))}, {share}" for part, share in zip(parts, kept, strict=True)]
        text = {"text": labels if what == "params" else kept, "textposition": "outside", "cliponaxis": False}
        pale = {"marker_color": PALE, "name": "before", "legendgroup": "before", "showlegend": column == 1}
        common: dict[str, Any] = {"orientation": "h", "hovertext": texts, "hoverinfo": "text"}
        figure.add_bar(x=before, y=places, **pale, **text, **common, col=column, row=1)
        for method, color in method_colors(parts).items():
            mine = [i for i, part in enumerate(parts) if part.method == method]
            look = {"marker_color": color, "name": escape(method), "legendgroup": method, "showlegend": column == 1}
            here = {"x": [after[i] for i in mine], "y": mine, "hovertext": [texts[i] for i in mine]}
            figure.add_bar(width=0.5, **look, **(common | here), col=column, row=1)
        figure.update_xaxes(title=COST_NAMES[what], range=[0, room * max([*before, 1])], nticks=5, col=column, row=1)
    names = [escape(short_name(part.name)) for part in parts]
    figure.update_yaxes(
        tickvals=places, ticktext=names, range=[len(parts) - 0.4, -0.6], showgrid=False, ticklabelstandoff=6
    )
    look = {"height": 150 + LAYER_HEIGHT * len(parts), "barmode": "overlay", "bargap": 0.25}
    return figure.update_layout(template=figure_template(), title="Layers, before and after", **look)


def method_colors(parts: Sequence[LayerResult]) -> dict[str, str]:
    """Method -> color, for the methods of these layers; `intact` is gray."""
    used = sorted({part.method for part in parts} - {INTACT.method})
    found = {method: METHOD_COLORS[i % len(METHOD_COLORS)] for i, method in enumerate(used)}
    return found | ({INTACT.method: MUTED} if any(part.method == INTACT.method for part in parts) else {})


def method_text(part: LayerResult) -> str:
    """A layer's method and ranks."""
    return str(Choice(part.method, part.ranks))


def layer_text(part: LayerResult) -> str:
    """The text beside the mouse over a layer: its kind, its method and its sizes."""
    sizes = [
        f"parameters {part.params_before:,} → {part.params_after:,}",
        f"MACs {part.macs_before:,} → {part.macs_after:,}",
    ]
    return "<br>".join(
        [f"<b>{escape(part.name)}</b>", escape(part.kind), escape(part.reason or method_text(part)), *sizes]
    )


def short_name(name: str) -> str:
    """The name, or its two ends where it is long."""
    return name if len(name) <= NAME_LENGTH else f"{name[:12]}…{name[-(NAME_LENGTH - 13) :]}"
