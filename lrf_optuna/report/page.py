"""The report of a run: one HTML file that needs no network, and the same figures in the study for the dashboard.

The page is a list of sections, each a function that returns HTML; a new one is a function and a line in `page`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from lrf_optuna.files import write_text
from lrf_optuna.plans.comparison import OURS, WORDS, BudgetRows, Comparison, Row
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Evaluation, LayerResult, Result
from lrf_optuna.report.comparison_figure import COMPARE
from lrf_optuna.report.comparison_figure import drawn as curves_of
from lrf_optuna.report.figures import figures, shown, template

if TYPE_CHECKING:
    import optuna


def cells(*texts: str) -> str:
    """Numbers as cells of a row."""
    return "".join(f'<td class="number">{text}</td>' for text in texts)


def table(head: str, body: str) -> str:
    """A table that scrolls where the page is narrower."""
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def against(compared: Comparison, figure: str) -> str:
    """The section: the verdict, the figure, a table, and what a fair reader should know."""
    said = "".join(f"<p>{escape(note)}</p>" for note in compared.notes)
    return "\n".join(
        [
            "<h2>Against other ways to choose ranks</h2>",
            f"<p>{escape(compared.verdict)} The front is that of {compared.trials:,} trials.</p>",
            figure,
            accuracies(compared),
            f'<div class="soft">{said}</div>',
        ]
    )


def accuracies(compared: Comparison) -> str:
    """Validation accuracy with fitted kernels (as published, in brackets), a row a rule and a column a budget."""
    budgets = "".join(f'<th class="number" scope="col">{block.budget:.0%}</th>' for block in compared.blocks)
    words = f"Validation accuracy at a share of {WORDS[compared.cost]}, fitted to data (as published)"
    head = f'<tr><th rowspan="2">Rule</th><th class="number" colspan="{len(compared.blocks)}">{words}</th></tr>'
    body = []
    for row in compared.blocks[0].rows:
        mark = ' class="best"' if row.name == OURS else ""
        texts = (cell(block, block.row(row.name)) for block in compared.blocks)
        body.append(f'<tr{mark}><th scope="row">{escape(row.name)}</th>{cells(*texts)}</tr>')
    finals = (
        "<br>".join(f"{escape(name)} {score.val:.2%}" for name, score in b.finals) or "–" for b in compared.blocks
    )
    body.append(f'<tr><th scope="row">as built, refitted in layer order</th>{cells(*finals)}</tr>')
    return table(f"{head}\n<tr>{budgets}</tr>", "\n".join(body))


def cell(block: BudgetRows, row: Row) -> str:
    """The accuracies of a row, the best of its budget in bold."""
    if row.best is None:
        return f'<span title="{escape(row.reason)}">–</span>'
    best = max(other.best.val for other in block.rows if other.best)
    fitted = f"{row.fitted.val:.2%}" if row.fitted else "–"
    text = f"{fitted} ({row.plain.val:.2%})" if row.plain else fitted
    return f"<strong>{text}</strong>" if row.best.val == best else text


__all__ = ["figures", "save_to_study", "write_report"]

CAPTIONS = {
    "front-2d": "Every trial; the front, whose steps are the least loss at each size; the chosen point. "
    "Point at a trial for its plan. The points of the front above the steps are better in another cost.",
    "front-3d": "The same in three dimensions: drag to turn, scroll to come nearer.",
    "hypervolume": "The share of all costs between the original's and none that the front dominates, trial by trial.",
    "standing": "Sizes are shares of the original; accuracies are fractions of the images classified correctly.",
    COMPARE: "Left, the kernels of every rule are fitted to data as ours are; right, they are as published, and ours "
    "fitted. Filter pruning has nothing to fit. Click on a name to hide its line; the dotted line is the original.",
    "layers": "The pale bar is the layer as it was, the full bar what is left of it.",
}

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
"""Plotly's settings, without its buttons that lead to a server."""
CARD_ROWS = 13
"""The layers that a card of the dashboard has room for: it is 450 pixels high and cuts what is higher."""

STYLE = """
:root { color-scheme: light dark; --ink: #2a2f38; --soft: #667080; --paper: #fff; --rule: #e3e6eb; --mark: #c8431f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d8dce3; --soft: #98a1b0; --paper: #15181d; --rule: #323842; --mark: #ff7d58; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .75rem; font-size: 1.25rem; }
h3 { margin: 0; font-size: 1rem; }
p, dd, figcaption { max-width: 44rem; }
.lead { margin: .75rem 0; font-size: 1.2rem; line-height: 1.45; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
.roomy { min-width: 44rem; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .75rem; border-bottom: 1px solid var(--rule); text-align: left; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; }
td.soft { white-space: normal; min-width: 10rem; }
tr.best { color: var(--mark); font-weight: 600; }
tr.best th { font-weight: 600; }
figure { margin: 1.5rem 0 2.5rem; }
dt { margin-top: .75rem; font-weight: 600; }
dd { margin: 0; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""

THEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.querySelectorAll(".plotly-graph-div").forEach(
  (plot) => Plotly.relayout(plot, {template: dark.matches ? templates.dark : templates.light}));
dark.addEventListener("change", paint);
if (dark.matches) paint();
"""


