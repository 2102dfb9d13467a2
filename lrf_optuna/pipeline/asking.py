"""What a study asks of those who work for it: the proxy, the search, its workers; and the loss that it tolerates."""

from __future__ import annotations

from typing import Any

from lrf_optuna.config import FUNCTION, SearchSpec, StudySpec
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.scoring.kernel_cache import cache_folder
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.search.allocation import evenly_spaced
from lrf_optuna.search.workers import WorkerTask
from lrf_optuna.selection.accuracy import Accuracy
from lrf_optuna.selection.choose import tolerable
from lrf_optuna.selection.sequential_refit import PlanRefits

LADDER = 24
"""Plans of the Lagrangian sweep, from large to small, between which the drop that is wanted is looked for."""


def scoring(asked: SearchSpec) -> dict[str, Any]:
    """How plans are scored: keywords of `Proxy`."""
    return {
        "methods": asked.methods,
        "objectives": asked.objectives,
        "similarity": asked.similarity,
        "maps": asked.maps,
    }


def searching(asked: SearchSpec, limits: dict[str, float]) -> dict[str, Any]:
    """How the front is searched: keywords of `search`. `limits`: cost -> most, besides the targets."""
    return {
        "trials": asked.trials,
        "population": asked.population,
        "seed": asked.seed,
        "targets": asked.wanted | limits,
        "sampler": asked.sampler,
        "initial_plans": asked.initial_plans,
        "stop_when_flat": asked.stop_when_flat,
    }


def task_of(spec: StudySpec, url: str, how: dict[str, Any]) -> WorkerTask:
    """What every worker of a study at `url` does, which is `searching` somehow."""
    asked, path = spec.search, spec.model.path
    home = path.partition(":")[0]
    module = home if FUNCTION.fullmatch(path) and home not in ("zoo", "keras") else None
    return WorkerTask(url, spec.name, str(cache_folder(asked.cache)), scoring(asked), asked.keep, how, module)


def tolerated(drop: float, table: OptionTable, accuracy: Accuracy, built: PlanRefits) -> float:
    """The loss that goes with a drop of so many points of accuracy: a limit for the search."""
    plans = evenly_spaced(table, LADDER)
    points = [Candidate(i, plan, accuracy.proxy.costs(plan)) for i, plan in enumerate(plans)]
    return tolerable(points, drop, accuracy, built)
