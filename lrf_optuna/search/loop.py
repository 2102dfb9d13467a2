"""The search for the front: ask Optuna for a trial, score its plan, tell Optuna, write the trial.

The study that Optuna samples from is in memory. Finished trials go to the store beside the search, and trials of other
processes come back from there, so that any number of processes can search on one store.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.interrupts import Interrupts
from lrf_optuna.plans.front import Front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import SIZES, OptionIndices, OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.search import initial_plans as first_plans
from lrf_optuna.search.children import ChildGenerator
from lrf_optuna.search.samplers import SAMPLERS, SURROGATE, make_sampler
from lrf_optuna.search.space import SearchSpace
from lrf_optuna.sections import SearchSpec
from lrf_optuna.signatures import names_keywords
from lrf_optuna.storage.background_writer import BackgroundWriter
from lrf_optuna.storage.database import quiet_optuna
from lrf_optuna.storage.study import PLAN, StudyStore

DEFAULTS = SearchSpec()
"""What a study file has where it says nothing: the defaults of `SearchOptions`."""
HYPERVOLUME = "hypervolume"
"""The user attribute that holds the hypervolume of the front so far."""
FLAT_GAIN = 0.005
"""The search is flat where the last population of trials gained less than this share of the volume that was left."""


@dataclass(frozen=True)
class SearchOptions:
    """How the front is searched, by default as in a study file.

    `trials`: in all, with those that the store has already; `population`: candidates in a generation of NSGA-II;
    `targets`: cost -> most, constraints of the trials, of the loss too; `initial_plans`: whether the first generation
    is good plans off the option table, or random ones; `stop_when_flat`: whether the search ends when the hypervolume
    hardly rises.
    """

    trials: int = DEFAULTS.trials
    population: int = DEFAULTS.population
    seed: int = DEFAULTS.seed
    sampler: str = DEFAULTS.sampler
    initial_plans: bool = DEFAULTS.initial_plans
    stop_when_flat: bool = DEFAULTS.stop_when_flat
    targets: Mapping[str, float] = field(default_factory=dict)

    def check(self, objectives: Sequence[str]) -> None:
        """Raises LrfError for a number, a sampler or a target with which no search of these objectives is possible."""
        lookup(SAMPLERS, self.sampler, "sampler")
        for name, least in (("trials", 1), ("population", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise LrfError(f"{name} should be at least {least}, but got {getattr(self, name)}")
        for name, most in self.targets.items():
            lookup(dict.fromkeys((*OBJECTIVES, *objectives)), name, "target")
            if not 0 < most < math.inf:
                raise LrfError(f"the target of {name} should be a positive number, but got {most}")


class SearchKeywords(TypedDict, total=False):
    """The fields of `SearchOptions` as keywords of `search_front`."""

    trials: int
    population: int
    seed: int
    sampler: str
    initial_plans: bool
    stop_when_flat: bool
    targets: Mapping[str, float]


@names_keywords(SearchKeywords, vars(SearchOptions()))
def search_front(
    proxy: Proxy,
    table: OptionTable | None = None,
    *,
    store: StudyStore | None = None,
    progress: Progress = SILENT,
    **options: Unpack[SearchKeywords],
) -> list[Candidate]:
    """Score plans until there are enough trials in all, and return every candidate, those of the store included.

    `table`: by default `proxy.table()`; `options`: fields of `SearchOptions`, such as `trials=300`. Finished trials go
    to `store` within a second, and Ctrl-C leaves them there; any number of processes may search on one store. With one
    process, equal seeds give equal trials. Raises LrfError for impossible options, and where the store's database
    fails.
    """
    settings = SearchOptions(**options)
    settings.check(tuple(proxy.objectives))
    table = proxy.table(progress=progress) if table is None else table
    rank, finished = (store.join(), store.candidates()) if store else (0, [])
    stored = store.distributions(finished[0].trial) if store and finished else None
    search = Search(proxy, table, settings, finished, rank, stored)
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(proxy.single_blas_thread())
        first_unknown = finished[-1].trial + 1 if finished else 0
        writer = stack.enter_context(BackgroundWriter(store, settings.trials, known=first_unknown)) if store else None
        step = stack.enter_context(progress.task("trials", settings.trials, done=min(settings.trials, len(finished))))
        while not search.done:
            before = len(search.candidates)
            interrupts.check()
            trial = search.next_trial()
            if writer:
                writer.put(trial)
                search.take_stored(writer.news())
            step(
                len(search.candidates) - before,
                note=f"front {len(search.front)}, hypervolume {search.front.volume:.4f}",
            )
    if len(search.candidates) < settings.trials:
        progress.say(f"the hypervolume is flat after {len(search.candidates)} trials: enough")
    return store.candidates() if store else search.candidates


class Search:
    """The state of a search: its candidates, their front, and the study in memory that Optuna samples from.

    `finished`: the candidates of earlier sessions or other processes; `rank`: the number of this process on the store;
    `stored`: the distributions of the trials in the store.
    """

    def __init__(
        self,
        proxy: Proxy,
        table: OptionTable,
        options: SearchOptions,
        finished: Sequence[Candidate] = (),
        rank: int = 0,
        stored: Mapping[str, BaseDistribution] | None = None,
    ) -> None:
        self.proxy, self.options = proxy, options
        self.space = SearchSpace(proxy, table, stored or {})
        self.table = self.space.options_of(table)
        seed = process_seed(options.seed, len(finished), rank)
        self.children = ChildGenerator(self.table, tuple(proxy.objectives), options.targets, seed)
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(proxy.objectives)
        sampler = make_sampler(options.sampler, options.population, seed, self.child_parameters)
        with quiet_optuna():
            self.study = optuna.create_study(directions=directions, sampler=sampler)
        self.candidates: list[Candidate] = []
        self.plans: set[Plan] = set()
        self.front, self.volumes = Front(), list[float]()
        self.encoded: list[OptionIndices | None] = []
        """The candidates' plans as option numbers; None where the option table cannot express one."""
        self.candidate_of_trial: dict[int, int] = {}
        """Number of a trial of the study in memory -> number of its candidate."""
        self.waiting = deque(self.first_generation(seed, len(finished)))
        if rank:  # so that processes which begin together score different plans
            np.random.default_rng(seed).shuffle(self.waiting)
        self.take_stored(finished)
        self.replay()

    def first_generation(self, seed: int, finished: int) -> list[Plan]:
        """The first plans to score after `finished` trials; the plain samplers without initial plans draw their own."""
        if self.options.initial_plans:
            sizes = {cost: most for cost, most in self.options.targets.items() if cost in SIZES}
            return first_plans.initial_plans(self.table, self.options.population, sizes)
        if self.options.sampler == SURROGATE:
            count = max(0, self.options.population - finished)
            return first_plans.random_plans(self.table, count, np.random.default_rng(seed))
        return []

    @property
    def done(self) -> bool:
        """Whether there are enough trials, or the hypervolume is flat and that is enough."""
        flat = self.options.stop_when_flat and is_flat(self.volumes, self.options.population)
        return flat or len(self.candidates) >= self.options.trials

    def next_trial(self) -> FrozenTrial:
        """Ask for a trial, score its plan, and tell Optuna; the finished trial."""
        if parameters := self.first_parameters():
            self.study.enqueue_trial(parameters)
        trial = self.ask()
        plan = self.space.plan(trial.params)
        measured, costs = self.proxy.measure(plan), self.proxy.costs(plan)
        self.candidate_of_trial[trial.number] = len(self.candidates)
        self.take(plan, costs, OBJECTIVES["loss"](measured))
        for key, value in self.attributes(plan, measured).items():
            trial.set_user_attr(key, value)
        return self.tell(trial, costs)

    def first_parameters(self) -> dict[str, Any]:
        """The parameters of the next initial plan; then of children as long as NSGA-II would draw at random.

        NSGA-II draws its whole first generation at random, also where there are fewer initial plans than that, because
        the option table has no more or because other processes scored some of them. Empty after the first generation.
        """
        while self.waiting:
            plan = self.waiting.popleft()
            if plan not in self.plans:
                return self.space.parameters(plan)
        if self.options.sampler == SURROGATE and len(self.candidate_of_trial) < self.options.population:
            return self.child_parameters(self.study, self.space.distributions, [])
        return {}

    def ask(self) -> optuna.Trial:
        """The next trial of the study in memory. Reading its relative parameters gives an enqueued one a generation."""
        trial = self.study.ask(self.space.distributions)
        _ = trial.relative_params
        return trial

    def tell(self, trial: optuna.Trial, costs: Mapping[str, float]) -> FrozenTrial:
        """Finish a trial with its costs, and by how much it exceeds each target."""
        for name, most in self.options.targets.items():
            if name in costs:
                trial.set_constraint(name, costs[name] - most)
        return self.study.tell(trial, list(costs.values()))

    def take(self, plan: Plan, costs: Mapping[str, float], loss: float) -> None:
        """Add a scored plan to the candidates, to the front, and to what children are drawn from."""
        candidate = Candidate(len(self.candidates), plan, costs)
        self.candidates.append(candidate)
        self.plans.add(plan)
        self.front.add(candidate)
        self.volumes.append(self.front.volume)
        self.encoded.append(encoded := self.table.encode(plan))
        if encoded is not None:
            self.children.observations.add(encoded, loss)

    def take_stored(self, candidates: Sequence[Candidate]) -> None:
        """Add candidates of earlier sessions or other processes."""
        for stored in candidates:
            loss = stored.costs.get("loss")
            measured = OBJECTIVES["loss"](self.proxy.measure(stored.plan)) if loss is None else loss
            self.take(stored.plan, stored.costs, measured)

    def replay(self) -> None:
        """Put candidates that may still be parents into the study in memory: the front and the latest population."""
        latest = self.candidates[-self.options.population :]
        for i in sorted({candidate.trial for candidate in [*self.front.points, *latest]}):
            if parameters := self.space.parameters(self.candidates[i].plan):
                self.study.enqueue_trial(parameters)
                trial = self.ask()
                self.candidate_of_trial[trial.number] = i
                self.tell(trial, self.candidates[i].costs)

    def child_parameters(
        self, study: optuna.Study, search_space: dict[str, Any], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Optuna's child generation strategy: the parameters of the next plan, drawn from the parents and the front."""
        numbers = {self.candidate_of_trial[trial.number] for trial in parents}
        numbers |= {point.trial for point in self.front.points}
        rows = [row for row in (self.encoded[number] for number in sorted(numbers)) if row is not None]
        if not rows:
            return {}
        child = self.children.child(np.array(rows), self.front.costs)
        parameters = self.space.parameters(self.table.decode(child))
        return {name: value for name, value in parameters.items() if name in search_space}

    def attributes(self, plan: Plan, measured: Measured) -> dict[str, Any]:
        """User attributes of a trial: what a reader of the database needs without this package."""
        similarity = {f"similarity {head}": round(value, 6) for head, value in measured.similarity.items()}
        counts = {"params": measured.params, "macs": measured.macs, "images": len(self.proxy.scored)}
        return {PLAN: plan.to_json(), **counts, **similarity, HYPERVOLUME: round(self.front.volume, 6)}


def process_seed(seed: int, finished: int, rank: int) -> int:
    """A seed that differs from session to session and from process to process, so that no draws are repeated."""
    return int(np.random.SeedSequence([seed, finished, rank]).generate_state(1)[0])


def is_flat(volumes: Sequence[float], population: int) -> bool:
    """Whether the last population of trials gained less than `FLAT_GAIN` of the hypervolume that was left."""
    if len(volumes) < 2 * population:
        return False
    before = volumes[-1 - population]
    return volumes[-1] - before < FLAT_GAIN * (1 - before)
