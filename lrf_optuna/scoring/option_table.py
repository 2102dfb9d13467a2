"""What every option of every layer costs and loses: the option table, and plans as indices into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import Choice, Plan

if TYPE_CHECKING:
    pass


class Shares(NamedTuple):
    """What something has of the whole network's parameters and MACs."""

    params: float
    macs: float


@dataclass(frozen=True, slots=True)
class Option:
    """One way to do one layer: the search's (method, keep), the choice it means, what it loses and costs.

    `loss`: the expected rise of the network's loss; `params`, `macs`: shares of the whole network's.
    """

    method: str
    keep: float
    choice: Choice
    loss: float
    params: float
    macs: float


OptionTable = Mapping[str, Sequence[Option]]
"""Site name -> its options; the intact layer is one of them."""
Allocation = dict[str, Option]
OptionIndices = NDArray[np.intp]
"""`(plans, layers)`: for each layer the number of its option in the table."""


@dataclass(frozen=True)
class TableArrays:
    """A table as arrays: options by number, in every layer."""

    table: OptionTable

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """How many options each layer has, `(layers,)`."""
        return np.array([len(options) for options in self.table.values()])

    @cached_property
    def errors(self) -> Array:
        """The losses of all options, `(layers, most options)`."""
        return self.padded("loss")

    @cached_property
    def params(self) -> Array:
        """Their shares of the parameters."""
        return self.padded("params")

    @cached_property
    def macs(self) -> Array:
        """Their shares of the MACs."""
        return self.padded("macs")

    def padded(self, what: str) -> Array:
        """One property of every option, `(layers, most options)`; layers with fewer repeat their last one's."""
        rows = [[getattr(option, what) for option in options] for options in self.table.values()]
        return np.array([np.pad(row, (0, self.counts.max() - len(row)), mode="edge") for row in rows])

    def sizes(self, mixes: Array) -> Array:
        """mix * params + (1 - mix) * macs of every option, for each of the mixes `(n,)`: `(n, layers, options)`."""
        return mixes[:, None, None] * self.params + (1 - mixes[:, None, None]) * self.macs

    def allocated(self, multipliers: Array, mixes: Array, weights: Array | None = None) -> OptionIndices:
        """In every layer the option with the least loss + multiplier * size, `(n, layers)`.

        `multipliers`, `mixes` `(n,)`; `weights` `(n, layers)`: of the layers' losses, where they are not 1.
        """
        return self.allocating(mixes, weights)(multipliers)

    def allocating(self, mixes: Array, weights: Array | None = None) -> Callable[[Array], OptionIndices]:
        """The same for any multipliers: what does not depend on them is worked out once."""
        losses, sizes = self.errors if weights is None else weights[:, :, None] * self.errors, self.sizes(mixes)

        def allocated(multipliers: Array) -> OptionIndices:
            prices = multipliers[:, None, None] * sizes
            prices += losses
            best: OptionIndices = prices.argmin(axis=2)
            return best

        return allocated

    def total(self, picked: OptionIndices, cost: str) -> Array:
        """The sums of a cost (`loss`, `params`, `macs`) over the layers of plans `(n, layers)`."""
        costs = {"loss": self.errors, "params": self.params, "macs": self.macs}[cost]
        found: Array = costs[np.arange(len(costs)), picked].sum(axis=-1)
        return found

    def picks(self, picked: OptionIndices) -> Allocation:
        """Site -> option of one plan `(layers,)`."""
        return {site: options[i] for (site, options), i in zip(self.table.items(), picked, strict=True)}


def plan_of(picks: Allocation) -> Plan:
    """The plan that the picks mean."""
    return Plan.of({site: option.choice for site, option in picks.items()})
