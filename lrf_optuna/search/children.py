"""Children for NSGA-II: many are drawn, and the one that should add most to the front is scored.

Children are parents with a few layers moved to options of about the same price. The surrogate predicts their losses;
sizes are known sums over the layers. With limits, half of the children are chosen as the best within them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.hypervolume import hypervolume_gains
from lrf_optuna.scoring.option_table import OptionIndices, OptionTable
from lrf_optuna.search.surrogate import Surrogate

CHILD_MULTIPLIERS = np.geomspace(3e-3, 30, 33)
"""Loss a unit of size: from a network that is nearly whole to one of nearly nothing."""


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """How children are drawn and which of them is scored."""

    drawn: int = 60
    """Children; more take time and no more volume."""
    moves: int = 3
    """Layers that a move may change besides the first one, each with the chance `move_chance`."""
    move_chance: float = 0.4
    temperature_rank: int = 4
    """The price of the option of this rank is the temperature at which a layer's new option is drawn."""
    within_limits: float = 0.5
    """Share of the children that are chosen as the best one within the limits, where there are limits."""
    refit_growth: float = 1.05
    """The surrogate is fitted again when there are this many times the plans."""


@dataclass
class Observations:
    """The distinct scored plans as option numbers `(n, layers)`, and their losses `(n,)`."""

    table: OptionTable
    losses: dict[bytes, float] = field(default_factory=dict)

    def add(self, plan: OptionIndices, loss: float) -> None:
        """Take in a scored plan."""
        self.losses[plan.tobytes()] = loss

    def __len__(self) -> int:
        return len(self.losses)

    @property
    def plans(self) -> OptionIndices:
        """The distinct plans, in the order in which they came."""
        return np.frombuffer(b"".join(self.losses), np.intp).reshape(len(self.losses), -1)

    def unscored(self, plans: OptionIndices) -> OptionIndices:
        """The plans that are not among these, each once, `(n, layers)`; n may be 0."""
        distinct = {plan.tobytes(): plan for plan in plans}
        fresh = [plan for key, plan in distinct.items() if key not in self.losses]
        return np.array(fresh, np.intp).reshape(len(fresh), plans.shape[1])


