"""Progress is readable on a terminal of the usual 80 columns, and uses the room of a wider one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lrf_optuna.console import WIDEST, Bars


@pytest.mark.parametrize(("width", "bar"), [(80, 4), (90, 14), (160, WIDEST)])
@pytest.mark.parametrize(
    ("label", "note"),
    [("what each layer sees", ""), ("trials", "front 262, hypervolume 0.8485"), ("refit in order (12)", "")],
)
def test_nothing_of_a_task_is_cut_off(width: int, bar: int, label: str, note: str) -> None:
    out = io.StringIO()
    with Bars(Console(file=out, width=width)).task(label, 1000) as step:
        step(1000, note=note)
    (line,) = out.getvalue().splitlines()
    assert "…" not in line
    assert all(part in line for part in (label, "━" * bar, "1000/1000", "0:00:00", note))
    assert len(line.rstrip()) <= width
