"""Costs in words: their names, their values as text, their order as axes."""

from __future__ import annotations

from collections.abc import Sequence

from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.scoring.option_table import SIZES

ORIGINAL = Candidate(0, Plan(()), {"loss": 0.0, **dict.fromkeys(SIZES, 1.0)})
"""The original network, which is no trial. Over other objectives it is not drawn."""
COST_NAMES = {"loss": "loss", "params": "parameters", "macs": "MACs", "latency": "milliseconds"}
ZERO_LOSS = 1e-5
"""A loss below this is drawn as 0, because float32 outputs differ by about as much from rounding alone."""


def axes_of(names: Sequence[str]) -> list[str]:
    """The objectives as x, y and the rest: sizes come first, the parameters before all; the loss is y."""
    sizes = sorted((name for name in names if name != "loss"), key=lambda name: name != "params")
    return [*sizes[:1], "loss", *sizes[1:]] if "loss" in names else sizes


def cost_name(name: str) -> str:
    """What an objective is called."""
    return COST_NAMES.get(name, name)


def axis_title(name: str) -> str:
    """The title of an objective's axis."""
    return f"{cost_name(name)}, share of the original" if name in SIZES else cost_name(name)


def cost_text(name: str, cost: float) -> str:
    """An objective with its cost, as text."""
    return f"{cost_name(name)} {f'{cost:.1%}' if name in SIZES else f'{cost:.4g}'}"


def point_text(point: Candidate) -> str:
    """A candidate in words, a line each: its trial, its costs, how many layers have which method."""
    costs = [cost_text(name, cost) for name, cost in point.costs.items()]
    return "\n".join([f"trial {point.trial}", *costs, point.plan.methods])
