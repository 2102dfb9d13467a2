"""Tables that a benchmark wrote: a file in results/, and the same text in a block of a page."""

from __future__ import annotations

import re
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARKS / "results"
PAGES = (BENCHMARKS.parent / "README.md", BENCHMARKS / "README.md")
"""The pages that show tables."""


def publish(name: str, text: str) -> None:
    """Write results/NAME.md, and put the text between the comments `<!-- NAME -->` and `<!-- /NAME -->` of a page.

    The other pages stay as they are, and so do all of them where none has the block.
    """
    (RESULTS / f"{name}.md").write_text(text)
    for page in PAGES:
        before = page.read_text()
        after = block(name).sub(lambda found: f"{found[1]}\n{text}{found[3]}", before)
        if after != before:
            page.write_text(after)


def block(name: str) -> re.Pattern[str]:
    """The pattern that finds a table's block in a page."""
    return re.compile(rf"(<!-- {name} -->)(\n.*?)(<!-- /{name} -->)", re.DOTALL)
