"""The figures of a run: the front in 2-D and 3-D, the hypervolume, the layers before and after.

The page and Optuna's dashboard have the same figures. `figure_template` has all that depends on a light or a dark page,
so that the page can change it. Names are escaped, because Plotly reads tags in text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from math import ceil, floor, inf, log10
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrf_optuna.plans.front import hypervolume_history
from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.plans.result import LayerResult, Result
from lrf_optuna.report.tables import UNCOUNTED, method_counts
from lrf_optuna.scoring.option_table import SIZES

ORIGINAL = Candidate(0, Plan(()), {"loss": 0.0, **dict.fromkeys(SIZES, 1.0)})
"""The original network, which is no trial. Over other objectives it is not drawn."""
COST_NAMES = {"loss": "loss", "params": "parameters", "macs": "MACs", "latency": "milliseconds"}
ZERO_LOSS = 1e-5
"""A loss below this is drawn as 0, because float32 outputs differ by about as much from rounding alone."""
PALE, MUTED, CHOSEN_COLOR, FRONT_COLOR = "rgba(128, 136, 150, 0.4)", "#8a92a0", "#e8542f", "#5b7fd0"
COST_SCALE = [[0.0, "#1fa58f"], [0.5, "#5b7fd0"], [1.0, "#b04fc8"]]
METHOD_COLORS = ("#5b7fd0", "#1fa58f", "#d9902f", "#b04fc8", "#d4577f", "#4aa3d8", "#8a9a3a", "#a0704f")
LAYER_HEIGHT, NAME_LENGTH = 24, 34
"""Pixels of height that a layer takes, and letters of its name that are shown: both fit text of 13 pixels."""


def run_figures(candidates: Sequence[Candidate], points: Sequence[Candidate], result: Result) -> dict[str, go.Figure]:
    """The figures of a run by id. `candidates` are all trials, `points` are the front.

    "front-2d" needs two objectives, "front-3d" three, "layers" a layer that may have MACs. Others are always there.
    """
    axes, found = axes_of(tuple(result.chosen.costs)), {}
    for axis_count, name in ((2, "front-2d"), (3, "front-3d")):
        if len(axes) >= axis_count:
            found[name] = front_figure(candidates, points, result.chosen, axes, name == "front-3d")
    found["hypervolume"] = hypervolume_figure(candidates)
    counted = [part for part in result.layers if part.macs_before]
    return found | ({"layers": layer_figure(counted)} if counted else {})


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


def short_title(name: str) -> str:
    """What an objective is called in a figure."""
    return COST_NAMES.get(name, escape(name))


def axis_title(name: str) -> str:
    """The title of an objective's axis."""
    return f"{COST_NAMES[name]}, share of the original" if name in SIZES else short_title(name)


def cost_text(name: str, cost: float) -> str:
    """An objective with its cost, as text."""
    return f"{COST_NAMES.get(name, name)} {f'{cost:.1%}' if name in SIZES else f'{cost:.4g}'}"


def hover_text(candidate: Candidate) -> str:
    """The text beside the mouse over a candidate: its costs, and how many layers have which method."""
    costs = [escape(cost_text(name, cost)) for name, cost in candidate.costs.items()]
    return "<br>".join([f"<b>trial {candidate.trial}</b>", *costs, escape(method_counts(candidate.plan))])


def coordinates(name: str, candidates: Sequence[Candidate], zero: float = 0.0) -> list[float]:
    """The coordinates of candidates on an objective's axis; a loss of 0 is at `zero`, where its log axis begins."""
    return [zero if name == "loss" and c.costs[name] < ZERO_LOSS else c.costs[name] for c in candidates]


