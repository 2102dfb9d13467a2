"""A table as a terminal shows it: in columns where it is wide enough, else row by row, so that nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from lrf_optuna.report.tables import Column, Table

BEST, FAINT = "best", "faint"
"""Tones of a row."""
STYLES = {"": "", BEST: "bold green", FAINT: "dim"}
"""Tone of a row -> its style in the terminal; on the page it is the row's class."""
WIDE_TABLE = 7
"""Columns of a table, at least, that have one space between them instead of two: 80 letters are not many for them."""
NARROWEST_TEXT = 12
"""Letters to which a column of text may be folded: most names of methods and layers stay in one piece."""


def for_terminal(table: Table, width: int) -> Iterator[RenderableType]:
    """The parts of a table for a terminal of this many columns."""
    if least_width(table) <= width:
        yield in_columns(table)
    else:
        yield from row_by_row(table, width)


def gap_of(table: Table) -> int:
    """Spaces between two columns."""
    return 1 if len(table.columns) >= WIDE_TABLE else 2


def least_width(table: Table) -> int:
    """Columns of a terminal that the table needs: numbers are never broken, texts are folded."""
    cells = zip(*(texts for texts, _ in table.rows), strict=True) if table.rows else ((),) * len(table.columns)
    each = (narrowest(column, [column.head, *own]) for column, own in zip(table.columns, cells, strict=True))
    return sum(each) + gap_of(table) * (len(table.columns) - 1)


def narrowest(column: Column, texts: list[str]) -> int:
    """Columns of a terminal that a column of the table needs."""
    widest = max(len(line) for text in texts for line in text.split("\n"))
    return widest if column.number else min(widest, NARROWEST_TEXT)


def in_columns(table: Table) -> RichTable:
    """The table with its columns side by side."""
    shown = RichTable(box=None, pad_edge=False, header_style="bold", title_justify="left", caption_justify="left")
    shown.padding = (0, gap_of(table), 0, 0)
    shown.title, shown.caption = Text(table.title) if table.title else None, table.caption or None
    for head, number in table.columns:
        shown.add_column(Text(head), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for texts, tone in table.rows:
        shown.add_row(*map(Text, texts), style=STYLES[tone])
    return shown


def row_by_row(table: Table, width: int) -> Iterator[Text]:
    """Every row with its first cell on a line, and below it the others with their heads."""
    if table.title:
        yield Text(table.title, style="italic", overflow="fold")
    first, *heads = (column.head.replace("\n", " ") for column in table.columns)
    for texts, tone in table.rows:
        title = " ".join(filter(None, (first, texts[0])))
        cells = [" ".join(filter(None, cell)) for cell in zip(heads, texts[1:], strict=True) if cell[1]]
        yield Text(title, style=f"bold {STYLES[tone]}", overflow="fold")
        yield from (Text(f"  {line}", style=STYLES[tone], overflow="fold") for line in filled_lines(cells, width - 2))
    if table.caption:
        yield Text(table.caption, style="dim italic", overflow="fold")


def filled_lines(cells: list[str], width: int) -> list[str]:
    """Cells with semicolons between them, in lines of this many letters; no line breaks a cell that fits one."""
    lines: list[str] = []
    for cell in cells:
        longer = f"{lines[-1]}; {cell}" if lines else ""
        if lines and len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(cell)
    return lines
