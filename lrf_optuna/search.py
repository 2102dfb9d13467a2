"""The search: one static space, a first generation of good plans, NSGA-II, the front, and one point off it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import optuna

from lrf_optuna.allocate import Picks, Table, competitive, fitting, plan_of, sweep, uniform
from lrf_optuna.errors import LrfError
from lrf_optuna.objectives import Measured
from lrf_optuna.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.storage import PLAN, Record, candidate_of

if TYPE_CHECKING:
    from lrf_optuna.proxy import Proxy

NEAR = (1.0, 0.97, 0.92)
"""Shares of a target that seeds are made for, so that the front is dense there."""


def search(
    proxy: Proxy,
    table: Table,
    *,
    trials: int = 300,
    keeps: Sequence[float],
    population: int = 50,
    seed: int = 0,
    targets: Mapping[str, float] | None = None,
    record: Record | None = None,
    progress: Progress = SILENT,
) -> list[Candidate]:
    """Score plans until there are `trials` in all, and return every one, the record's earlier ones included.

    The first `population` trials are good plans off `table`; they are parents like any other. A method that the table
    shows to be worse than another in a layer, whatever it keeps, is not searched there. Each finished trial goes to
    `record` at once. An interrupt leaves the finished ones there.
    """
    objectives = tuple(proxy.objectives)
    done = record.finished() if record else []
    methods = space(table, done)
    table = {site: [option for option in options if option.method in methods[site]] for site, options in table.items()}
    study = optuna.create_study(
        directions=["minimize"] * len(objectives),
        sampler=optuna.samplers.NSGAIISampler(population_size=population, seed=stream(seed, len(done))),
    )
    study.add_trials(done)
    for picks in seeds(table, keeps, population, targets or {}, fixed_share(proxy))[len(done) :]:
        study.enqueue_trial(parameters(picks))
    found = [candidate_of(trial, objectives) for trial in done]
    best = front(found)
    with progress.task("trials", trials, done=min(trials, len(done))) as step:
        for _ in range(len(done), trials):
            trial = study.ask()
            _ = trial.relative_params  # gives an enqueued trial its generation: without one it is never a parent
            plan = sampled(trial, proxy, methods, keeps)
            costs = proxy.costs(plan)
            describe(trial, plan, proxy.measure(plan))
            finished = study.tell(trial, [costs[name] for name in objectives])
            if record:
                record.add(finished)
            found.append(Candidate(finished.number, plan, costs))
            best = front([*best, found[-1]])
            step(1, note=f"{len(best)} on the front")
    return found


def stream(seed: int, done: int) -> int:
    """A sampler seed for a study with `done` trials: a resumed study must not draw what it drew before."""
    return int(np.random.SeedSequence([seed, done]).generate_state(1)[0])


def space(table: Table, done: Sequence[optuna.trial.FrozenTrial]) -> dict[str, tuple[str, ...]]:
    """The methods that trials draw from in each layer: in a resumed study those that it began with."""
    if done:
        return {site: done[0].distributions[f"{site}.method"].choices for site in table}  # type: ignore[attr-defined]
    return {site: tuple(dict.fromkeys(o.method for o in options)) for site, options in competitive(table).items()}


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


def fixed_share(proxy: Proxy) -> dict[str, float]:
    """The shares of parameters and MACs that no plan can change."""
    params = sum(site.op.params for site in proxy.sites.values())
    macs = sum(sum(site.op.macs(shape) for shape in site.maps) for site in proxy.sites.values())
    return {"params": 1 - params / proxy.inventory.params, "macs": 1 - macs / proxy.inventory.macs}


def seeds(
    table: Table, keeps: Sequence[float], count: int, targets: Mapping[str, float], fixed: Mapping[str, float]
) -> list[Picks]:
    """`count` good first plans: near the targets, uniform keeps, the Lagrangian sweep from large to small."""
    near = []
    for share in NEAR if targets else ():
        budget = {cost: share * target - fixed[cost] for cost, target in targets.items()}
        near += fitting(table, budget)[: max(1, count // (4 * len(NEAR)))]
    spread = [uniform(table, keep) for keep in list(keeps)[:: max(1, len(keeps) // 4)]]
    swept = sweep(table)
    distinct: dict[Plan, Picks] = {plan_of(picks): picks for picks in [*near, *spread][: count // 2]}
    wanted = count - len(distinct)
    for i in np.unique(np.linspace(0, len(swept) - 1, min(wanted, len(swept))).round().astype(int)):
        distinct.setdefault(plan_of(swept[i]), swept[i])
    for picks in swept:
        if len(distinct) >= count:
            break
        distinct.setdefault(plan_of(picks), picks)
    return list(distinct.values())


def parameters(picks: Picks) -> dict[str, str | float]:
    """Picks as the parameters of a trial."""
    named: dict[str, str | float] = {}
    for site, option in picks.items():
        named |= {f"{site}.method": option.method, f"{site}.keep": option.keep}
    return named


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other beats, each plan once, from the smallest loss of parameters to the largest."""
    distinct = list({candidate.plan: candidate for candidate in reversed(candidates)}.values())
    if not distinct:
        return []
    values = np.array([list(candidate.costs.values()) for candidate in distinct])
    order = np.lexsort(values.T[::-1])
    kept: list[int] = []
    for i in order:
        rivals = values[kept]
        if not np.any(np.all(rivals <= values[i], axis=1)):
            kept.append(int(i))
    return sorted((distinct[i] for i in kept), key=size)


