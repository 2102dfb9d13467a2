"""A terminal shows all of a table, however narrow it is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lrf_optuna.report.tables import Table, columns
from lrf_optuna.report.terminal_table import filled_lines, least_width


def shown(table: Table, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def sizes() -> Table:
    table = Table(columns(["layer"], ["parameters", "MACs\nan image"]), "Sizes", "of all layers")
    table.add("block_1/convolution", "9,216 → 1,606", "590 k → 103 k")
    table.add("dense", "650")
    return table


def test_columns_stand_side_by_side_where_they_fit() -> None:
    assert least_width(sizes()) == 12 + 2 + 13 + 2 + 13
    lines = shown(sizes(), 42)
    assert lines[1].split() == ["MACs"]
    assert any(line.endswith("9,216 → 1,606  590 k → 103 k") for line in lines)


def test_where_they_do_not_each_row_has_its_own_lines() -> None:
    assert shown(sizes(), 41) == [
        "Sizes",
        "layer block_1/convolution",
        "  parameters 9,216 → 1,606",
        "  MACs an image 590 k → 103 k",
        "layer dense",
        "  parameters 650",
        "of all layers",
    ]


@pytest.mark.parametrize("width", [20, 30, 41, 42, 60, 80])
def test_no_width_cuts_a_cell(width: int) -> None:
    lines = shown(sizes(), width)
    text = "".join("".join(lines).split())
    assert all("".join(cell.split()) in text for row, _ in sizes().rows for cell in row[1:])
    assert "…" not in text
    assert all(len(line) <= width for line in lines)


def test_a_line_has_as_many_cells_as_fit() -> None:
    assert filled_lines(["a 1", "b 2", "c 3"], 8) == ["a 1; b 2", "c 3"]
    assert filled_lines([], 8) == []


def test_a_table_without_rows_has_its_heads() -> None:
    assert shown(Table(columns(["layer"], ["size"])), 20)[0].split() == ["layer", "size"]
