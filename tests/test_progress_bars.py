"""Progress is readable on a terminal of any width and in a log, and it says what is left."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from lrf_optuna.progress_bars import EMPTY, FULL, WIDEST, Bars, Lines, Quiet, duration, progress_on


def terminal(width: int) -> Bars:
    """Bars on a terminal of this width."""
    out = io.StringIO()
    return Bars(Console(file=out, width=width, force_terminal=True, force_jupyter=False))


@pytest.mark.parametrize(("width", "bar"), [(60, 4), (80, 4), (90, 14), (160, WIDEST)])
@pytest.mark.parametrize(
    ("label", "note"),
    [
        ("accuracy of the calibrated network", ""),
        ("trials", "front 262, hypervolume 0.8485"),
        ("validation accuracy, as scored", "last -12.34, best +0.12 against the original"),
    ],
)
def test_nothing_of_a_task_is_cut_off(width: int, bar: int, label: str, note: str) -> None:
    bars = terminal(width)
    with bars.task(label, 1000) as step:
        step(1000, note=note)
        text = bars.rendered().plain
    assert all(part in text for part in (label, FULL * bar, "1000/1000", note))
    assert all(len(line) <= width for line in text.splitlines())
    assert "\n" not in text or len(text) > width


def test_a_task_says_what_is_done_and_what_is_left() -> None:
    bars = terminal(80)
    with bars.task("trials", 10, done=2) as step:
        assert f"{FULL}{EMPTY * 3} 2/10 unknown left" in bars.rendered().plain
        bars.tasks[0].restarted -= 40
        step(4)
        assert "6/10 40 s left" in bars.rendered().plain


def test_a_task_that_goes_back_has_the_pace_since_then() -> None:
    bars = terminal(80)
    with bars.task("calibrating", 100) as step:
        bars.tasks[0].restarted -= 1000
        step(10)
        step(-10, "too large")
        assert "0/100 unknown left  too large" in bars.rendered().plain
        bars.tasks[0].restarted -= 10
        step(50)
        assert "50/100 10 s left" in bars.rendered().plain


def test_the_whole_run_is_said_to_be_unknown_or_about_as_long_as_its_parts() -> None:
    bars = terminal(80)
    with bars.task("trials", 10) as step:
        bars.tasks[0].restarted -= 60
        step(5)
        assert "whole run" not in bars.rendered().plain
        bars.rest = lambda: None
        assert bars.rendered().plain.endswith("whole run: unknown left")
        bars.rest = lambda: 30.0
        assert bars.rendered().plain.endswith("whole run: about 1 min 30 s left")


def test_a_task_within_another_has_its_bar_below_and_leaves_no_line() -> None:
    bars = terminal(80)
    with bars.task("as built", 6) as outer:
        for turn in range(6):
            with bars.task("refit in order", 11) as inner:
                inner(11)
                assert [line.split("  ")[0] for line in bars.rendered().plain.splitlines()] == [
                    "as built",
                    "refit in order",
                ]
            outer(1, note=f"{turn} left")
        assert [task.label for task in bars.tasks] == ["as built"]
    assert bars.tasks == []


def test_what_is_no_terminal_gets_a_line_for_each_task_that_ended() -> None:
    out = io.StringIO()
    lines = progress_on(Console(file=out, width=20))
    assert isinstance(lines, Lines)
    lines.say("a line of more than twenty letters stays one line")
    with lines.task("as built", 6) as outer, lines.task("refit in order", 11) as inner:
        inner(11)
        outer(6, note="-0.74 against the original")
    with lines.task("fine-tuning", 3) as step:
        step(2)
    said, first, second = out.getvalue().splitlines()
    assert said == "a line of more than twenty letters stays one line"
    assert first.startswith("as built: 6 of 6 in ")
    assert first.endswith(", -0.74 against the original")
    assert second.startswith("fine-tuning: 2 of 3 in ")


def test_a_log_is_told_of_a_long_task_also_within_a_single_step() -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), every=0.01)
    with lines.task("trials", 200) as step, lines.task("inner", 3):
        wait_for(out, "trials: 0 of 200, inner: 0 of 3, unknown left\n")
        step(100)
        lines.rest = lambda: 3600.0
        wait_for(out, "left; whole run: about 1 h 0 min left\n")
    assert "trials: 100 of 200, inner: 0 of 3, about " in out.getvalue()


def wait_for(out: io.StringIO, words: str) -> None:
    """Until the words are written, at most ten seconds."""
    for _ in range(1000):
        if words in out.getvalue():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{words!r} is not in {out.getvalue()!r}")


def test_durations_are_in_the_units_that_read_best() -> None:
    assert list(map(duration, (0.04, 1.26, 40, 59.6, 130, 3900))) == [
        *("0.0 s", "1.3 s", "40 s", "1 min 0 s", "2 min 10 s", "1 h 5 min"),
    ]


@pytest.mark.parametrize("kind", [Bars, Lines])
def test_a_task_that_is_stopped_within_another_leaves_the_terminal_ready_for_the_next(kind: type[Bars | Lines]) -> None:
    shown = kind(Console(file=io.StringIO(), width=80), check=stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), shown.task("as built", 6), shown.task("refit in order", 11) as inner:
            inner(1)
        assert shown.tasks == []


def test_silence_is_interrupted_as_well() -> None:
    with pytest.raises(KeyboardInterrupt), Quiet(stopped).task("trials", 3) as step:
        step(1)


def stopped() -> None:
    raise KeyboardInterrupt
