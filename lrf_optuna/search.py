"""The search: one static space, a first generation of good plans, NSGA-II with bred children, the hypervolume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from lrf_optuna.allocate import Picks, Table, allotted, competitive, packed, plan_of, sweep, uniform
from lrf_optuna.attainment import Attainment, Interest
from lrf_optuna.breeding import Breeder, Options
from lrf_optuna.config import BUDGETS
from lrf_optuna.errors import lookup
from lrf_optuna.objectives import OBJECTIVES, Measured
from lrf_optuna.pareto import Front, costs_of
from lrf_optuna.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.samplers import SAMPLERS
from lrf_optuna.stages import Array
from lrf_optuna.storage import PLAN, Record, candidate_of

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

NEAR = (1.0, 0.97, 0.92)
"""Shares of a target that seeds are made for, so that the front is dense there."""
VOLUME = "hypervolume"
CONSTRAINT = "constraints:"
"""Where Optuna keeps a trial's constraints among its system attributes."""
FLAT = 0.005
"""The search is flat where as many trials as the population took less than this share of the volume that was left."""


def search(
    proxy: Proxy,
    table: Table,
    *,
    trials: int = 300,
    keeps: Sequence[float],
    population: int = 50,
    seed: int = 0,
    targets: Mapping[str, float] | None = None,
    sampler: str = "bred",
    seeded: bool = True,
    stop_when_flat: bool = False,
    record: Record | None = None,
    progress: Progress = SILENT,
) -> list[Candidate]:
    """Score plans until there are `trials` in all, and return every one, the record's earlier ones included.

    The first `population` trials are good plans off `table`, unless not `seeded`; they are parents like any other. A
    method that the table shows to be worse than another in a layer, whatever it keeps, is not searched there. `targets`
    (cost -> most; of the loss too) are constraints of the trials, and the front becomes dense below them. With
    `stop_when_flat` the search ends where the hypervolume hardly rises. Each finished trial goes to `record` at once;
    an interrupt leaves them there. Raises LrfError for an unknown sampler.
    """
    make = lookup(SAMPLERS, sampler, "sampler")
    done = record.finished() if record else []
    standard = budgeted(table, proxy.fixed) if seeded else []
    methods = space(table, done, standard)
    table = {site: [option for option in options if option.method in methods[site]] for site, options in table.items()}
    hunt = Hunt(proxy, table, targets or {}, stream(seed, len(done)))
    study = optuna.create_study(
        directions=["minimize"] * len(proxy.objectives), sampler=make(population, stream(seed, len(done)), hunt.child)
    )
    study.add_trials([hunt.again(trial) for trial in done])
    first = seeds(table, keeps, population, hunt.sizes, proxy.fixed, standard) if seeded else []
    for picks in first[len(done) :]:
        study.enqueue_trial(parameters(picks))
    with progress.task("trials", trials, done=min(trials, len(done))) as step:
        for _ in range(len(done), trials):
            if stop_when_flat and is_flat(hunt.volumes, population):
                progress.say(f"the hypervolume is flat after {len(hunt.found)} trials: enough")
                break
            trial = study.ask()
            _ = trial.relative_params  # gives an enqueued trial its generation: without one it is never a parent
            costs = hunt.score(trial, sampled(trial, proxy, methods, keeps))
            finished = study.tell(trial, costs)
            if record:
                record.add(finished)
            step(1, note=f"{len(hunt.front)} on the front, hypervolume {hunt.front.volume:.4f}")
    return hunt.found


