"""The tables of a front: its points with metric, size and milliseconds, and the named ones with their commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Alternative, Result
from lrf_optuna.report.tables import NONE, Table, columns
from lrf_optuna.report.terminal_table import BEST, FAINT

STATE_HEADS = {
    "metric": "scored",
    "metric as built": "built",
    "metric calibrated": "calibrated",
    "metric tuned": "tuned",
}
"""Metric of a point -> the head of its column, in the order in which they are measured."""
BUDGET_HEAD = "budget"
"""The head of the column with the round budget that a point is the best within, its name, and whether it is chosen."""
ALWAYS_SHOWN = "metric", "metric as built"
"""Metrics whose columns are there even where no point has them."""
CHOSEN_MARK = "←"
"""What marks the chosen point."""


@dataclass(frozen=True, slots=True)
class PointRow:
    """A point of a front as a row of a table.

    `metrics`: metric of a point -> its value, of those that are known; `milliseconds`: of a call, None where they are
    not known, and `timed` where they were measured and not predicted; `name`: safe, balanced, small or none; `budget`:
    the round budget within which it is the best point, if any.
    """

    point: Candidate
    metrics: Mapping[str, float]
    milliseconds: float | None = None
    timed: bool = False
    name: str = ""
    budget: float | None = None
    chosen: bool = False

    @property
    def last_metrics(self) -> Mapping[str, float]:
        """The metrics without that of a calibrated network which was tuned later."""
        tuned = "metric tuned" in self.metrics
        return {name: metric for name, metric in self.metrics.items() if not (tuned and name == "metric calibrated")}

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON; None for what is not known."""
        metrics = {name: self.metrics.get(name) for name in STATE_HEADS}
        time = {"milliseconds": self.milliseconds, "timed": self.timed}
        marks = {"name": self.name, "budget": self.budget, "chosen": self.chosen}
        plan = {"plan": self.point.plan.to_dict()}
        return {"trial": self.point.trial, **metrics, **self.point.costs, **time, **marks, **plan}


def front_table(
    rows: Sequence[PointRow],
    metric: str,
    original: Mapping[str, float],
    time: float | None = None,
    methods: bool = False,
) -> Table:
    """Points of a front, from the smallest network to the largest, and the original; perhaps with their methods.

    `metric`: its name with the images that it was measured on; `original`: the original's under the names of a row's
    metrics; `time`: the original's milliseconds. What is not known is a dash.
    """
    states = [name for name in STATE_HEADS if name in ALWAYS_SHOWN or any(name in row.last_metrics for row in rows)]
    costs = list(rows[0].point.costs) if rows else []
    timed = any(row.milliseconds is not None for row in rows)
    heads = ["trial", *(STATE_HEADS[name] for name in states), *costs, *["ms"] * timed]
    table = Table(columns([], heads) + columns([BUDGET_HEAD, *["methods"] * methods]), caption=caption_of(rows, metric))
    for row in rows:
        texts = [str(row.point.trial), *(share_text(row.metrics.get(name)) for name in states)]
        texts += [f"{cost:.3f}" if name == "loss" else f"{cost:.1%}" for name, cost in row.point.costs.items()]
        texts += [time_text(row.milliseconds, row.timed)] * timed
        budget = "" if row.budget is None else f"{row.budget:.0%}"
        texts += [" ".join(filter(None, [budget, row.name, CHOSEN_MARK * row.chosen]))]
        table.add(*texts, *[row.point.plan.methods] * methods, tone=BEST if row.chosen else "")
    if original:
        texts = [NONE, *(share_text(original.get(name)) for name in states)]
        texts += ["0" if name == "loss" else "100%" for name in costs]
        table.add(*texts, *[time_text(time, True)] * timed, "original", tone=FAINT)
    return table


def caption_of(rows: Sequence[PointRow], metric: str) -> str:
    """What the columns of the metric mean."""
    if not metric:
        return "no metric was measured: run the study again to measure it"
    missing = f"; {NONE} is not measured" if any(set(ALWAYS_SHOWN) - row.metrics.keys() for row in rows) else ""
    tuned = "; tuned: of validation images" if any("metric tuned" in row.metrics for row in rows) else ""
    return f"scored: {metric} of a few hundred images; built: refitted, of more of them{tuned}{missing}"


def share_text(value: float | None) -> str:
    """A metric in percent, or a dash."""
    return NONE if value is None else f"{value:.1%}"


def time_text(milliseconds: float | None, timed: bool) -> str:
    """Milliseconds, with a sign before those that are predicted, or a dash."""
    return NONE if milliseconds is None else f"{'' if timed else '~'}{milliseconds:.3g}"


def alternatives_table(result: Result) -> Table:
    """The named points of a front and the chosen one, with metric, size and milliseconds; empty without names."""
    found = [*result.alternatives, *chosen_without_name(result)]
    timed, predicted = (any(getattr(one, name) for one in found) for name in ("milliseconds", "predicted"))
    costs = [name for name in found[0].costs if name != "loss"] if found else []
    heads = ["trial", result.metric, *["predicted"] * predicted, *costs, *["ms"] * timed]
    table = Table(columns(["point"], heads) + columns(["state"]), "Points with names" if found else "")
    for one in found:
        chosen = one.trial == result.chosen.trial
        texts = [f"{one.metric:.2%}", *[predicted_text(one)] * predicted, *(f"{one.costs[cost]:.1%}" for cost in costs)]
        time = time_text(one.milliseconds, one.timed)
        state = f"{one.state} {CHOSEN_MARK}" if chosen else one.state
        table.add(one.name, str(one.trial), *texts, *[time] * timed, state, tone=BEST if chosen else "")
    return table


def chosen_without_name(result: Result) -> Iterator[Alternative]:
    """The chosen point with its last network, where named points are known and it is none of them."""
    trials = {one.trial for one in result.alternatives}
    if trials and result.chosen.trial not in trials:
        last, costs = result.final, dict(result.chosen.costs)
        time = next(iter(last.milliseconds.values()), None)
        yield Alternative("chosen", result.chosen.trial, costs, last.val_metric, result.final_state, None, time, True)


def predicted_text(one: Alternative) -> str:
    """The metric after the fine-tune or calibration as it is predicted, or a dash."""
    return f"~{one.predicted[0]:.2%}" if one.predicted else NONE


def alternative_commands(result: Result) -> list[str]:
    """A line for every named point that is not the chosen one: its name, and the command that makes its model."""
    others = [one for one in result.alternatives if one.trial != result.chosen.trial]
    return [f"{one.name}: {one.command}" for one in others]