def size(candidate: Candidate) -> float:
    """How large a candidate is: the mean of its parameter and MAC shares."""
    sizes = [cost for name, cost in candidate.costs.items() if name != "loss"]
    return sum(sizes) / len(sizes) if sizes else 0.0


def distance(candidate: Candidate) -> float:
    """How far a candidate is from a perfect network of no size.

    For unit vectors sqrt(2 (1 - cosine)) is their distance, so a loss counts as the distance of the feature maps; the
    other axis is the size.
    """
    return sqrt(2 * max(0.0, candidate.costs.get("loss", 0.0)) + size(candidate) ** 2)


def choose(
    points: Sequence[Candidate],
    *,
    targets: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    drop: Callable[[Candidate], float] | None = None,
) -> tuple[Candidate, str]:
    """One point off the front, and why.

    With `targets` (cost -> most) the least loss within them; with `max_drop` the smallest whose `drop` (points of
    validation accuracy, before tuning) is no more, within the targets; else the knee: the point nearest to a perfect
    network of no size. Raises LrfError where no point qualifies, with what the nearest one has.
    """
    inside = [p for p in points if all(p.costs[cost] <= most for cost, most in (targets or {}).items())]
    if not points:
        raise LrfError("the study has no finished trial to choose from: run it first")
    if not inside:
        raise LrfError(f"no point of the front meets {shown(targets or {})}; {smallest(points, targets or {})}")
    if max_drop is not None and drop is not None:
        return mildest(inside, max_drop, drop)
    if targets:
        best = min(inside, key=lambda p: p.costs.get("loss", size(p)))
        return best, f"the least loss of the {len(inside)} points within {shown(targets)}"
    return min(inside, key=distance), f"the knee of {len(inside)} points: nearest to a perfect network of no size"


def mildest(points: Sequence[Candidate], most: float, drop: Callable[[Candidate], float]) -> tuple[Candidate, str]:
    """The smallest point whose drop is at most `most`, found by halving along the loss."""
    ordered = sorted(points, key=lambda p: p.costs.get("loss", -size(p)))
    low, high, measured = 0, len(ordered), {}
    while low < high:
        middle = (low + high) // 2
        measured[middle] = drop(ordered[middle])
        low, high = (middle + 1, high) if measured[middle] <= most else (low, middle)
    for candidate in sorted(ordered[:low], key=size):
        found = drop(candidate)
        if found <= most:
            return (
                candidate,
                f"the smallest point that loses at most {most:g} points of validation accuracy ({found:.2f})",
            )
    least = min(measured.values(), default=float("nan"))
    raise LrfError(
        f"no point of the front loses at most {most:g} points of validation accuracy; the least is {least:.2f}"
    )


def shown(targets: Mapping[str, float]) -> str:
    """Targets as words."""
    return " and ".join(f"{cost} <= {most:g}" for cost, most in targets.items())


def smallest(points: Sequence[Candidate], targets: Mapping[str, float]) -> str:
    """What the front has instead of the targets."""
    least = {cost: min(p.costs[cost] for p in points) for cost in targets}
    return "the smallest on it: " + ", ".join(f"{cost} {value:.3f}" for cost, value in least.items())
