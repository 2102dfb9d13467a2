"""Rows of bars and cells of heat: what each layer has, decides and hurts, ready for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import log10

from lrf_optuna.plans.plan import INTACT, Choice
from lrf_optuna.plans.result import LayerResult
from lrf_optuna.report.costs import cost_name
from lrf_optuna.report.tables import NONE, UNCOUNTED, percent, short_count

COLORS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
"""Classes of page.css with a color each."""
SHOWN_KEEPS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Keeps near which the sensitivity of layers is shown: five columns fit on 390 pixels."""
LEAST_LOSS = 1e-5
"""Losses below this are rounding, and have no heat."""
HEAT_DECADES = 4
"""Powers of ten of the loss, down from 1, over which heat falls to none."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A pale bar and a full one, as shares of the room in percent, and what they say in words."""

    before: float
    after: float
    text: str


@dataclass(frozen=True, slots=True)
class BarRow:
    """A row: a name, a note, a color, and a bar for each column."""

    name: str
    note: str
    color: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class BarTable:
    """Rows of bars under the heads of their columns. `colors`: name of a color's meaning -> its class."""

    heads: tuple[str, ...]
    rows: tuple[BarRow, ...]
    colors: Mapping[str, str]


def layer_bars(layers: Sequence[LayerResult]) -> BarTable | None:
    """Every layer that may have MACs: its parameters and MACs before and after; None where no layer has any."""
    parts = [part for part in layers if part.macs_before != 0]
    if not parts:
        return None
    colors = method_colors(parts)
    params = max(max(part.params_before, part.params_after) for part in parts)
    macs = max(max(part.macs_before or 0, part.macs_after or 0) for part in parts)
    rows = [
        BarRow(
            part.name,
            f"{INTACT.method}: {part.reason}" if part.reason else str(Choice(part.method, part.ranks)),
            colors[part.method],
            (
                size_bar(part.params_before, part.params_after, params),
                size_bar(part.macs_before, part.macs_after, macs),
            ),
        )
        for part in parts
    ]
    return BarTable(("parameters", "MACs"), tuple(rows), colors)


def size_bar(before: int | None, after: int | None, most: int) -> Bar:
    """The bar of a count before and after, where `most` fills the room."""
    if before is None or after is None:
        return Bar(0, 0, UNCOUNTED)
    text = short_count(before) if before == after else f"{short_count(before)} → {short_count(after)}"
    left = "" if before == after else f" ({percent(after, before)})"
    whole = 100 / max(most, 1)
    return Bar(round(whole * before, 1), round(whole * after, 1), text + left)


def method_colors(parts: Sequence[LayerResult]) -> dict[str, str]:
    """Method -> class of its color, for the methods of these layers; `intact` is gray."""
    used, intact = {part.method for part in parts}, {INTACT.method}
    return dict(zip(sorted(used - intact), cycle(COLORS), strict=False)) | dict.fromkeys(sorted(used & intact), "soft")


def importance_bars(importances: Mapping[str, Mapping[str, float]]) -> BarTable | None:
    """How much each layer decides in each objective; None where that is not known."""
    shown = {name: shares for name, shares in importances.items() if shares}
    if not shown:
        return None
    first = next(iter(shown.values()))
    layers = sorted(first, key=lambda layer: -first[layer])
    most = max(max(shares.values()) for shares in shown.values()) or 1.0
    rows = []
    for layer in layers:
        shares = [own.get(layer, 0.0) for own in shown.values()]
        bars = tuple(Bar(0, round(100 * share / most, 1), f"{share:.1%}") for share in shares)
        rows.append(BarRow(layer, "", "front", bars))
    return BarTable(tuple(cost_name(name) for name in shown), tuple(rows), {})


@dataclass(frozen=True, slots=True)
class HeatTable:
    """Layers by keeps: for each cell its text and its heat from 0 to 1."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


def sensitivity_table(sensitivity: Mapping[str, Sequence[tuple[float, float]]]) -> HeatTable | None:
    """The least loss of the network where one layer alone keeps at most a share; None where none is known."""
    keeps = sorted({keep for pairs in sensitivity.values() for keep, _ in pairs})
    if not keeps:
        return None
    shown = sorted({min(keeps, key=lambda keep: abs(keep - wanted)) for wanted in SHOWN_KEEPS})
    rows = []
    for layer, pairs in sensitivity.items():
        least = [min((loss for keep, loss in pairs if keep <= most), default=None) for most in shown]
        rows.append((layer, tuple(map(heat_cell, least))))
    return HeatTable(tuple(f"{100 * keep:.2g}%" for keep in shown), tuple(rows))


def heat_cell(loss: float | None) -> tuple[str, float]:
    """The text and the heat of a loss; a dash where there is no option."""
    if loss is None:
        return NONE, 0.0
    if loss < LEAST_LOSS:
        return "0", 0.0
    text = f"{loss:.2f}" if loss >= 0.1 else f"{loss:.1g}" if loss >= 1e-3 else "<0.001"
    return text, max(0.0, min(1.0, 1 + log10(loss) / HEAT_DECADES))