def write_report(
    path: Path,
    candidates: Sequence[Candidate],
    points: Sequence[Candidate],
    result: Result,
    compared: Comparison | None = None,
) -> None:
    """Write the report of a run, with a comparison if there is one, as one HTML file: the whole of it or none."""
    write_text(path, page(candidates, points, result, compared))


def save_to_study(study: optuna.Study, figures: Mapping[str, go.Figure]) -> None:
    """Save figures into a study, where Optuna's dashboard shows them; one of the same id is overwritten."""
    from optuna_dashboard import save_plotly_graph_object

    for name, figure in figures.items():
        save_plotly_graph_object(study, on_card(figure), graph_object_id=name)


def on_card(figure: go.Figure) -> go.Figure:
    """The figure for a card of the dashboard: as high as the card, and a long list of layers is moved by dragging."""
    card = go.Figure(figure).update_layout(height=None)
    rows = len(figure.layout.yaxis.tickvals or ())
    if rows > CARD_ROWS:
        card.update_yaxes(range=[CARD_ROWS - 0.4, -0.6]).update_xaxes(fixedrange=True)
        card.update_layout(dragmode="pan", title_text=f"Layers: drag to see all {rows}")
    return card


def page(
    candidates: Sequence[Candidate], points: Sequence[Candidate], result: Result, compared: Comparison | None = None
) -> str:
    """The report as HTML."""
    drawn = figures(candidates, points, result) | curves_of(compared)
    sections = [
        heading(result),
        standings(result),
        drawing(drawn, "standing"),
        "<h2>The front</h2>",
        choice(points, result),
        drawing(drawn, "front-2d"),
        drawing(drawn, "front-3d"),
        drawing(drawn, "hypervolume"),
        "<h2>What each layer got</h2>",
        drawing(drawn, "layers"),
        layers_table(result.layers),
        against(compared, drawing(drawn, COMPARE)) if compared else "",
        images(result),
        footer(result),
    ]
    looks = f'const templates = {{"light": {as_json(False)}, "dark": {as_json(True)}}};'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(result.study)} · lrf_optuna</title>\n<style>{STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + f"\n</main>\n<script>{looks}{THEME}</script>\n</body>\n</html>\n"
    )


def as_json(dark: bool) -> str:
    """The figures' look on a light or a dark page, as JSON."""
    return str(plotly.io.to_json(template(dark=dark)))


def heading(result: Result) -> str:
    """The study's name and the result in a sentence."""
    return f'<header>\n<h1>{escape(result.study)}</h1>\n<p class="lead">{escape(sentence(result))}</p>\n</header>'


def sentence(result: Result) -> str:
    """The result in words: the sizes and the test accuracy of the last network that was made."""
    last, full = result.tuned or result.built, result.original
    if last is None:
        costs = ", ".join(shown(name, cost) for name, cost in result.chosen.costs.items())
        return f"Trial {result.chosen.trial} is chosen ({costs}), but no network has been built from it yet."
    size = f"{share(last.params, full.params)} of the parameters and {share(last.macs, full.macs)} of the MACs"
    how = "after" if last is result.tuned else "without"
    accuracies = f"{last.test_accuracy:.1%} test accuracy {how} fine-tuning (original {full.test_accuracy:.1%})"
    return f"{size} at {accuracies}."


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{part / whole:.1%}" if whole else "–"


def count(number: int) -> str:
    """A count with three digits, in the unit that reads best."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= max(size, 1e4):
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{number:,}"


def standings(result: Result) -> str:
    """Original, built and tuned as a table."""
    epochs = f", {result.tuned.epochs} epochs" if result.tuned and result.tuned.epochs is not None else ""
    named = {"Original": result.original, "Built": result.built, f"Tuned{epochs}": result.tuned}
    there = [(name, row) for name, row in named.items() if row]
    names = ("Parameters", "share", "MACs", "share", "Validation accuracy", "Test accuracy", "File")
    head = "<tr><th>Network</th>" + "".join(f'<th class="number" scope="col">{name}</th>' for name in names) + "</tr>"
    body = []
    for name, row in there:
        mark = ' class="best"' if row is there[-1][1] and row is not result.original else ""
        body.append(f'<tr{mark}><th scope="row">{name}</th>{standing_cells(row, result.original)}</tr>')
    return table(head, "\n".join(body))


def standing_cells(row: Evaluation, full: Evaluation) -> str:
    """A network's numbers as cells."""
    sizes = (f"{row.params:,}", share(row.params, full.params), count(row.macs), share(row.macs, full.macs))
    file = f"{row.file_bytes / 1024:,.0f} KiB" if row.file_bytes else "–"
    return cells(*sizes, f"{row.val_accuracy:.2%}", f"{row.test_accuracy:.2%}", file)


