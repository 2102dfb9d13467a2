"""Children for NSGA-II: many are drawn, and the one is scored that is expected to add most to the hypervolume.

Four ways to draw one: the Lagrangian allocation under what the trials have taught of the layers' weights; where there
are limits of size, that which just meets them; a block of layers of one parent in another that is near it; a few layers
moved to options of about the same price. Which of them to score is told by a surrogate of the loss (parameters and MACs
are known exactly).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrf_optuna.allocate import Option, Table
from lrf_optuna.attainment import Attainment, Interest
from lrf_optuna.objectives import Measured
from lrf_optuna.plan import INTACT, Plan
from lrf_optuna.stages import Array
from lrf_optuna.surrogate import Picked, Surrogate

DRAWN = 24
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
HOPE = 0.95
"""Of the loss that is expected: what is about as good as the best known is worth a trial."""
SLACK = 0.06
"""Share of a limit that a child which is to meet it may leave, at most."""
HALVINGS, FILLINGS = 14, 12
GROWN = 1.05
"""The surrogate is learnt anew when there are this many times the trials."""

Objectives = Mapping[str, Callable[[Measured], float]]


@dataclass
class Options:
    """The table as arrays: options by number, in every layer."""

    table: Table
    fixed: Mapping[str, float]
    """The shares of the whole network that no plan changes."""

    def __post_init__(self) -> None:
        self.sites = list(self.table)
        self.counts = np.array([len(options) for options in self.table.values()])
        self.errors, self.params, self.macs = (self.padded(what) for what in ("loss", "params", "macs"))
        self.numbers = [{o.choice: i for i, o in enumerate(options)} for options in self.table.values()]

    def padded(self, what: str) -> Array:
        """One property of every option, `(layers, most options)`; layers with fewer repeat their last one's."""
        rows = [[getattr(option, what) for option in options] for options in self.table.values()]
        return np.array([np.pad(row, (0, self.counts.max() - len(row)), mode="edge") for row in rows])

    def picked(self, plan: Plan) -> tuple[int, ...] | None:
        """The numbers of a plan's options; None for a plan with others."""
        chosen = dict(plan.choices)
        found = [numbers.get(chosen.get(site, INTACT)) for site, numbers in zip(self.sites, self.numbers, strict=True)]
        return None if None in found else tuple(found)  # type: ignore[arg-type]

    def options(self, picked: Sequence[int]) -> dict[str, Option]:
        """Site -> option."""
        return {site: self.table[site][i] for site, i in zip(self.sites, picked, strict=True)}

    def prices(self, weights: Array, multiplier: float, mix: float) -> Array:
        """loss + multiplier * (mix * params + (1 - mix) * macs) of every option."""
        return self.errors * weights[:, None] + multiplier * (mix * self.params + (1 - mix) * self.macs)

    def room(self, picked: Picked, budget: Mapping[str, float]) -> dict[str, float]:
        """What one plan leaves of a budget."""
        has = dict(zip(("params", "macs"), self.shares(picked), strict=True))
        return {cost: most - float(has[cost]) for cost, most in budget.items()}

    def within(self, picked: Picked, budget: Mapping[str, float]) -> bool:
        """Whether one plan meets a budget."""
        return all(left >= 0 for left in self.room(picked, budget).values())

    def shares(self, picked: Picked) -> tuple[Array, Array]:
        """Parameters and MACs of whole networks, as shares."""
        layers = np.arange(len(self.sites))
        params, macs = (costs[layers, picked].sum(axis=-1) for costs in (self.params, self.macs))
        return self.fixed["params"] + params, self.fixed["macs"] + macs


