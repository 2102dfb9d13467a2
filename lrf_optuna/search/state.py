"""How a search stands: every candidate, their front, its volume trial by trial, and where children come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from lrf_optuna.plans.front import Front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import Allocation, OptionTable
from lrf_optuna.search.children import ChildGenerator
from lrf_optuna.search.encoding import PlanEncoding
from lrf_optuna.storage.study import PLAN, candidate_of

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy

VOLUME = "hypervolume"
CONSTRAINT = "constraints:"
"""Where Optuna keeps a trial's constraints among its system attributes."""
FLAT = 0.005
"""The search is flat where as many trials as the population took less than this share of the volume that was left."""


class SearchState:
    """How a search stands. Candidates are numbered in the order in which they were taken in."""

    def __init__(self, proxy: Proxy, table: OptionTable, limits: Mapping[str, float], seed: int) -> None:
        self.proxy, self.limits = proxy, limits
        self.sizes = {cost: most for cost, most in limits.items() if cost != "loss"}
        totals = {"params": proxy.inventory.params, "macs": proxy.inventory.macs}
        self.breeder = ChildGenerator(PlanEncoding(table, proxy.fixed), proxy.objectives, totals, limits, seed)
        self.found: list[Candidate] = []
        self.plans: set[Plan] = set()
        """Of the candidates, and of the trials that are awaited."""
        self.awaited: dict[int, Plan] = {}
        """Trial of the study in memory -> plan, of those that were asked for and not yet taken in, in their order."""
        self.numbers: dict[int, int] = {}
        """Trial of the study in memory -> candidate."""
        self.front = Front()
        self.volumes: list[float] = []

    def expect(self, trial: int, plan: Plan) -> None:
        """A trial of the study in memory was asked for."""
        self.awaited[trial] = plan
        self.plans.add(plan)

    def score(self, trial: optuna.Trial, measured: Measured) -> Candidate:
        """Take in a trial's plan, and tell the trial by how much it exceeds the limits."""
        costs = {name: cost(measured) for name, cost in self.proxy.objectives.items()}
        plan = self.awaited.pop(trial.number)
        self.numbers[trial.number] = len(self.found)
        candidate = self.take(plan, costs, OBJECTIVES["loss"](measured))
        for name, value in self.violations(candidate).items():
            trial.set_constraint(name, value)
        return candidate

    def take(self, plan: Plan, costs: Mapping[str, float], loss: float) -> Candidate:
        """Take in a plan with its costs, and the loss that it came to."""
        candidate = Candidate(len(self.found), plan, costs)
        self.found.append(candidate)
        self.plans.add(plan)
        self.front.add(candidate)
        self.volumes.append(self.front.volume)
        self.breeder.learn(plan, loss)
        return candidate

    def again(self, trial: FrozenTrial) -> Candidate:
        """Take in a recorded trial."""
        there = candidate_of(trial, tuple(self.proxy.objectives))
        known = there.costs.get("loss")
        loss = OBJECTIVES["loss"](self.proxy.measure(there.plan)) if known is None else known
        return self.take(there.plan, there.costs, loss)

    def violations(self, candidate: Candidate) -> dict[str, float]:
        """By how much each limit is exceeded: what Optuna takes for constraints."""
        return {name: candidate.costs[name] - most for name, most in self.limits.items() if name in candidate.costs}

    def parents(self, latest: int) -> set[int]:
        """The candidates that may have children: the front, and so many of the latest."""
        return {point.trial for point in self.front.points} | set(range(len(self.found))[-latest:])

    def child(self, _: optuna.Study, drawn: dict[str, Any], parents: list[FrozenTrial]) -> dict[str, Any]:
        """Parameters of the next trial, those that are `drawn`: of the front and the parents that NSGA-II selected."""
        return {name: value for name, value in parameters(self.bred(parents)).items() if name in drawn}

    def bred(self, parents: Sequence[FrozenTrial] = ()) -> Allocation:
        """The next plan to score."""
        mates = {self.numbers[trial.number] for trial in parents} | {point.trial for point in self.front.points}
        return self.breeder.child(np.array(sorted(mates)), self.front.costs, tuple(self.awaited.values()))

    def any(self) -> Allocation:
        """A plan of any options of the table."""
        return self.breeder.any()


def is_flat(volumes: Sequence[float], population: int) -> bool:
    """Whether the last trials, as many as the population, took less than `FLAT` of the volume that was left."""
    if len(volumes) < 2 * population:
        return False
    before = volumes[-1 - population]
    return volumes[-1] - before < FLAT * (1 - before)


def described(plan: Plan, measured: Measured, images: int, volume: float) -> dict[str, Any]:
    """User attributes of a trial: what a reader of the database needs to know of it without our code."""
    alike = {f"similarity {tap}": round(value, 6) for tap, value in measured.similarity.items()}
    counts = {"params": measured.params, "macs": measured.macs, "images": images}
    return {PLAN: plan.to_json(), **counts, **alike, VOLUME: round(volume, 6)}


def parameters(picks: Allocation) -> dict[str, str | float]:
    """Picks as the parameters of a trial."""
    named: dict[str, str | float] = {}
    for site, option in picks.items():
        named |= {f"{site}.method": option.method, f"{site}.keep": option.keep}
    return named