class ChildGenerator:
    """Draws children from the scored plans; `observations` takes in each of them.

    `objectives`: the names of the costs, in the order of the front's columns; costs other than `loss` and the sizes of
    the table cannot be predicted and count as 0. `limits`: objective -> most, what children should mostly be within.
    """

    def __init__(
        self,
        table: OptionTable,
        objectives: Sequence[str],
        limits: Mapping[str, float],
        seed: int,
        settings: ChildSettings | None = None,
    ) -> None:
        self.table, self.objectives = table, tuple(objectives)
        self.settings = settings or ChildSettings()
        self.rng = np.random.default_rng(seed)
        self.limits = np.array([limits.get(name, np.inf) for name in self.objectives])
        self.observations = Observations(table)
        self.fitted_to = 0
        self.surrogate: Surrogate
        plans = table.allocate(
            CHILD_MULTIPLIERS, np.full((len(CHILD_MULTIPLIERS), len(table.sizes)), 1 / len(table.sizes))
        )
        self.multiplier_sizes = table.shares(plans).sum(axis=1)

    def child(self, parents: OptionIndices, front: Array) -> OptionIndices:
        """The next plan to score `(layers,)`.

        `parents` `(n, layers)`: plans to draw from, at least one; `front` `(m, costs)`: the costs of the front so far.
        """
        self.refit()
        fresh = self.observations.unscored(self.draw(parents))
        if not len(fresh):
            plans = self.rng.integers(0, self.table.counts, (20 * self.settings.drawn, len(self.table)))
            unscored = self.observations.unscored(plans)
            fresh = unscored if len(unscored) else plans
        best: OptionIndices = fresh[self.choose(self.expected_costs(fresh), front)]
        return best

    def choose(self, costs: Array, front: Array) -> int:
        """The number of the plan to score, by expected costs `(n, costs)`: the largest gain of hypervolume.

        With limits, every so often the best plan within them. Where nothing gains, any plan.
        """
        if np.isfinite(self.limits).any() and self.rng.random() < self.settings.within_limits:
            chosen = self.best_within_limits(costs)
            if chosen is not None:
                return chosen
        gains = hypervolume_gains(front, costs)
        return int(gains.argmax()) if gains.max() > 0 else int(self.rng.integers(len(costs)))

    def best_within_limits(self, costs: Array) -> int | None:
        """The number of the plan within all limits with the least loss; None where no plan is within them.

        Where the loss has a limit and another cost has none, the sum of the costs without a limit decides instead.
        """
        free = np.isinf(self.limits)
        loss = np.array([name == "loss" for name in self.objectives])
        decisive = loss if loss.any() and (free[loss].any() or not free.any()) else free | ~free.any()
        inside = np.flatnonzero((costs <= self.limits).all(axis=1))
        return int(inside[costs[inside][:, decisive].sum(axis=1).argmin()]) if len(inside) else None

    def refit(self) -> None:
        """Fit the surrogate again where there are many more plans than it knows."""
        if self.fitted_to and len(self.observations) < self.settings.refit_growth * self.fitted_to:
            return
        losses = np.array(list(self.observations.losses.values()))
        self.surrogate = Surrogate.fit(self.table.losses, self.observations.plans, losses)
        self.fitted_to = len(losses)

    def draw(self, parents: OptionIndices) -> OptionIndices:
        """Mutated parents, `(n, layers)`, and one plan of any options."""
        return np.concatenate([self.mutate(parents), self.rng.integers(0, self.table.counts)[None]])

    def multipliers_of(self, sizes: Array) -> Array:
        """The multipliers `(n,)` whose Lagrangian plans are about as large as plans of these shares `(n, sizes)`."""
        logarithms = np.interp(-sizes.sum(axis=1), -self.multiplier_sizes, np.log(CHILD_MULTIPLIERS))
        multipliers: Array = np.exp(logarithms)
        return multipliers

    def random_mixes(self, count: int) -> Array:
        """Random weights of the sizes in a price, each row with the sum 1, `(count, sizes)`."""
        cuts = np.sort(self.rng.random((count, len(self.table.sizes) - 1)), axis=1)
        return np.diff(cuts, axis=1, prepend=0.0, append=1.0)

    def mutate(self, parents: OptionIndices) -> OptionIndices:
        """Parents with another option in a few layers, drawn by price: loss + multiplier * size.

        Options are drawn with probabilities exp(-price / temperature), by the Gumbel trick.
        """
        count, table, multipliers = self.settings.drawn, self.table, self.multipliers_of(self.table.shares(parents))
        own, mixes = self.rng.integers(len(parents), size=count), self.random_mixes(count)
        moves = 1 + self.rng.binomial(self.settings.moves, self.settings.move_chance, count)
        order = self.rng.random((count, parents.shape[1])).argsort(axis=1).argsort(axis=1)
        child, layer = np.nonzero(order < moves[:, None])
        sizes = np.einsum("sco,cs->co", table.size_arrays[:, layer], mixes[child])
        prices = table.losses[layer] + multipliers[own[child], None] * sizes
        exists = np.arange(prices.shape[1]) < table.counts[layer, None]
        above = np.where(exists, prices - prices.min(axis=1, keepdims=True), np.inf)
        rows = np.arange(len(layer))
        rank = np.minimum(self.settings.temperature_rank, table.counts[layer] - 1)
        temperature = np.sort(above, axis=1)[rows, rank][:, None] + 1e-12
        children = parents[own]
        above[rows, children[child, layer]] = np.inf
        option = (self.rng.gumbel(size=above.shape) - above / temperature).argmax(axis=1)
        changed = np.isfinite(above).any(axis=1)
        children[child[changed], layer[changed]] = option[changed]
        return children

    def expected_costs(self, plans: OptionIndices) -> Array:
        """The costs `(n, costs)` that plans `(n, layers)` are expected to have, in the order of the objectives."""
        shares = self.table.shares(plans)
        columns = {"loss": self.surrogate.losses(plans)} | dict(zip(self.table.sizes, shares.T, strict=True))
        return np.stack([columns.get(name, np.zeros(len(plans))) for name in self.objectives], axis=1)
