"""The report of a run: one HTML file that needs no network, in which charts are SVG and tables are tables.

The page is the template `page.html` with `page.css` and `page.js`. It escapes all text by itself. Plotly's script alone
would take 4.6 MB; the whole page takes about 0.2 MB, prints, and has no figure that only a mouse can read.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lrf_optuna.files import write_text
from lrf_optuna.report import bars, front_tables, runtime_tables, tables
from lrf_optuna.report.content import ReportContent
from lrf_optuna.report.costs import cost_text
from lrf_optuna.report.headline import headline, left_out_remarks
from lrf_optuna.report.loading import loading_code
from lrf_optuna.report.run_charts import run_charts
from lrf_optuna.report.svg import chart_svg

HERE = Path(__file__).parent
TEMPLATES = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
TEMPLATES.globals |= {
    "tables": tables,
    "front_tables": front_tables,
    "runtime_tables": runtime_tables,
    "bars": bars,
    "cost_text": cost_text,
    "chart_svg": chart_svg,
    "loading_code": loading_code,
}


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report of a run as one HTML file: the whole of it or none."""
    text = TEMPLATES.get_template("page.html").render(
        content=content,
        result=content.result,
        facts=content.facts,
        comparison=content.comparison,
        charts=run_charts(content),
        headline=headline(content.result),
        left_out=left_out_remarks(content),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        js=Markup((HERE / "page.js").read_text(encoding="utf-8")),
    )
    write_text(path, text)
