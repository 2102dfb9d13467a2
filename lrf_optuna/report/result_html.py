"""A result as a piece of HTML, for a notebook."""

from __future__ import annotations

from pathlib import Path

from lrf_optuna.plans.result import Result
from lrf_optuna.report import front_tables
from lrf_optuna.report.page import TEMPLATES


def result_html(result: Result, model: Path, report: Path) -> str:
    """The networks of a result side by side, its warnings, why its point was chosen, and where its files are."""
    template = TEMPLATES.get_template("result.html")
    files = {"model": model, "report": report}
    return template.render(result=result, summary=result.summary, front_tables=front_tables, **files)
