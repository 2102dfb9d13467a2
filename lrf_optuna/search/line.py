"""Trials on their way, in the order of the asking: a new one is asked while those before it are scored.

The study in memory is NSGA-II's own. A long one is begun anew with the trials that may still be parents, as its first
generation, so that a trial costs the same however many there were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.scoring.option_table import Allocation, plan_of
from lrf_optuna.search.racing import AHEAD, Race, Running
from lrf_optuna.search.samplers import space_of
from lrf_optuna.search.state import CONSTRAINT, SearchState, described, parameters
from lrf_optuna.storage.writer import BackgroundWriter

LAST = 8
"""Where others search too, of so many last trials each is recorded before the next: hardly any is one too many."""
SHARED = 0.1
"""Seconds from one transaction to the next where others search too, so that all know soon what was scored."""
MANY, KEPT = 20, 4
"""Populations in the study in memory at which it is begun anew, and of those kept at most."""
GENERATION = ":generation"
"""What the name of the attribute ends with in which Optuna keeps a trial's generation."""


class Line:
    """Asks, scores and records trials; `move` does one step.

    `make`: gives the sampler; `methods`: what each site draws from; `seeds`: the first plans, in their order. `bred`:
    whether the sampler is the search's own, which needs no random plans after seeds, and no long memory.
    """

    def __init__(
        self,
        hunt: SearchState,
        race: Race,
        make: Callable[[], optuna.samplers.BaseSampler],
        methods: Mapping[str, Sequence[str]],
        keeps: Mapping[str, Sequence[float]],
        *,
        seeds: Sequence[Allocation],
        population: int,
        bred: bool,
    ) -> None:
        self.hunt, self.race, self.make, self.methods = hunt, race, make, methods
        self.space = space_of(methods, keeps)
        self.seeds, self.population, self.bred = deque(seeds), population, bred
        self.seeded = bool(seeds)
        self.asked: deque[tuple[optuna.Trial, Running]] = deque()
        self.recorder: BackgroundWriter | None = None
        self.shared = False
        """Whether others have been seen to search on the same record."""
        self.study = self.new()

    def new(self) -> optuna.Study:
        """A study in memory without trials."""
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(self.hunt.proxy.objectives)
        return optuna.create_study(directions=directions, sampler=self.make())

    def move(self, trials: int) -> None:
        """Ask for one more trial as long as there are less than `trials`, and finish the first in the line."""
        left = trials - len(self.hunt.found) - len(self.asked)
        if left > 0:
            self.ask()
        if len(self.asked) > 1:
            self.race.advance(self.asked[-2][1])
        if left <= 0 or len(self.asked) > AHEAD:
            self.finish()
        if self.recorder:
            self.share(self.recorder, left)
        if self.bred and len(self.study.get_trials(deepcopy=False)) >= MANY * self.population:
            self.forget()

    def share(self, recorder: BackgroundWriter, left: int) -> None:
        """Take in what others have recorded."""
        if self.shared and left <= LAST:
            recorder.flush()
        news = recorder.news()
        if news and not self.shared:
            self.shared = self.hunt.breeder.shared = True
            recorder.interval = SHARED
        self.join(news)

    def ask(self) -> None:
        """The next trial: a seed that nobody has scored, as long as there are any, else a child."""
        picks = self.seed()
        if picks:
            self.study.enqueue_trial(parameters(picks))
        trial = self.study.ask(self.space)
        _ = trial.relative_params  # gives an enqueued trial its generation: without one it is never a parent
        plan = self.plan(trial.params)
        self.hunt.expect(trial.number, plan)
        self.asked.append((trial, self.race.start(plan, self.hunt.breeder.foreseen(plan))))

    def seed(self) -> Allocation | None:
        """The next seed; where none is left and the first generation is still being scored, a child of the front.

        Of a search that is bred without seeds the first generation is of any options of the table: what the sampler
        would draw may have to be fitted first, and teaches nothing of the others.
        """
        while self.seeds:
            picks = self.seeds.popleft()
            if plan_of(picks) not in self.hunt.plans:
                return picks
        if not self.bred or len(self.hunt.found) >= self.population:
            return None
        if not self.seeded:
            return self.hunt.any()
        return self.hunt.bred() if self.hunt.found else None

    def plan(self, drawn: Mapping[str, Any]) -> Plan:
        """The plan that a trial has drawn: a method and a keep for every site, the same names in every trial."""
        pairs = {site: (drawn[f"{site}.method"], drawn[f"{site}.keep"]) for site in self.methods}
        return Plan.of({site: self.hunt.proxy.choice(site, *pair) for site, pair in pairs.items()})

    def finish(self) -> None:
        """Score the first in the line, and record it."""
        trial, running = self.asked.popleft()
        measured = self.race.finish(running)
        candidate = self.hunt.score(trial, measured)
        finished = self.study.tell(trial, list(candidate.costs.values()))
        finished.user_attrs = described(candidate.plan, measured, running.images, self.hunt.front.volume)
        if self.recorder:
            self.recorder.put(finished)

    def join(self, trials: Sequence[FrozenTrial]) -> None:
        """Trials of an earlier session, or of others, become candidates, and parents as long as they are not many."""
        taken = [(self.hunt.again(trial), trial) for trial in trials]
        if self.bred and len(taken) >= MANY * self.population:
            self.forget(taken)
        else:
            self.add(taken)

    def forget(self, taken: Sequence[tuple[Candidate, FrozenTrial]] = ()) -> None:
        """Begin a new study in memory with those trials, of the old one and `taken`, that may still be parents."""
        while self.asked:
            self.finish()
        known = {self.hunt.numbers[trial.number]: trial for trial in self.study.get_trials(deepcopy=False)}
        known |= {candidate.trial: trial for candidate, trial in taken}
        self.study = self.new()
        self.hunt.numbers.clear()
        self.add([(self.hunt.found[i], known[i]) for i in self.worth() if i in known], first=True)

    def worth(self) -> list[int]:
        """The candidates that may still be parents, the latest of them."""
        return sorted(self.hunt.parents(2 * self.population))[-KEPT * self.population :]

    def add(self, pairs: Sequence[tuple[Candidate, FrozenTrial]], first: bool = False) -> None:
        """Candidates become trials of the study in memory, with today's constraints; of its `first` generation."""
        for number, (candidate, trial) in enumerate(pairs, start=len(self.study.get_trials(deepcopy=False))):
            attributes = {key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)}
            if first:
                attributes |= {key: 0 for key in attributes if key.endswith(GENERATION)}
            limits = {f"{CONSTRAINT}{name}": value for name, value in self.hunt.violations(candidate).items()}
            self.hunt.numbers[number] = candidate.trial
            self.study.add_trial(
                optuna.trial.create_trial(
                    values=trial.values,
                    params=trial.params,
                    distributions={name: self.space[name] for name in trial.params},
                    system_attrs=attributes | limits,
                )
            )