def log_axis(candidates: Sequence[Candidate]) -> tuple[float, dict[str, Any]]:
    """The place of a loss of 0 on a log axis, which is half a decade below the least loss, and the axis."""
    losses = [cost for c in candidates if ZERO_LOSS <= (cost := c.costs["loss"]) < inf] or [1.0]
    least, most = log10(min(losses)), log10(max(losses))
    zero = 10 ** (least - 0.5)
    digits = (1, 2, 5) if most - least <= 2 else (1,)
    powers = range(floor(least), ceil(most) + 1)
    ticks = [tick for power in powers for digit in digits if (tick := digit * 10.0**power) > 1.5 * zero]
    text = ["0", *(f"{tick:.10f}".rstrip("0").rstrip(".") for tick in ticks)]
    return zero, {"type": "log", "tickvals": [zero, *ticks], "ticktext": text, "range": [least - 0.65, most + 0.15]}


def axis_of(name: str, everything: Sequence[Candidate], short: bool) -> tuple[float, dict[str, Any]]:
    """The place of a cost of 0 on an objective's axis, and the axis with a `short` title or a full one."""
    zero, axis = log_axis(everything) if name == "loss" else (0.0, {})
    title = f"{axis_title(name)}, log scale" if name == "loss" else axis_title(name)
    ticks = ".0%" if name in SIZES else None
    return zero, axis | {"tickformat": ticks, "title": {"text": short_title(name) if short else title}}


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
    title = {"text": short_title(name), "side": "top"}
    ticks = ".0%" if name in SIZES else None
    bar = {"title": title, "thickness": 10, "len": 0.7, "outlinewidth": 0, "tickformat": ticks}
    color = {"color": coordinates(name, points), "colorscale": COST_SCALE, "showscale": True, "colorbar": bar}
    return {"size": size, **color}


@dataclass(frozen=True)
class Axes:
    """The axes of a figure: axis -> its objective, the place of a cost of 0, its layout. `trace` is Plotly's class."""

    trace: Any
    names: dict[str, str]
    zeros: dict[str, float]
    layout: dict[str, Any]

    @classmethod
    def of(cls, names: dict[str, str], everything: Sequence[Candidate]) -> Axes:
        """The axes with these objectives, two or three, with room for all candidates."""
        deep = len(names) > 2
        found = {axis: axis_of(name, everything, short=deep) for axis, name in names.items()}
        zeros = {axis: zero for axis, (zero, _) in found.items()}
        layout = {f"{axis}axis": shown for axis, (_, shown) in found.items()}
        return cls(go.Scatter3d if deep else go.Scatter, names, zeros, layout)

    def dots(self, of: Sequence[Candidate], name: str, **style: Any) -> Any:
        """Candidates where their costs are, with their plan where the mouse is over them."""
        where = {axis: coordinates(objective, of, self.zeros[axis]) for axis, objective in self.names.items()}
        hover = {"mode": "markers", "hovertext": [hover_text(candidate) for candidate in of], "hoverinfo": "text"}
        return self.trace(**where, **(hover | style), name=name)


