"""Children for NSGA-II: many are drawn, and the one is scored that is expected to add most to the hypervolume.

Four ways to draw one: the Lagrangian allocation under what the trials have taught of the layers' weights; that which
just meets a budget, where there are limits of size or one cost alone is looked at; a block of layers of one parent in
another that is near it; a few layers moved to options of about the same price. Which of them to score is told by a
surrogate of the loss (parameters and MACs are known exactly).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lrf_optuna.chains.conv import Array
from lrf_optuna.plans.hypervolume import Attainment
from lrf_optuna.plans.plan import Plan
from lrf_optuna.scoring.objectives import Measured
from lrf_optuna.scoring.option_table import Option, OptionIndices
from lrf_optuna.search.encoding import Observations, PlanEncoding
from lrf_optuna.search.interest import Edge, Interest, Look, looks
from lrf_optuna.search.surrogate import Surrogate

DRAWN = 60
"""Children of each kind."""
MULTIPLIERS = np.geomspace(3e-3, 30, 33)
"""Of cost against loss: from a network that is nearly whole to one of nearly nothing."""
AROUND = 0.3
"""Spread of a Lagrangian child's multiplier around its parent's, as a logarithm."""
UNSURE = 0.1
"""Spread of the layers' weights in a Lagrangian child, as a logarithm."""
NEIGHBOURS, RANK = 5, 4
"""Parents that count as near; the option whose price is the temperature of a move."""
MORE = 3, 0.4
"""A move changes one layer, and each of so many more with this chance."""
AIMED = 0.7
"""Share of the children that are chosen for what they add near the limits, where there are any."""
EDGED = 0.25
"""Share of the children that are chosen for the least loss within any parameters, or any MACs, where there are none."""
HOPE = 0.98
"""Of the loss that is expected: what is about as good as the best known is worth a trial. More hope is wasted: of
many children the most hopeful one is mostly that which the surrogate is wrong about."""
BOLD, BOLDLY = 0.7, 0.08
"""The same of a share of the children: plans that the surrogate takes for hopeless are tried now and then as well. It
expected a loss of 1 of plans that filled wide gaps of MobileNet's front, at 0.84."""
SLACK = 0.06
"""Share of a limit that a child which is to meet it may leave, at most."""
HALVINGS, FILLINGS = 14, 12
AMONG = 12
"""Children with large gains among which one is drawn where others search too: they should not score the same plan."""
GROWN = 1.05
"""The surrogate is learnt anew when there are this many times the trials."""
FORESIGHT = 24
"""Distinct plans from which on it is asked what to expect of one."""

Objectives = Mapping[str, Callable[[Measured], float]]


