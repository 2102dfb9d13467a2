"""Charts as SVG inside the page: light, sharp on paper, in the page's own colors, readable without a script.

The plot is an SVG of 100 % width, in which marks and texts have places in percent and sizes in pixels. Lines are in
an SVG inside it that is stretched. So one drawing fits 390 and 1280 pixels, and text is never scaled. `page.js` shows
the text of the mark that is next to the pointer; without scripts the browser shows it as a title.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from markupsafe import Markup

from lrf_optuna.report.charts import Axis, Chart, Series, spread

MARKS = 300
"""Marks of a series that have a text, at most: more are not told apart on a screen, and make the page heavy."""
SYMBOLS = {
    "diamond": "M0-6L6 0L0 6L-6 0Z",
    "star": "M0-9.5L2.6-3.2L9.3-2.9L4.1 1.4L5.8 8L0 4.3L-5.8 8L-4.1 1.4L-9.3-2.9L-2.6-3.2Z",
}
"""Symbol -> its outline around 0, in pixels."""
RADII = {"dot": 3.5, "ring": 4}
"""Symbol -> pixels of its radius."""
SCALE = 1000
"""The width and the height of the stretched drawing of lines."""
RIGHT = 0.66
"""Share of the width beyond which a label stands on the left of its mark."""


def chart_svg(chart: Chart) -> Markup:
    """The chart as HTML: a legend and an SVG that says in words what it shows."""
    drawn = [*grid(chart.x, chart.y), *levels(chart), lines(chart)]
    drawn += [text for series in chart.series if not series.is_cloud for text in marks(chart, series)]
    title, about = f"{chart.name}-title", f"{chart.name}-about"
    head = f'<title id="{title}">{escape(chart.title)}</title><desc id="{about}">{escape(summary(chart))}</desc>'
    svg = f'<svg class="chart" id="{chart.name}" role="img" tabindex="0" aria-labelledby="{title} {about}">'
    return Markup(f'{legend(chart)}<div class="plot">{svg}{head}{"".join(drawn)}</svg></div>')


def summary(chart: Chart) -> str:
    """What a chart shows, in a sentence for who cannot see it."""
    series = ", ".join(f"{s.name} ({len(s.marks)})" for s in chart.series if s.in_legend)
    across, up = (f"{axis.title}, from {axis.ends[0]} to {axis.ends[1]}" for axis in (chart.x, chart.y))
    return f"Across: {across}. Up: {up}. Series with their number of points: {series}."


def place_percent(share: float) -> str:
    """A share as a place in percent."""
    return f"{100 * share:.2f}%"


def grid(x: Axis, y: Axis) -> Iterator[str]:
    """The lines of the grid, the texts of ticks, the titles of the axes."""
    for value, text in y.ticks:
        at = place_percent(1 - y.place(value))
        yield f'<line class="grid" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
        yield f'<text class="tick" x="-8" y="{at}" dy="4" text-anchor="end">{text}</text>'
    for value, text in x.ticks:
        at = place_percent(x.place(value))
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="100%"/>'
        yield f'<text class="tick" x="{at}" y="100%" dy="18" text-anchor="middle">{text}</text>'
    yield f'<text class="axis" x="100%" y="100%" dy="38" text-anchor="end">{escape(x.title)}</text>'
    yield f'<text class="axis" x="-48" y="-12">{escape(y.title)}</text>'


def levels(chart: Chart) -> Iterator[str]:
    """Horizontal dotted lines with their texts."""
    for value, text in chart.levels:
        if chart.y.has(value):
            at = place_percent(1 - chart.y.place(value))
            yield f'<line class="level" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
            yield f'<text class="tick" x="4" y="{at}" dy="-5">{escape(text)}</text>'


def lines(chart: Chart) -> str:
    """Lines and clouds, in a drawing that is stretched to the plot."""
    paths = [f'<path class="{s.color}{" cloud" * s.is_cloud}" d="{path(chart, s)}"/>' for s in chart.series if drawn(s)]
    box = f'viewBox="0 0 {SCALE} {SCALE}" preserveAspectRatio="none" width="100%" height="100%"'
    return f'<svg class="lines" {box}>{"".join(paths)}</svg>'


def drawn(series: Series) -> bool:
    """Whether a series has a line or is a cloud."""
    return bool(series.marks) and (bool(series.line) or series.is_cloud)


def path(chart: Chart, series: Series) -> str:
    """The path of a line, with steps if it has some, or the dots of a cloud, each place once."""
    seen = [m for m in series.marks if chart.x.has(m.x) and (chart.y.has(m.y) or not series.is_cloud)]
    places = [(round(SCALE * chart.x.place(m.x)), round(SCALE * (1 - chart.y.place(m.y)))) for m in seen]
    if series.is_cloud:
        return "".join(f"M{x} {y}h0" for x, y in dict.fromkeys(places))
    pieces = []
    for number, (x, y) in enumerate(places):
        step = f"H{x}V{y}" if series.line == "steps" else f"L{x} {y}"
        pieces.append(step if number else f"M{x} {y}")
    return "".join(pieces)


def marks(chart: Chart, series: Series) -> Iterator[str]:
    """The symbols of a series with their texts; those outside of the axes are left out."""
    if not series.symbol:
        return
    inside = [mark for mark in series.marks if chart.x.has(mark.x) and chart.y.has(mark.y)]
    for mark in spread(inside, MARKS):
        x, y = place_percent(chart.x.place(mark.x)), place_percent(1 - chart.y.place(mark.y))
        yield symbol(series, x, y, mark.text)
        if series.label:
            side, anchor = (-12, "end") if chart.x.place(mark.x) > RIGHT else (12, "start")
            label = escape(series.label)
            yield f'<text class="label" x="{x}" y="{y}" dx="{side}" dy="4" text-anchor="{anchor}">{label}</text>'


def symbol(series: Series, x: str, y: str, text: str) -> str:
    """One symbol with its text as title."""
    title = f"<title>{escape(text)}</title>" if text else ""
    if series.symbol in SYMBOLS:
        shape = f'<path d="{SYMBOLS[series.symbol]}"/>'
        return f'<svg class="mark {series.color} {series.symbol}" x="{x}" y="{y}">{title}{shape}</svg>'
    radius = RADII.get(series.symbol, 4)
    return f'<circle class="mark {series.color} {series.symbol}" cx="{x}" cy="{y}" r="{radius}">{title}</circle>'


def legend(chart: Chart) -> str:
    """The names of the series with their symbols."""
    keys = [series for series in chart.series if series.in_legend and series.marks]
    items = []
    for series in keys:
        icon = symbol(series, "12", "9", "") if series.symbol not in ("", "spot") and not series.is_cloud else ""
        stroke = '<path class="{}{}" d="M{}"/>'.format(
            series.color, " cloud" * series.is_cloud, "12 9h0" if series.is_cloud else "2 9h20"
        )
        icon = (f'<g class="lines">{stroke}</g>' if drawn(series) else "") + icon
        items.append(f'<li><svg width="24" height="18" aria-hidden="true">{icon}</svg>{escape(series.name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>' if len(keys) > 1 else ""