class Breeder:
    """Draws children; `learn` tells it of every scored plan, in the order of the trials."""

    def __init__(
        self, options: Options, objectives: Objectives, totals: Mapping[str, int], interest: Interest, seed: int
    ) -> None:
        self.options, self.objectives, self.totals, self.interest = options, objectives, totals, interest
        self.rng = np.random.default_rng(seed)
        known = zip(objectives, interest.limits, strict=True)
        self.budget = {cost: most for cost, most in known if most is not None and cost in ("params", "macs")}
        self.trials: list[tuple[int, ...] | None] = []
        self.scored: dict[tuple[int, ...], float] = {}
        self.learnt = 0
        self.surrogate: Surrogate
        self.sizes: Array

    def learn(self, plan: Plan, loss: float) -> None:
        """Take in the next trial."""
        picked = self.options.picked(plan)
        self.trials.append(picked)
        if picked is not None:
            self.scored[picked] = loss

    def child(self, parents: Sequence[int], front: Array) -> dict[str, Option]:
        """Site -> option of the next plan to score.

        `parents`: numbers of the trials to draw from; `front`: costs `(n, costs)` of the front so far.
        """
        self.refresh()
        known = [picked for number in parents if (picked := self.trials[number]) is not None]
        drawn = self.drawn(np.array(known or list(self.scored), int))
        fresh = np.array([child for child in dict.fromkeys(map(tuple, drawn)) if child not in self.scored] or drawn)
        interest = self.interest if self.rng.random() < AIMED else Interest.of(tuple(self.objectives), {})
        gains = Attainment.of(interest(front)).gains(interest(self.expected(fresh)))
        best = int(gains.argmax()) if gains.max() > 0 else int(self.rng.integers(len(fresh)))
        return self.options.options(fresh[best])

    def refresh(self) -> None:
        """Learn the surrogate anew where there are many more trials than it knows."""
        if len(self.scored) < GROWN * self.learnt and self.learnt:
            return
        losses = np.array(list(self.scored.values()))
        self.surrogate = Surrogate.of(self.options.errors, np.array(list(self.scored), int), losses)
        self.learnt = len(self.scored)
        plans = np.array([self.allocated(multiplier, 0.5) for multiplier in MULTIPLIERS])
        self.sizes = np.add(*self.options.shares(plans))

    def drawn(self, parents: Picked) -> Picked:
        """Children of all kinds, `(children, layers)`, at least one of which is new where anything is left to draw."""
        multipliers = self.multipliers(parents)
        rows = [self.lagrangian(multipliers) for _ in range(DRAWN)]
        rows += [self.crossed(parents) for _ in range(DRAWN)]
        rows += [self.moved(parents, multipliers) for _ in range(DRAWN)]
        rows += [self.fitted() for _ in range(DRAWN if self.budget else 0)]
        rows += [self.anywhere()]
        return np.array(rows)

    def multipliers(self, parents: Picked) -> Array:
        """For each parent the multiplier whose Lagrangian plan is of its size, `(parents,)`."""
        sizes = np.add(*self.options.shares(parents))
        return np.exp(np.interp(-sizes, -self.sizes, np.log(MULTIPLIERS)))

    def allocated(self, multiplier: float, mix: float, unsure: float = 0.0) -> Picked:
        """The Lagrangian allocation under the surrogate's weights, `(layers,)`."""
        best: Picked = self.options.prices(self.doubted(unsure), multiplier, mix).argmin(axis=1)
        return best

    def doubted(self, unsure: float) -> Array:
        """The surrogate's weights, each a little different."""
        return self.surrogate.weights * np.exp(unsure * self.rng.standard_normal(len(self.options.sites)))

    def lagrangian(self, multipliers: Array) -> Picked:
        """An allocation of any size; half of them about as large as some parent, where there are limits to aim at."""
        wide = self.rng.uniform(*np.log(MULTIPLIERS[[0, -1]]))
        near = np.log(self.rng.choice(multipliers)) + AROUND * self.rng.standard_normal()
        aimed = self.interest.aims and self.rng.random() < 0.5
        return self.allocated(float(np.exp(near if aimed else wide)), self.rng.random(), UNSURE)

    def fitted(self) -> Picked:
        """An allocation that just meets the limits of size, or is a little smaller, with what is left of them used."""
        weights, mix = self.doubted(UNSURE), self.rng.random()
        budget = {cost: most * (1 - SLACK * self.rng.random() ** 2) for cost, most in self.budget.items()}
        low, high = np.log(MULTIPLIERS[[0, -1]])
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            inside = self.options.within(self.options.prices(weights, np.exp(middle), mix).argmin(axis=1), budget)
            low, high = (low, middle) if inside else (middle, high)
        return self.filled(self.options.prices(weights, np.exp(high), mix).argmin(axis=1), weights, budget)

    def filled(self, picked: Picked, weights: Array, budget: Mapping[str, float]) -> Picked:
        """The plan with one layer after another at the option that gains most and still meets the budget."""
        picked, layers, errors = picked.copy(), np.arange(len(picked)), self.options.errors
        for _ in range(FILLINGS):
            gains = weights[:, None] * (errors[layers, picked][:, None] - errors)
            for cost, room in self.options.room(picked, budget).items():
                costs = getattr(self.options, cost)
                gains = np.where(costs - costs[layers, picked][:, None] <= room, gains, 0)
            layer, option = np.unravel_index(gains.argmax(), gains.shape)
            if gains[layer, option] <= 0:
                break
            picked[layer] = option
        return picked

    def crossed(self, parents: Picked) -> Picked:
        """A parent with a block of layers of another one that is about as large."""
        own = int(self.rng.integers(len(parents)))
        apart = np.abs(np.stack(self.options.shares(parents)) - np.stack(self.options.shares(parents[own : own + 1])))
        other = self.rng.choice(apart.sum(axis=0).argsort()[: NEIGHBOURS + 1])
        start, end = np.sort(self.rng.integers(0, parents.shape[1] + 1, 2))
        child: Picked = parents[own].copy()
        child[start:end] = parents[other][start:end]
        return child

    def moved(self, parents: Picked, multipliers: Array) -> Picked:
        """A parent of which a few layers have another option, more likely one of a low price."""
        own = int(self.rng.integers(len(parents)))
        prices = self.options.prices(self.surrogate.weights, float(multipliers[own]), self.rng.random())
        child: Picked = parents[own].copy()
        layers = len(child)
        for layer in self.rng.choice(layers, min(layers, 1 + self.rng.binomial(*MORE)), replace=False):
            over = prices[layer, : self.options.counts[layer]]
            over = over - over.min()
            chances = np.exp(-over / (np.sort(over)[min(RANK, len(over) - 1)] + 1e-12))
            chances[child[layer]] = 0
            if chances.sum() > 0:
                child[layer] = self.rng.choice(len(chances), p=chances / chances.sum())
        return child

    def anywhere(self) -> Picked:
        """Any option in every layer."""
        return self.rng.integers(0, self.options.counts)

    def expected(self, picked: Picked) -> Array:
        """The costs that plans are expected to have, `(plans, costs)`."""
        columns = HOPE * self.surrogate.losses(picked), *self.options.shares(picked)
        rows = []
        for loss, params, macs in zip(*columns, strict=True):
            counts = round(params * self.totals["params"]), round(macs * self.totals["macs"])
            measured = Measured({"expected": 1 - loss}, *counts, params, macs)
            rows.append([cost(measured) for cost in self.objectives.values()])
        return np.array(rows)