class ChildGenerator:
    """Draws children; `learn` tells it of every scored plan, in the order of the trials.

    `totals`: parameters and MACs of the original; `limits` (objective -> most): what children are mostly to be within.
    """

    def __init__(
        self,
        options: PlanEncoding,
        objectives: Objectives,
        totals: Mapping[str, int],
        limits: Mapping[str, float],
        seed: int,
    ) -> None:
        self.options, self.objectives, self.totals = options, objectives, totals
        self.rng = np.random.default_rng(seed)
        self.limits = {cost: most for cost, most in limits.items() if cost in objectives}
        self.budget = {cost: most for cost, most in self.limits.items() if cost in ("params", "macs")}
        self.plain, self.looks = Interest.of(tuple(objectives), {}), looks(tuple(objectives), self.limits)
        self.scored = Observations(options)
        self.learnt = 0
        self.shared = False
        """Whether other processes search on the same study."""
        self.surrogate: Surrogate
        self.sizes: Array

    def learn(self, plan: Plan, loss: float) -> None:
        """Take in the next trial."""
        self.scored.add(plan, loss)

    def child(self, parents: OptionIndices, front: Array, awaited: Sequence[Plan] = ()) -> dict[str, Option]:
        """Site -> option of the next plan to score.

        `parents`: numbers of the trials to draw from; `front`: costs `(n, costs)` of the front so far; `awaited`: plans
        that are being scored, which count as if they came to what is expected of them. Where no plan of the table was
        scored it is any.
        """
        if not self.scored.losses:
            return self.any()
        self.refresh()
        look = self.look()
        coming = [picked for plan in awaited if (picked := self.options.picked(plan)) is not None]
        edge = look if isinstance(look, Edge) else None
        fresh = self.scored.new(self.drawn(*self.scored.rows(parents), edge), coming)
        hope = BOLD if self.rng.random() < BOLDLY else HOPE
        expected = self.expected(np.array([*coming, *fresh]), hope)
        there, costs = np.concatenate([front, expected[: len(coming)]]), expected[len(coming) :]
        gains = Attainment.of(look(there)).gains(look(costs))
        return self.options.picks(fresh[self.preferred(gains)])

    def look(self) -> Look:
        """How gains of the next child are looked at."""
        if not self.looks or self.rng.random() >= (AIMED if self.limits else EDGED):
            return self.plain
        return self.looks[int(self.rng.integers(len(self.looks)))]

    def foreseen(self, plan: Plan) -> float | None:
        """The loss that is expected of a plan; None for one with options not of the table, or after too few trials."""
        picked = self.options.picked(plan)
        if picked is None or len(self.scored.losses) < FORESIGHT:
            return None
        self.refresh()
        return float(self.surrogate.losses(picked[None])[0])

    def any(self) -> dict[str, Option]:
        """Site -> any of its options."""
        return self.options.picks(self.anywhere()[0])

    def preferred(self, gains: Array) -> int:
        """The child with the largest gain; where others choose at the same moment, one of those with large ones."""
        if gains.max() <= 0:
            return int(self.rng.integers(len(gains)))
        if not self.shared:
            return int(gains.argmax())
        best = np.argsort(-gains, kind="stable")[:AMONG]
        return int(self.rng.choice(best, p=gains[best] / gains[best].sum()))

    def refresh(self) -> None:
        """Learn the surrogate anew where there are many more trials than it knows."""
        if len(self.scored.losses) < GROWN * self.learnt and self.learnt:
            return
        losses = np.array(list(self.scored.losses.values()))
        self.surrogate = Surrogate.of(self.options.errors, self.scored.distinct(), losses)
        self.learnt = len(losses)
        weights, mixes = np.tile(self.surrogate.weights, (len(MULTIPLIERS), 1)), np.full(len(MULTIPLIERS), 0.5)
        self.sizes = self.options.shares(self.options.allocated(MULTIPLIERS, mixes, weights)).sum(axis=1)

    def drawn(self, parents: OptionIndices, shares: Array, edge: Edge | None = None) -> OptionIndices:
        """Children of all kinds, `(children, layers)`, at least one of which is new where anything is left to draw."""
        multipliers = np.exp(np.interp(-shares.sum(axis=1), -self.sizes, np.log(MULTIPLIERS)))
        kinds = [self.lagrangian(multipliers, edge), self.crossed(parents, shares), self.moved(parents, multipliers)]
        if budget := self.budgets(edge):
            kinds.append(self.fitted(budget, edge))
        return np.concatenate([*kinds, self.anywhere()])

    def mixes(self, edge: Edge | None) -> Array:
        """How much of each child's budget is parameters: any, or all or nothing at an edge."""
        return self.rng.random(DRAWN) if edge is None else np.full(DRAWN, float(edge.cost == "params"))

    def budgets(self, edge: Edge | None) -> dict[str, Array]:
        """The costs that have one -> each child's, `(children,)`: at limits or a little below, else at an edge any."""
        if edge is None or self.budget:
            return {cost: most * (1 - SLACK * self.rng.random(DRAWN) ** 2) for cost, most in self.budget.items()}
        least = self.options.fixed[edge.cost] + getattr(self.options, edge.cost).min(axis=1).sum()
        return {edge.cost: self.rng.uniform(least, 1, DRAWN)}

    def doubted(self, unsure: float) -> Array:
        """The surrogate's weights, each a little different for every child, `(children, layers)`."""
        noise = self.rng.standard_normal((DRAWN, len(self.options.table)))
        weights: Array = self.surrogate.weights * np.exp(unsure * noise)
        return weights

    def lagrangian(self, multipliers: Array, edge: Edge | None = None) -> OptionIndices:
        """Allocations of any size; half of them about as large as some parent, where there are limits to aim at."""
        wide = self.rng.uniform(np.log(MULTIPLIERS[0]), np.log(MULTIPLIERS[-1]), DRAWN)
        near = np.log(self.rng.choice(multipliers, DRAWN)) + AROUND * self.rng.standard_normal(DRAWN)
        aimed = bool(self.limits) & (self.rng.random(DRAWN) < 0.5)
        weights, mixes = self.doubted(UNSURE), self.mixes(edge)
        return self.options.allocated(np.exp(np.where(aimed, near, wide)), mixes, weights)

    def fitted(self, budget: Mapping[str, Array], edge: Edge | None = None) -> OptionIndices:
        """Allocations that just meet their budgets `(children,)`, with what is left of them used."""
        weights = self.doubted(UNSURE)
        allocated = self.options.allocating(self.mixes(edge), weights)
        low, high = (np.full(DRAWN, end) for end in np.log(MULTIPLIERS[[0, -1]]))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            left = self.options.room(allocated(np.exp(middle)), budget)
            inside = np.all([room >= 0 for room in left.values()], axis=0)
            low, high = np.where(inside, low, middle), np.where(inside, middle, high)
        return self.filled(allocated(np.exp(high)), weights, budget)

    def filled(self, picked: OptionIndices, weights: Array, budget: Mapping[str, Array]) -> OptionIndices:
        """Plans with one layer after another at the option that gains most and still meets the budget."""
        picked, layers, errors = picked.copy(), np.arange(picked.shape[1]), self.options.errors
        children = np.arange(len(picked))
        for _ in range(FILLINGS):
            gains = weights[:, :, None] * (errors[layers, picked][:, :, None] - errors)
            for cost, room in self.options.room(picked, budget).items():
                costs = getattr(self.options, cost)
                fits = costs - costs[layers, picked][:, :, None] <= room[:, None, None]
                gains = np.where(fits, gains, 0)
            layer, option = np.unravel_index(gains.reshape(len(picked), -1).argmax(axis=1), errors.shape)
            gaining = gains[children, layer, option] > 0
            if not gaining.any():
                break
            picked[children[gaining], layer[gaining]] = option[gaining]
        return picked

    def crossed(self, parents: OptionIndices, shares: Array) -> OptionIndices:
        """Parents, each with a block of layers of another one that is about as large."""
        own = self.rng.integers(len(parents), size=DRAWN)
        apart = np.abs(shares - shares[own][:, None]).sum(axis=2)
        near = min(NEIGHBOURS, len(parents) - 1)
        nearest = np.argpartition(apart, near, axis=1)[:, : near + 1]
        other = nearest[np.arange(DRAWN), self.rng.integers(near + 1, size=DRAWN)]
        start, end = np.sort(self.rng.integers(0, parents.shape[1] + 1, (2, DRAWN, 1)), axis=0)
        layers = np.arange(parents.shape[1])
        block = (layers >= start) & (layers < end)
        return np.where(block, parents[other], parents[own])

    def moved(self, parents: OptionIndices, multipliers: Array) -> OptionIndices:
        """Parents of which a few layers have another option, more likely one of a low price."""
        own, mixes = self.rng.integers(len(parents), size=DRAWN), self.rng.random(DRAWN)
        moves = 1 + self.rng.binomial(*MORE, DRAWN)
        places = self.rng.random((DRAWN, parents.shape[1])).argsort(axis=1).argsort(axis=1)
        child, layer = np.nonzero(places < moves[:, None])
        errors, params, macs = (costs[layer] for costs in (self.options.errors, self.options.params, self.options.macs))
        sizes = macs + mixes[child, None] * (params - macs)
        prices = self.surrogate.weights[layer, None] * errors + multipliers[own[child], None] * sizes
        there = np.arange(prices.shape[1]) < self.options.counts[layer, None]
        over = np.where(there, prices - prices.min(axis=1, keepdims=True), np.inf)
        rank = np.minimum(RANK, self.options.counts[layer] - 1)
        heat = np.sort(over, axis=1)[np.arange(len(rank)), rank][:, None] + 1e-12
        children = parents[own]
        over[np.arange(len(rank)), children[child, layer]] = np.inf
        drawn = (self.rng.gumbel(size=over.shape) - over / heat).argmax(axis=1)
        others = np.isfinite(over).any(axis=1)
        children[child[others], layer[others]] = drawn[others]
        return children

    def anywhere(self) -> OptionIndices:
        """Any option in every layer."""
        return self.rng.integers(0, self.options.counts)[None]

    def expected(self, picked: OptionIndices, hope: float = HOPE) -> Array:
        """The costs that plans are expected to have, `(plans, costs)`; `hope`: times the loss."""
        columns = hope * self.surrogate.losses(picked), *self.options.shares(picked).T
        rows = []
        for loss, params, macs in zip(*(column.tolist() for column in columns), strict=True):
            counts = round(params * self.totals["params"]), round(macs * self.totals["macs"])
            measured = Measured({"expected": 1 - loss}, *counts, params, macs)
            rows.append([cost(measured) for cost in self.objectives.values()])
        return np.array(rows)
