"""A comparison of our front with other rules for ranks, budget by budget, as compare.json has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from lrf_optuna.errors import LrfError, lookup

FILE = "compare.json"
OURS, FILTERS = "ours", "l1 filters"
KERNEL_KINDS = ("fitted", "plain")
"""Kinds of kernels: fitted to data as ours are, or data-free as published."""
AS_BUILT = "built"
"""The kind of kernels that `run` builds: fitted to data, and refitted in layer order where that is more accurate."""
BUDGET_COSTS = ("params", "macs")
"""The costs that a budget may be of."""


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of images classified right: validation images, and test images where they were measured."""

    val: float
    test: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One way to meet a budget; without numbers where it cannot, for the `reason`.

    `source`: where the rule is published; `params`, `macs`: shares of the original; `fitted`: accuracies with kernels
    fitted to data, as for `loss`; `plain`: with data-free kernels; `built`: refitted in layer order as well, for ours
    and the rule that is best with fitted kernels; `dominated`: the number of points on the front that the row
    dominates in the study's costs. Filter pruning has no kernels to fit: its loss is with plain kernels.
    """

    name: str
    source: str
    reason: str = ""
    trial: int | None = None
    params: float | None = None
    macs: float | None = None
    loss: float | None = None
    fitted: Score | None = None
    plain: Score | None = None
    built: Score | None = None
    dominated: int = 0

    @property
    def best(self) -> Score | None:
        """The accuracies with fitted kernels, of filter pruning the only ones."""
        return self.fitted or self.plain


@dataclass(frozen=True, slots=True)
class BudgetRows:
    """The rows for one budget, ours first."""

    budget: float
    rows: tuple[Row, ...]

    def row(self, name: str) -> Row:
        """The row of this name."""
        return lookup({row.name: row for row in self.rows}, name, "row")

    @property
    def finals(self) -> list[tuple[str, Score]]:
        """Names and scores of what was built, ours first."""
        return [(row.name, row.built) for row in self.rows if row.built]

    def best(self, kind: str) -> Row | None:
        """The rule for ranks that is best on validation images with `fitted` or `plain` kernels; of equals the first.

        Ours and filter pruning are none; None where no rule meets the budget.
        """
        rivals = [row for row in self.rows if row.name not in (OURS, FILTERS) and getattr(row, kind)]
        return max(rivals, key=lambda row: getattr(row, kind).val, default=None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The front of a study after `trials` trials against every baseline, for budgets of one cost, without tuning.

    `front`: its points; `dominated`: how many of them a baseline dominates; `notes`: what a fair reader should know.
    """

    study: str
    trials: int
    cost: str
    objectives: tuple[str, ...]
    front: int
    dominated: int
    original: Score
    blocks: tuple[BudgetRows, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Which baselines dominate points of the front, as a sentence."""
        most: dict[str, int] = {}
        for row in (row for block in self.blocks for row in block.rows if row.dominated):
            most[row.name] = max(most.get(row.name, 0), row.dominated)
        costs = ", ".join(self.objectives)
        if not most:
            return f"No baseline dominates any of the {self.front} points of our front in {costs}."
        who = ", ".join(f"{name} (up to {count})" for name, count in most.items())
        return f"Of the {self.front} points of our front {self.dominated} are dominated in {costs}, by: {who}."

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json."""
        table: dict[str, Any] = TypeAdapter(Comparison).dump_python(self, mode="json")
        return table | {"verdict": self.verdict}

    def to_json(self) -> str:
        """compare.json as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def read(cls, folder: Path, study: str) -> Comparison | None:
        """The comparison that a run folder keeps of a study; None where there is none that can be read."""
        try:
            comparison = TypeAdapter(cls).validate_json((folder / FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return comparison if comparison.study == study else None


def checked_budgets(budgets: Sequence[float], cost: str) -> tuple[float, ...]:
    """The budgets, each once, from large to small. Raises LrfError for no shares, and for no cost of a budget."""
    lookup(dict.fromkeys(BUDGET_COSTS), cost, "cost")
    for budget in budgets:
        if not 0 < budget <= 1:
            raise LrfError(f"budgets should be shares in (0, 1], such as 0.5,0.3, but got {budget:g}")
    if not budgets:
        raise LrfError("there is no budget to compare at: give some, such as 0.5,0.3")
    return tuple(sorted(set(budgets), reverse=True))
