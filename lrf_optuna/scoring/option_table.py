"""The option table: what every option of every layer costs and loses, and plans as rows of option numbers.

Inside the search a plan is a row of integers, the number of the chosen option in every layer; outside it is a `Plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.plan import INTACT, Choice, Plan

SIZES = ("params", "macs", "latency")
"""Costs that are sums over the layers, by their names as objectives."""
COUNTED = ("params", "macs")
"""Sizes that are known without any measurement."""


class Shares(NamedTuple):
    """Shares of the whole network's parameters, MACs and milliseconds; the last are 0 where none were measured."""

    params: float
    macs: float
    latency: float = 0.0


NOTHING_FIXED = Shares(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Option:
    """One way to do one layer: the trial parameters (method, keep), their choice, and what it loses and costs.

    `loss`: the expected rise of the network's loss; `params`, `macs`, `latency`: shares of the whole network.
    """

    method: str
    keep: float
    choice: Choice
    loss: float
    params: float
    macs: float
    latency: float = 0.0


OptionIndices = NDArray[np.intp]
"""Plans as option numbers, `(plans, layers)`, or one plan, `(layers,)`."""


@dataclass(frozen=True)
class OptionTable(Mapping[str, Sequence[Option]]):
    """Site -> its options, the intact layer among them; the same as arrays of shape `(layers, most options)`.

    `fixed`: the shares of the network's sizes that no plan can change. `space`: site -> the methods and the keeps that
    trials draw from, the option table's own where none is given; it may be wider than the options. `sizes`: the sizes
    that options are weighed by.
    """

    options: Mapping[str, Sequence[Option]]
    fixed: Shares = NOTHING_FIXED
    space: Mapping[str, tuple[tuple[str, ...], tuple[float, ...]]] = field(default_factory=dict)
    sizes: tuple[str, ...] = COUNTED

    def __getitem__(self, site: str) -> Sequence[Option]:
        return self.options[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self.options)

    def __len__(self) -> int:
        return len(self.options)

    def where(self, allowed: Callable[[str, Option], bool]) -> OptionTable:
        """The table of those options that a function (site, option) allows."""
        kept = {site: [option for option in options if allowed(site, option)] for site, options in self.items()}
        return replace(self, options=kept)

    def methods_and_keeps(self, site: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
        """What the trials of a search draw from at a site."""
        if site in self.space:
            return self.space[site]
        options = self[site]
        return tuple(dict.fromkeys(o.method for o in options)), tuple(sorted({o.keep for o in options}))

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """How many options each layer has, `(layers,)`."""
        return np.array([len(options) for options in self.values()])

    @cached_property
    def losses(self) -> Array:
        """The loss of every option."""
        return edge_padded([[option.loss for option in options] for options in self.values()])

    @cached_property
    def params(self) -> Array:
        """The parameter share of every option."""
        return edge_padded([[option.params for option in options] for options in self.values()])

    @cached_property
    def macs(self) -> Array:
        """The MAC share of every option."""
        return edge_padded([[option.macs for option in options] for options in self.values()])

    @cached_property
    def latency(self) -> Array:
        """The share of the milliseconds of every option."""
        return edge_padded([[option.latency for option in options] for options in self.values()])

    @cached_property
    def size_arrays(self) -> Array:
        """The shares of every option, `(sizes, layers, options)`."""
        return np.stack([getattr(self, name) for name in self.sizes])

    def allocate(self, multipliers: Array, mixes: Array) -> OptionIndices:
        """In every layer the option with the least loss + multiplier * size, `(n, layers)`, for multipliers `(n,)`.

        A size is the sum of the shares of an option's sizes, with the weights `mixes` `(n, sizes)`.
        """
        prices = self.losses + multipliers[:, None, None] * np.tensordot(mixes, self.size_arrays, 1)
        # equal columns of a product may differ by a rounding, so that the repeated last option may seem the cheapest
        best: OptionIndices = np.minimum(prices.argmin(axis=2), self.counts - 1)
        return best

    def total(self, indices: OptionIndices, cost: str) -> Array:
        """The sum of `losses` or of a size over the layers of plans `(n, layers)`, without what is fixed."""
        costs: Array = getattr(self, cost)
        found: Array = costs[np.arange(len(costs)), indices].sum(axis=-1)
        return found

    def shares(self, indices: OptionIndices) -> Array:
        """The sizes of whole networks as shares, `(n, sizes)`."""
        return np.stack([self.share(indices, cost) for cost in self.sizes], axis=-1)

    def share(self, indices: OptionIndices, cost: str) -> Array:
        """One size of whole networks as a share, `(n,)`."""
        found: Array = getattr(self.fixed, cost) + self.total(indices, cost)
        return found

    @cached_property
    def numbers(self) -> list[dict[Choice, int]]:
        """Choice -> option number, for every layer."""
        return [{option.choice: i for i, option in enumerate(options)} for options in self.values()]

    def encode(self, plan: Plan) -> OptionIndices | None:
        """The option numbers of a plan, `(layers,)`; None where a choice of the plan is not in the table."""
        choices = dict(plan.choices)
        found = [numbers.get(choices.get(site, INTACT)) for site, numbers in zip(self, self.numbers, strict=True)]
        return None if None in found else np.array(found, np.intp)

    def decode(self, indices: OptionIndices) -> Plan:
        """The plan of option numbers `(layers,)`."""
        return Plan.of({site: options[i].choice for (site, options), i in zip(self.items(), indices, strict=True)})


def edge_padded(rows: Sequence[Sequence[float]]) -> Array:
    """Rows as one array, `(layers, most options)`: a layer with fewer options repeats its last one."""
    most = max(map(len, rows))
    return np.array([np.pad(row, (0, most - len(row)), mode="edge") for row in rows])
