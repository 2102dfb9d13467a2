"""The search: one static space, a first generation of good plans, NSGA-II with bred children, the hypervolume."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from lrf_optuna.allocate import Picks, Table, competitive
from lrf_optuna.attainment import Interest
from lrf_optuna.breeding import Breeder, Options
from lrf_optuna.errors import lookup
from lrf_optuna.objectives import OBJECTIVES, Measured
from lrf_optuna.pareto import Front
from lrf_optuna.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.racing import AHEAD, Race, Running
from lrf_optuna.samplers import SAMPLERS
from lrf_optuna.seeding import budgeted, seeds
from lrf_optuna.storage import PLAN, Record, candidate_of

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

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
    racing: bool = True,
    record: Record | None = None,
    progress: Progress = SILENT,
) -> list[Candidate]:
    """Score plans until there are `trials` in all, and return every one, the record's earlier ones included.

    The first `population` trials are good plans off `table`, unless not `seeded`; they are parents like any other. A
    method that the table shows to be worse than another in a layer, whatever it keeps, is not searched there. `targets`
    (cost -> most; of the loss too) are constraints of the trials, and the front becomes dense below them. With
    `stop_when_flat` the search ends where the hypervolume hardly rises. `racing` scores plans on few images first, and
    no further where these show them to be beaten (`Race`). Each finished trial goes to `record` at once;
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

    def flat() -> bool:
        return stop_when_flat and is_flat(hunt.volumes, population)

    with ThreadPoolExecutor(AHEAD) as pool, progress.task("trials", trials, done=min(trials, len(done))) as step:
        race = Race(proxy, hunt.front, pool, racing)
        asked: deque[tuple[optuna.Trial, Running]] = deque()
        while len(hunt.found) < trials and not flat():
            ending = len(hunt.found) + len(asked) >= trials
            if not ending:
                trial = study.ask()
                _ = trial.relative_params  # gives an enqueued trial its generation: without one it is never a parent
                plan = sampled(trial, proxy, methods, keeps)
                hunt.awaited.append(plan)
                asked.append((trial, race.start(plan)))
            if len(asked) > 1:
                race.advance(asked[-2][1])
            if ending or len(asked) > AHEAD:
                trial, running = asked.popleft()
                finished = study.tell(trial, hunt.score(trial, race.finish(running), running.images))
                if record:
                    record.add(finished)
                step(1, note=f"{len(hunt.front)} on the front, hypervolume {hunt.front.volume:.4f}")
    if len(hunt.found) < trials:
        progress.say(f"the hypervolume is flat after {len(hunt.found)} trials: enough")
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
        self.awaited: deque[Plan] = deque()
        """Plans that were asked for and not yet taken in, in their order."""
        self.front = Front()
        self.volumes: list[float] = []

    def score(self, trial: optuna.Trial, measured: Measured, images: int) -> list[float]:
        """The costs of a trial's plan, with all that its record should say."""
        costs = {name: cost(measured) for name, cost in self.proxy.objectives.items()}
        candidate = Candidate(trial.number, self.awaited.popleft(), costs)
        self.take(candidate, OBJECTIVES["loss"](measured))
        describe(trial, candidate.plan, measured, images)
        trial.set_user_attr(VOLUME, round(self.front.volume, 6))
        for name, value in self.violations(candidate).items():
            trial.set_constraint(name, value)
        return list(costs.values())

    def take(self, candidate: Candidate, loss: float) -> None:
        """Take in the next candidate, and the loss that its plan came to."""
        self.place[candidate.trial] = len(self.found)
        self.found.append(candidate)
        self.front.add(candidate)
        self.volumes.append(self.front.volume)
        self.breeder.learn(candidate.plan, loss)

    def again(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        """Take in a recorded trial; it comes back with today's constraints in the place of those of its record."""
        candidate = candidate_of(trial, tuple(self.proxy.objectives))
        known = candidate.costs.get("loss")
        self.take(candidate, OBJECTIVES["loss"](self.proxy.measure(candidate.plan)) if known is None else known)
        kept = {name: value for name, value in trial.system_attrs.items() if not name.startswith(CONSTRAINT)}
        now = {f"{CONSTRAINT}{name}": value for name, value in self.violations(candidate).items()}
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
        mates = {self.place[trial.number] for trial in parents} | {
            self.place[point.trial] for point in self.front.points
        }
        picks = self.breeder.child(np.array(sorted(mates)), self.front.costs, tuple(self.awaited))
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


def sampled(trial: optuna.Trial, proxy: Proxy, methods: Mapping[str, Sequence[str]], keeps: Sequence[float]) -> Plan:
    """The plan that a trial draws: a method and a keep for every site, the same names in every trial."""
    choices = {}
    for site, names in methods.items():
        method = trial.suggest_categorical(f"{site}.method", names)
        share = trial.suggest_categorical(f"{site}.keep", tuple(keeps))
        choices[site] = proxy.choice(site, method, share)
    return Plan.of(choices)


def describe(trial: optuna.Trial, plan: Plan, measured: Measured, images: int) -> None:
    """What a reader of the database needs to know of a trial without our code."""
    trial.set_user_attr(PLAN, plan.to_json())
    trial.set_user_attr("params", measured.params)
    trial.set_user_attr("macs", measured.macs)
    trial.set_user_attr("images", images)
    for tap, value in measured.similarity.items():
        trial.set_user_attr(f"similarity {tap}", round(value, 6))


def parameters(picks: Picks) -> dict[str, str | float]:
    """Picks as the parameters of a trial."""
    named: dict[str, str | float] = {}
    for site, option in picks.items():
        named |= {f"{site}.method": option.method, f"{site}.keep": option.keep}
    return named
