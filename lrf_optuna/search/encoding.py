"""Plans as numbers of the table's options, and what those that were scored have lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import OptionIndices, TableArrays

NUMBER = np.int16
"""What numbers of options are kept as."""


@dataclass(frozen=True)
class PlanEncoding(TableArrays):
    """The table as arrays, and plans as numbers in it."""

    fixed: Mapping[str, float]
    """The shares of the whole network that no plan changes."""

    @cached_property
    def numbers(self) -> list[dict[Choice, int]]:
        """Of every layer's choices."""
        return [{o.choice: i for i, o in enumerate(options)} for options in self.table.values()]

    def picked(self, plan: Plan) -> OptionIndices | None:
        """The numbers of a plan's options, `(layers,)`; None for a plan with others."""
        chosen = dict(plan.choices)
        found = [numbers.get(chosen.get(site, INTACT)) for site, numbers in zip(self.table, self.numbers, strict=True)]
        return None if None in found else np.array(found, np.intp)

    def room(self, picked: OptionIndices, budget: Mapping[str, Array]) -> dict[str, Array]:
        """What plans `(n, layers)` leave of a budget, `(n,)` for each of its costs."""
        return {cost: most - self.fixed[cost] - self.total(picked, cost) for cost, most in budget.items()}

    def shares(self, picked: OptionIndices) -> Array:
        """Parameters and MACs of whole networks, as shares, `(n, 2)`."""
        return np.stack([self.fixed[cost] + self.total(picked, cost) for cost in ("params", "macs")], axis=-1)


class Observations:
    """The plans of all trials as numbers of options, `(trials, layers)`, and what the distinct ones lost."""

    def __init__(self, options: PlanEncoding) -> None:
        self.options = options
        self.picks = np.empty((0, len(options.table)), NUMBER)
        self.shares = np.empty((0, 2))
        self.known = np.empty(0, bool)
        """Whether a trial's plan is of the table at all."""
        self.losses: dict[bytes, float] = {}

    def add(self, plan: Plan, loss: float) -> None:
        """Take in the next trial."""
        found = self.options.picked(plan)
        picked = (np.zeros(len(self.options.table)) if found is None else found).astype(NUMBER)
        self.picks = np.concatenate([self.picks, picked[None]])
        self.shares = np.concatenate([self.shares, self.options.shares(picked.astype(np.intp))[None]])
        self.known = np.append(self.known, found is not None)
        if found is not None:
            self.losses[picked.tobytes()] = loss

    def rows(self, trials: OptionIndices) -> tuple[OptionIndices, Array]:
        """The plans of some trials and their shares `(n, 2)`; of all where none of those is of the table."""
        chosen = trials[self.known[trials]] if self.known[trials].any() else np.flatnonzero(self.known)
        return self.picks[chosen].astype(np.intp), self.shares[chosen]

    def distinct(self) -> OptionIndices:
        """The distinct plans, in the order of the losses."""
        return np.frombuffer(b"".join(self.losses), NUMBER).reshape(len(self.losses), -1).astype(np.intp)

    def new(self, drawn: OptionIndices, awaited: Sequence[OptionIndices]) -> OptionIndices:
        """Those of the plans that were neither scored nor are awaited, each once; all of them where none is new."""
        coming = {one.astype(NUMBER).tobytes() for one in awaited}
        keys = [row.tobytes() for row in drawn.astype(NUMBER)]
        first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
        fresh = [i for key, i in first.items() if key not in self.losses and key not in coming]
        return drawn[sorted(fresh)] if fresh else drawn