class Hunt:
    """How a search stands: every candidate, their front, its volume trial by trial, and where children come from."""

    def __init__(self, proxy: Proxy, table: Table, limits: Mapping[str, float], seed: int) -> None:
        self.proxy, self.limits = proxy, limits
        self.sizes = {cost: most for cost, most in limits.items() if cost != "loss"}
        totals = {"params": proxy.inventory.params, "macs": proxy.inventory.macs}
        interest = Interest.of(tuple(proxy.objectives), limits)
        self.breeder = Breeder(Options(table, proxy.fixed), proxy.objectives, totals, interest, seed)
        self.found: list[Candidate] = []
        self.place: dict[int, int] = {}
        self.front = Front()
        self.volumes: list[float] = []

    def score(self, trial: optuna.Trial, plan: Plan) -> list[float]:
        """The costs of a trial's plan, with all that its record should say."""
        candidate = Candidate(trial.number, plan, self.proxy.costs(plan))
        self.take(candidate)
        describe(trial, plan, self.proxy.measure(plan))
        trial.set_user_attr(VOLUME, round(self.front.volume, 6))
        for name, value in self.violations(candidate).items():
            trial.set_constraint(name, value)
        return list(candidate.costs.values())

    def take(self, candidate: Candidate) -> None:
        """Take in the next candidate."""
        self.place[candidate.trial] = len(self.found)
        self.found.append(candidate)
        self.front.add(candidate)
        self.volumes.append(self.front.volume)
        known = candidate.costs.get("loss")
        loss = OBJECTIVES["loss"](self.proxy.measure(candidate.plan)) if known is None else known
        self.breeder.learn(candidate.plan, loss)

    def again(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        """Take in a recorded trial; it comes back with today's constraints in the place of those of its record."""
        self.take(candidate_of(trial, tuple(self.proxy.objectives)))
        kept = {name: value for name, value in trial.system_attrs.items() if not name.startswith(CONSTRAINT)}
        now = {f"{CONSTRAINT}{name}": value for name, value in self.violations(self.found[-1]).items()}
        return optuna.trial.create_trial(
            values=trial.values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=trial.user_attrs,
            system_attrs=kept | now,
        )

    def violations(self, candidate: Candidate) -> dict[str, float]:
        """By how much each limit is exceeded: what Optuna takes for constraints."""
        return {name: candidate.costs[name] - most for name, most in self.limits.items() if name in candidate.costs}

    def child(self, _: optuna.Study, drawn: dict[str, Any], parents: list[optuna.trial.FrozenTrial]) -> dict[str, Any]:
        """Parameters of the next trial, those that are `drawn`."""
        mates = {trial.number for trial in parents} | {self.place[point.trial] for point in self.front.points}
        picks = self.breeder.child(sorted(mates), costs_of(self.front.points))
        return {name: value for name, value in parameters(picks).items() if name in drawn}


def is_flat(volumes: Sequence[float], population: int) -> bool:
    """Whether the last trials, as many as the population, took less than `FLAT` of the volume that was left."""
    if len(volumes) < 2 * population:
        return False
    before = volumes[-1 - population]
    return volumes[-1] - before < FLAT * (1 - before)


def stream(seed: int, done: int) -> int:
    """A sampler seed for a study with `done` trials: a resumed study must not draw what it drew before."""
    return int(np.random.SeedSequence([seed, done]).generate_state(1)[0])


def space(
    table: Table, done: Sequence[optuna.trial.FrozenTrial], standard: Sequence[Picks] = ()
) -> dict[str, tuple[str, ...]]:
    """The methods that trials draw from in each layer, those of the `standard` seeds among them.

    In a resumed study they are those that it began with.
    """
    if done:
        return {site: done[0].distributions[f"{site}.method"].choices for site in table}  # type: ignore[attr-defined]
    worth = {site: {o.method for o in options} for site, options in competitive(table).items()}
    for picks in standard:
        for site, option in picks.items():
            worth[site].add(option.method)
    return {site: tuple(dict.fromkeys(o.method for o in table[site] if o.method in worth[site])) for site in table}


def budgeted(table: Table, fixed: Mapping[str, float]) -> list[Picks]:
    """For each of the usual budgets what the Lagrangian rule for ranks makes of it: nobody's front may lack that."""
    return [picks for most in BUDGETS for picks in allotted(table, {"params": most}, fixed)[:1]]


def sampled(trial: optuna.Trial, proxy: Proxy, methods: Mapping[str, Sequence[str]], keeps: Sequence[float]) -> Plan:
    """The plan that a trial draws: a method and a keep for every site, the same names in every trial."""
    choices = {}
    for site, names in methods.items():
        method = trial.suggest_categorical(f"{site}.method", names)
        share = trial.suggest_categorical(f"{site}.keep", tuple(keeps))
        choices[site] = proxy.choice(site, method, share)
    return Plan.of(choices)


def describe(trial: optuna.Trial, plan: Plan, measured: Measured) -> None:
    """What a reader of the database needs to know of a trial without our code."""
    trial.set_user_attr(PLAN, plan.to_json())
    trial.set_user_attr("params", measured.params)
    trial.set_user_attr("macs", measured.macs)
    for tap, value in measured.similarity.items():
        trial.set_user_attr(f"similarity {tap}", round(value, 6))


def seeds(
    table: Table,
    keeps: Sequence[float],
    count: int,
    targets: Mapping[str, float],
    fixed: Mapping[str, float],
    standard: Sequence[Picks] = (),
) -> list[Picks]:
    """`count` good first plans, distinct ones, half of them at most not of the Lagrangian sweep.

    Near the targets; those of `standard` that the table has; a target or a usual budget filled as far as options go,
    where the Lagrangian leaves some of it; uniform keeps; the sweep, spread.
    """
    near = []
    for share in NEAR if targets else ():
        budget = {cost: share * target for cost, target in targets.items()}
        near += allotted(table, budget, fixed)[: max(1, count // (4 * len(NEAR)))]
    known = [picks for picks in standard if all(option in table[site] for site, option in picks.items())]
    budgets = [*([dict(targets)] if len(targets) == 1 else []), *({"params": most} for most in BUDGETS)]
    packs = [packed(table, cost, most - fixed[cost]) for budget in budgets for cost, most in budget.items()]
    filled = [picks for picks in packs if picks]
    spread = [uniform(table, keep) for keep in list(keeps)[:: max(1, len(keeps) // 4)]]
    distinct: dict[Plan, Picks] = {plan_of(picks): picks for picks in [*near, *known, *filled, *spread][: count // 2]}
    swept = [picks for picks in sweep(table) if plan_of(picks) not in distinct]
    for i in spreading(np.array([expected(picks, fixed) for picks in swept]), count - len(distinct)):
        distinct[plan_of(swept[i])] = swept[i]
    return list(distinct.values())


def expected(picks: Picks, fixed: Mapping[str, float]) -> tuple[float, float, float]:
    """The loss that the table adds up to, 1 at most, and the shares of parameters and MACs."""
    loss, params, macs = (sum(getattr(o, cost) for o in picks.values()) for cost in ("loss", "params", "macs"))
    return min(loss, 1.0), fixed["params"] + params, fixed["macs"] + macs


def spreading(points: Array, count: int) -> list[int]:
    """The numbers of `count` points `(n, costs)`: both ends, then each adds most to the volume of those before it."""
    chosen = list(dict.fromkeys((len(points) - 1, 0)))[:count] if len(points) else []
    while len(chosen) < min(count, len(points)):
        gains = Attainment.of(points[chosen]).gains(points)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
    return chosen


def parameters(picks: Picks) -> dict[str, str | float]:
    """Picks as the parameters of a trial."""
    named: dict[str, str | float] = {}
    for site, option in picks.items():
        named |= {f"{site}.method": option.method, f"{site}.keep": option.keep}
    return named
