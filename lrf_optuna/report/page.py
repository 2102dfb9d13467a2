"""The report of a run: one HTML file that needs no network, and the same figures in the study for the dashboard.

The page is the template `page.html`. It escapes all text by itself, and only Plotly's own HTML goes in as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lrf_optuna.files import write_text
from lrf_optuna.plans.comparison import Comparison
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Result
from lrf_optuna.report import runtime_tables, tables
from lrf_optuna.report.comparison_figure import comparison_figure
from lrf_optuna.report.figures import cost_text, figure_template, run_figures, short_title

if TYPE_CHECKING:
    import optuna

TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
TEMPLATES.globals |= {
    "tables": tables,
    "runtime_tables": runtime_tables,
    "cost_text": cost_text,
    "short_title": short_title,
}
PLOTLY_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
"""Plotly's settings, without its buttons that lead to a server."""
CARD_ROWS = 13
"""Layers that a card of the dashboard has room for: it is 450 pixels high, and a layer takes about 25 of them."""


def write_report(
    path: Path,
    candidates: Sequence[Candidate],
    points: Sequence[Candidate],
    result: Result,
    comparison: Comparison | None = None,
) -> None:
    """Write the report of a run, with a comparison if there is one, as one HTML file: the whole of it or none."""
    figures = run_figures(candidates, points, result) | (
        {"compare": comparison_figure(comparison)} if comparison else {}
    )
    text = TEMPLATES.get_template("page.html").render(
        result=result,
        front=len(points),
        comparison=comparison,
        figures={name: for_page(name, figure) for name, figure in figures.items()},
        plotly_js=Markup(get_plotlyjs()),
        light=Markup(plotly.io.to_json(figure_template())),
        dark=Markup(plotly.io.to_json(figure_template(dark=True))),
    )
    write_text(path, text)


def for_page(name: str, figure: go.Figure) -> dict[str, Any]:
    """The title of a figure and its HTML, in which Plotly has escaped names already."""
    shown = go.Figure(figure)
    title, pixels = shown.layout.title.text, shown.layout.height - 20
    shown.update_layout(title=None, height=None, margin_t=70)
    height = f"min({pixels}px, 100vw)" if name == "front-3d" else f"{pixels}px"
    plot = plotly.io.to_html(
        shown, PLOTLY_CONFIG, include_plotlyjs=False, full_html=False, div_id=name, default_height=height
    )
    return {"title": Markup(title), "plot": Markup(plot)}


def save_to_study(study: optuna.Study, figures: Mapping[str, go.Figure]) -> None:
    """Save figures into a study, where Optuna's dashboard shows them; one of the same id is overwritten."""
    from optuna_dashboard import save_plotly_graph_object

    for name, figure in figures.items():
        save_plotly_graph_object(study, for_card(figure), graph_object_id=name)


def for_card(figure: go.Figure) -> go.Figure:
    """The figure for a card of the dashboard: as high as the card, and a long list of layers is moved by dragging."""
    card = go.Figure(figure).update_layout(height=None)
    rows = len(figure.layout.yaxis.tickvals or ())
    if rows > CARD_ROWS:
        card.update_yaxes(range=[CARD_ROWS - 0.4, -0.6]).update_xaxes(fixedrange=True)
        card.update_layout(dragmode="pan", title_text=f"Layers: drag to see all {rows}")
    return card
