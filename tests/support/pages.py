"""The pages of the documentation, and what tests read in them: headings, links, prose and its sentences."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README, STUDIES, BENCHMARKS, CONTRIBUTING = "README.md", "studies/README.md", "benchmarks/README.md", "CONTRIBUTING.md"
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in (README, STUDIES, BENCHMARKS, CONTRIBUTING)}
"""Path of a page -> its text."""
MOST_WORDS = 30
"""Words of a sentence at most, on a page, in a help text and in a message."""


def own_text(page: str) -> str:
    """A page without the blocks that benchmarks write."""
    return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", page, flags=re.DOTALL)


def section(page: str, title: str) -> str:
    """The text of a page below a heading of the second level; empty where it has none of this title."""
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def without_code(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


def anchors(page: str) -> set[str]:
    """The names of the headings in links, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: str) -> list[str]:
    """The targets of the links to other pages and headings."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)) if "://" not in link]


def sentences(page: str) -> list[str]:
    """The sentences of the prose: code blocks, tables, comments and headings are left out, of a link stays its text."""
    text = re.sub(r"<!--.*?-->", "", without_code(page), flags=re.DOTALL)
    text = re.sub(r"^(\||#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", text)
    items = [re.sub(r"^\s*(?:[-*]|\d+\.) ", "", paragraph.replace("**", "")) for paragraph in paragraphs]
    found = [one for item in items for one in re.split(r"(?<=[.!?])\s+", " ".join(item.split()))]
    return [one for one in found if one]
