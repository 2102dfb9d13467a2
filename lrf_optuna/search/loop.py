"""The search: one static space, a first generation of good plans, NSGA-II with bred children, until there are enough.

It runs on a study in memory. What is finished goes to the record, and what other processes put there becomes part of
the study in memory, so that all of them breed from everybody's trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial

from lrf_optuna.errors import lookup
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.processes import Interrupts
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.build_table import keep_grids
from lrf_optuna.scoring.option_table import Allocation, OptionTable
from lrf_optuna.scoring.screening import drop_dominated_methods
from lrf_optuna.search.initial_plans import budget_plans, initial_plans, turned
from lrf_optuna.search.line import Line
from lrf_optuna.search.racing import AHEAD, Race, passing
from lrf_optuna.search.samplers import BRED, SAMPLERS
from lrf_optuna.search.state import SearchState, is_flat
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.storage.writer import BackgroundWriter

if TYPE_CHECKING:
    from lrf_optuna.scoring.proxy import Proxy


def search_front(
    proxy: Proxy,
    table: OptionTable,
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
    passes: int = AHEAD,
    record: StudyStore | None = None,
    progress: Progress = SILENT,
) -> list[Candidate]:
    """Score plans until there are `trials` in all, and return every one, the record's earlier ones included.

    The first `population` trials are good plans off `table`, unless not `seeded`; they are parents like any other. A
    method that the table shows to be worse than another in a layer, whatever it keeps, is not searched there, and the
    smallest of the `keeps` only in layers that hold much of the network (`contenders.grid`). `targets`
    (cost -> most; of the loss too) are constraints of the trials, and the front becomes dense below them. With
    `stop_when_flat` the search ends where the hypervolume hardly rises. `racing` scores plans on few images first, and
    no further where these show them to be beaten (`Race`); `passes` are made at a time. Finished trials go to `record`
    within a second, and an interrupt leaves them there; any number of processes may search on one record at a time.
    Without other processes, equal seeds give equal trials. Raises LrfError for an unknown sampler, and where the
    record's database fails.
    """
    make = lookup(SAMPLERS, sampler, "sampler")
    rank, done = (record.join(), record.finished()) if record else (0, [])
    standard = budget_plans(table, proxy.fixed) if seeded else []
    methods = space(table, done, standard, record)
    table = {site: [option for option in options if option.method in methods[site]] for site, options in table.items()}
    start = stream(seed, len(done), rank)
    hunt = SearchState(proxy, table, targets or {}, start)
    grids = keep_grids(proxy, keeps)
    shared = [keep for keep in keeps if all(keep in own for own in grids.values())]
    first = initial_plans(table, shared, population, hunt.sizes, proxy.fixed, standard) if seeded else []
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(proxy.calm())
        race = Race(proxy, hunt.front, stack.enter_context(passing(passes)), racing, hunt.breeder.looks)
        drawing = partial(make, population, start, hunt.child), methods, grids
        ordered, own = turned(first, rank), sampler == BRED
        line = Line(hunt, race, *drawing, seeds=ordered, population=population, bred=own)
        line.join(done)
        if record:
            known = done[-1].number + 1 if done else 0
            line.recorder = stack.enter_context(BackgroundWriter(record, trials, known=known))
        step = stack.enter_context(progress.task("trials", trials, done=min(trials, len(done))))
        while len(hunt.found) < trials and not (stop_when_flat and is_flat(hunt.volumes, population)):
            before = len(hunt.found)
            interrupts.check()
            line.move(trials)
            if taken := len(hunt.found) - before:
                step(taken, note=f"front {len(hunt.front)}, hypervolume {hunt.front.volume:.4f}")
    if len(hunt.found) < trials:
        progress.say(f"the hypervolume is flat after {len(hunt.found)} trials: enough")
    return record.candidates() if record else hunt.found


def stream(seed: int, done: int, rank: int = 0) -> int:
    """A sampler seed: a resumed study must not draw what it drew before, nor a process what others do."""
    return int(np.random.SeedSequence([seed, done, rank] if rank else [seed, done]).generate_state(1)[0])


def space(
    table: OptionTable,
    done: Sequence[FrozenTrial],
    standard: Sequence[Allocation] = (),
    record: StudyStore | None = None,
) -> dict[str, tuple[str, ...]]:
    """The methods that trials draw from in each layer, those of the `standard` seeds among them.

    In a resumed study they are those that it began with; processes that begin together agree on those of one of them.
    """
    if done:
        return {site: done[0].distributions[f"{site}.method"].choices for site in table}  # type: ignore[attr-defined]
    worth = {site: {o.method for o in options} for site, options in drop_dominated_methods(table).items()}
    for picks in standard:
        for site, option in picks.items():
            worth[site].add(option.method)
    own = {site: list(dict.fromkeys(o.method for o in table[site] if o.method in worth[site])) for site in table}
    return {site: tuple(methods) for site, methods in (record.agree(own) if record else own).items()}