def front_figure(
    candidates: Sequence[Candidate], points: Sequence[Candidate], chosen: Candidate, names: Sequence[str], deep: bool
) -> go.Figure:
    """All trials faintly, the front, the chosen point, the original, over two objectives or, if `deep`, over three.

    In 2-D the front is colored by its third objective, and its lower edge has steps. In 3-D the loss is the height.
    """
    axes = Axes.of(dict(zip("xzy" if deep else "xy", names, strict=False)), [*candidates, *points, chosen])
    symbol, chosen_size, front_size, original_size = ("diamond", 8, 4, 6) if deep else ("star", 17, 8, 11)
    star = {"symbol": symbol, "size": chosen_size, "color": CHOSEN_COLOR, "line": {"color": "white", "width": 1}}
    diamond = {"symbol": "diamond-open", "size": original_size, "color": MUTED, "line": {"width": 2}}
    known = set(axes.names.values()) <= set(ORIGINAL.costs)
    front = front_markers(points, names[2] if len(names) > 2 else None, front_size)
    faint: dict[str, Any] = {"marker": {"size": 5, "color": PALE}}
    if deep:
        faint = {"marker": {"size": 2, "color": MUTED, "opacity": 0.5}, "hovertext": None, "hoverinfo": "skip"}
    steps = {"mode": "lines", "line": {"shape": "hv", "color": FRONT_COLOR, "width": 1.5}, "hoverinfo": "skip"}
    traces = [
        axes.dots(candidates, "trials", **faint),
        *([] if deep else [axes.dots(lower_edge(points, *names[:2]), "edge", **steps, showlegend=False)]),
        axes.dots(points, "front", marker=front | ({"showscale": False} if deep else {})),
        *([axes.dots([ORIGINAL], "original", marker=diamond, hovertext="original")] if known else []),
        axes.dots([chosen], "chosen", marker=star),
    ]
    camera = {"eye": {"x": 1.35, "y": -1.8, "z": 0.65}, "center": {"x": 0, "y": 0, "z": -0.12}}
    scene = {"scene": axes.layout | {"camera": camera}, "margin": {"l": 0, "r": 0, "b": 0}}
    title = "Front in 3-D" if deep else f"Front: {short_title(names[0])} and {short_title(names[1])}"
    layout = {"title": title, "height": 600 if deep else 520} | (scene if deep else axes.layout)
    return go.Figure(traces).update_layout(template=figure_template(), **layout)


def hypervolume_figure(candidates: Sequence[Candidate]) -> go.Figure:
    """The hypervolume of the front after each trial."""
    figure = go.Figure(go.Scatter(y=hypervolume_history(candidates), mode="lines", name="hypervolume"))
    figure.update_traces(line_color=CHOSEN_COLOR, hovertemplate="trial %{x}: %{y:.4f}<extra></extra>")
    figure.update_xaxes(title="trial").update_yaxes(title="hypervolume")
    return figure.update_layout(template=figure_template(), title="Hypervolume of the front", height=400)


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
            look = {"marker_color": color, "name": escape(method), "legendgroup": method, "showlegend": column == 1}
            here = {"x": [after[i] for i in mine], "y": mine, "hovertext": [texts[i] for i in mine]}
            figure.add_bar(width=0.5, **look, **(common | here), col=column, row=1)
        figure.update_xaxes(title=COST_NAMES[what], range=[0, room * max([*before, 1])], nticks=5, col=column, row=1)
    names = [part.name for part in parts]
    shown = [escape(n if len(n) <= NAME_LENGTH else f"{n[:12]}…{n[13 - NAME_LENGTH :]}") for n in names]
    figure.update_yaxes(tickvals=places, ticktext=shown, range=[len(parts) - 0.4, -0.6])
    figure.update_yaxes(showgrid=False, ticklabelstandoff=6)
    look = {"height": 150 + LAYER_HEIGHT * len(parts), "barmode": "overlay", "bargap": 0.25}
    return figure.update_layout(template=figure_template(), title="Layers, before and after", **look)


def method_colors(parts: Sequence[LayerResult]) -> dict[str, str]:
    """Method -> color, for the methods of these layers; `intact` is gray."""
    used, intact = {part.method for part in parts}, {INTACT.method}
    return dict(zip(sorted(used - intact), cycle(METHOD_COLORS), strict=False)) | dict.fromkeys(used & intact, MUTED)


def layer_text(part: LayerResult) -> str:
    """The text beside the mouse over a layer: its kind, its method and its sizes."""
    method = part.reason or str(Choice(part.method, part.ranks))
    params = f"parameters {part.params_before:,} → {part.params_after:,}"
    known = part.macs_before is not None and part.macs_after is not None
    macs = f"MACs {part.macs_before:,} → {part.macs_after:,}" if known else f"MACs {UNCOUNTED}"
    return "<br>".join([f"<b>{escape(part.name)}</b>", escape(part.kind), escape(method), params, macs])
