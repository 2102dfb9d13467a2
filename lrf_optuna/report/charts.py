"""A chart as data: axes, series of marks, a legend. `svg.py` draws it on the page, `dashboard_figures.py` for Optuna.

A chart holds no pixels: places are shares of the width and the height, so that one drawing fits every screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import TypeVar

Spread = TypeVar("Spread")

TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Round steps between ticks, times a power of ten."""
TICKS = 5
"""Steps of an axis, about: the labels of six ticks fit beside each other on 390 pixels."""
FREE_SHARE = 0.06
"""Share of the range of the values that is left free at both ends of an axis."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a series, and the lines of text that are shown beside the pointer."""

    x: float
    y: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Marks of one meaning.

    `color`: a class of page.css; `symbol`: `dot`, `ring`, `diamond` or `star`, `spot` for one that is seen under the
    pointer alone, none for a line without texts; `line`: none, `straight` or `steps`; `label`: text beside each mark;
    `is_cloud`: whether the marks are many, faint and silent.
    """

    name: str
    marks: Sequence[Mark]
    color: str
    symbol: str = "dot"
    line: str = ""
    label: str = ""
    is_cloud: bool = False
    in_legend: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from `low` to `high` with its ticks, pairs of a value and its text; `ends`: of its values, as texts."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    ends: tuple[str, str]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value is, as a share of the axis; outside of 0 to 1 where the axis does not reach."""
        low, high, at = (log10(v) if self.is_log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def has(self, value: float) -> bool:
        """Whether a value is on the axis."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its `name` is fit for an id; `levels` are horizontal lines with their texts."""

    name: str
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    caption: str = ""
    levels: Sequence[tuple[float, str]] = ()


def linear_axis(
    title: str, values: Iterable[float], percent: bool = False, low: float = -inf, high: float = inf, least: float = 0.0
) -> Axis:
    """An axis with room for the values, but not below `low` and above `high`; its ticks are round numbers.

    `least`: the least step between ticks, 1 for what is counted.
    """
    finite = [min(max(value, low), high) for value in values if isfinite(value)] or [0.0, 1.0]
    first, last = min(finite), max(finite)
    room = FREE_SHARE * (last - first) or FREE_SHARE * abs(last) or 1.0
    start, end = max(first - room, low), min(last + room, high)
    step = round_step(max((end - start) / TICKS, least))
    numbers = [n * step for n in range(ceil(start / step - 1e-9), floor(end / step + 1e-9) + 1)]
    ticks = [(number, tick_text(number, step, percent)) for number in numbers]
    return Axis(title, start, end, ticks, (end_text(first, percent), end_text(last, percent)))


def round_step(least: float) -> float:
    """The least round number that is no smaller than `least`."""
    power = 10.0 ** floor(log10(least))
    return next(step * power for step in TICK_STEPS if step * power >= least * (1 - 1e-9))


def tick_text(number: float, step: float, percent: bool) -> str:
    """A tick with as many digits as its step needs."""
    shown, size = (100 * number, 100 * step) if percent else (number, step)
    digits = next((n for n in range(7) if abs(round(size, n) - size) < 1e-9 * size), 7)
    return f"{shown:,.{digits}f}" + "%" * percent


def end_text(number: float, percent: bool = False) -> str:
    """The least or the largest value of an axis, with four digits."""
    shown = 100 * number if percent else number
    return (f"{shown:,.0f}" if abs(shown) >= 1000 else f"{shown:.4g}") + "%" * percent


def log_axis(title: str, values: Iterable[float], zero: float) -> tuple[float, Axis]:
    """The place of values below `zero`, half a decade below the others, and a log axis whose tick 0 is there."""
    positive = [value for value in values if zero <= value < inf] or [1.0]
    least, most = log10(min(positive)), log10(max(positive))
    bottom = 10 ** (least - 0.5)
    digits = (1, 2, 5) if most - least <= 2 else (1,)
    powers = range(floor(least), ceil(most) + 1)
    numbers = [n for power in powers for digit in digits if (n := digit * 10.0**power) > 1.5 * bottom]
    ticks = [(bottom, "0"), *((n, f"{n:.10f}".rstrip("0").rstrip(".")) for n in numbers if n < 10 ** (most + 0.15))]
    ends = end_text(min(positive)), end_text(max(positive))
    return bottom, Axis(title, 10 ** (least - 0.65), 10 ** (most + 0.15), ticks, ends, is_log=True)


def spread(items: Sequence[Spread], most: int) -> Sequence[Spread]:
    """At most `most` of the items, evenly spread over them, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
