"""Progress is readable on a terminal of the usual 80 columns, and uses the room of a wider one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lrf_optuna.progress_bars import WIDEST, Bars


@pytest.mark.parametrize(("width", "bar"), [(80, 4), (90, 14), (160, WIDEST)])
@pytest.mark.parametrize(
    ("label", "note"),
    [("accuracy, original", ""), ("trials", "front 262, hypervolume 0.8485"), ("option table", "")],
)
def test_nothing_of_a_task_is_cut_off(width: int, bar: int, label: str, note: str) -> None:
    out = io.StringIO()
    with Bars(Console(file=out, width=width)).task(label, 1000) as step:
        step(1000, note=note)
    (line,) = out.getvalue().splitlines()
    assert "…" not in line
    assert all(part in line for part in (label, "━" * bar, "1000/1000", "0:00:00", note))
    assert len(line.rstrip()) <= width


def test_a_task_within_another_has_its_bar_below_and_leaves_no_line() -> None:
    out, seen = io.StringIO(), []
    bars = Bars(Console(file=out, width=80, force_terminal=True, force_jupyter=False))
    with bars.task("as built", 6) as outer:
        for turn in range(6):
            with bars.task("refit in order", 11) as inner:
                inner(11)
                assert bars.around
                seen.append([task.description for task in bars.around.tasks])
            outer(1, note=f"{turn} points lost")
    assert seen == [["as built", "refit in order"]] * 6
    plain = io.StringIO()
    bars = Bars(Console(file=plain, width=80))
    with bars.task("as built", 6) as outer, bars.task("refit in order", 11) as inner:
        inner(11)
        outer(6)
    with bars.task("fine-tuning", 3) as step:
        step(3)
    assert [line[:11] for line in plain.getvalue().splitlines()] == ["as built   ", "fine-tuning"]


def test_a_task_that_is_stopped_within_another_leaves_the_terminal_ready_for_the_next() -> None:
    bars = Bars(Console(file=io.StringIO(), width=80), check=stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), bars.task("as built", 6), bars.task("refit in order", 11) as inner:
            inner(1)
        assert bars.around is None


def stopped() -> None:
    raise KeyboardInterrupt
