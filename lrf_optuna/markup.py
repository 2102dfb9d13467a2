"""Tables of the report as HTML."""

from __future__ import annotations


def cells(*texts: str) -> str:
    """Numbers as cells of a row."""
    return "".join(f'<td class="number">{text}</td>' for text in texts)


def table(head: str, body: str) -> str:
    """A table that scrolls where the page is narrower."""
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
