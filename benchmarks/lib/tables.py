"""Tables that a benchmark wrote: a file in results/, and the same text in a block of README."""

from __future__ import annotations

import re
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS, README = BENCHMARKS / "results", BENCHMARKS.parent / "README.md"


def publish(name: str, text: str) -> None:
    """Write results/NAME.md, and put the text between the comments `<!-- NAME -->` and `<!-- /NAME -->` of README."""
    (RESULTS / f"{name}.md").write_text(text)
    page = README.read_text()
    README.write_text(block(name).sub(lambda found: f"{found[1]}\n{text}{found[3]}", page))


def block(name: str) -> re.Pattern[str]:
    """The pattern that finds a table's block in README."""
    return re.compile(rf"(<!-- {name} -->)(\n.*?)(<!-- /{name} -->)", re.DOTALL)