def choice(points: Sequence[Candidate], result: Result) -> str:
    """Which point was chosen and why."""
    why = f": {escape(result.why)}" if result.why else ""
    costs = ", ".join(shown(name, cost) for name, cost in result.chosen.costs.items())
    return (
        f"<p><strong>Trial {result.chosen.trial}</strong> is the chosen point{why}. It has {costs}.</p>\n"
        f'<p class="soft">{result.trials:,} trials, {result.distinct:,} distinct plans, {len(points):,} on the front. '
        "The loss is 1 − the similarity of the feature maps to the original's, before any training; "
        "lower is better for every cost.</p>"
    )


def drawing(drawn: Mapping[str, go.Figure], name: str) -> str:
    """A figure with its caption; nothing where it could not be drawn."""
    if name not in drawn:
        return ""
    figure = go.Figure(drawn[name])
    words, pixels = figure.layout.title.text, figure.layout.height - 20
    figure.update_layout(title=None, height=None, margin_t=70)
    height = f"min({pixels}px, 100vw)" if name == "front-3d" else f"{pixels}px"
    plot = plotly.io.to_html(
        figure, CONFIG, include_plotlyjs=False, full_html=False, div_id=name, default_height=height
    )
    room = ' class="roomy"' if name in ("layers", COMPARE) else ""
    return (
        f'<figure>\n<h3>{words}</h3>\n<div class="wide"><div{room}>{plot}</div></div>\n'
        f"<figcaption>{CAPTIONS[name]}</figcaption>\n</figure>"
    )


def layers_table(parts: Sequence[LayerResult]) -> str:
    """What every layer with MACs got, or the reason why it could not be factorized; the others in one row."""
    head = (
        '<tr><th rowspan="2">Layer</th><th rowspan="2">Kind</th><th rowspan="2">Method</th><th rowspan="2">Ranks</th>'
        '<th class="number" colspan="2">Parameters</th><th class="number" colspan="2">MACs</th></tr>\n'
        "<tr>" + '<th class="number">before</th><th class="number">after</th>' * 2 + "</tr>"
    )
    rows = [layer_row(part) for part in parts if part.macs_before]
    rest = [part for part in parts if not part.macs_before]
    if rest:
        kinds = ", ".join(f"{n} × {escape(kind)}" for kind, n in Counter(part.kind for part in rest).items())
        sizes = cells(f"{sum(p.params_before for p in rest):,}", f"{sum(p.params_after for p in rest):,}", "–", "–")
        rows.append(f'<tr><th scope="row">the others</th><td class="soft" colspan="3">{kinds}</td>{sizes}</tr>')
    return table(head, "\n".join(rows)) if rows else ""


def layer_row(part: LayerResult) -> str:
    """A layer as a row."""
    ranks = ", ".join(map(str, part.ranks)) or "–"
    got = f"<td>{escape(part.method)}</td><td>{ranks}</td>"
    if part.reason:
        got = f'<td class="soft" colspan="2">{escape(part.reason)}</td>'
    sizes = cells(f"{part.params_before:,}", f"{part.params_after:,}", count(part.macs_before), count(part.macs_after))
    return f'<tr><th scope="row">{escape(part.name)}</th><td>{escape(part.kind)}</td>{got}{sizes}</tr>'


def images(result: Result) -> str:
    """Which images were used for what."""
    return f"""<h2>Which images were used for what</h2>
<dl>
<dt>Calibration: {result.calibration:,} of the training images</dt>
<dd>They score every trial and fit the factorized layers' weights. Their labels are not used.</dd>
<dt>Training images</dt>
<dd>They are what the fine-tune learns from.</dd>
<dt>Validation images</dt>
<dd>They choose the fine-tune's learning rate and weights, and the point of the front where a largest drop of accuracy
is asked for. Their accuracy is therefore a little flattered.</dd>
<dt>Test images</dt>
<dd>They are only reported: nothing is chosen by them.</dd>
</dl>"""


def footer(result: Result) -> str:
    """How long each step took."""
    steps = ", ".join(f"{escape(step)} {seconds:,.1f} s" for step, seconds in result.seconds.items())
    return f'<footer class="soft"><p>Time: {steps}.</p></footer>' if steps else ""
