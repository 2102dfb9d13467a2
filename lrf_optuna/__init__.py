"""lrf_optuna: the Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lrf_optuna.processes import quiet_imports
from lrf_optuna.version import VERSION

if TYPE_CHECKING:
    from lrf_optuna.decompositions.registry import DECOMPOSITIONS as DECOMPOSITIONS
    from lrf_optuna.decompositions.registry import register as register
    from lrf_optuna.errors import LrfError as LrfError
    from lrf_optuna.models.inventory import find_sites as find_sites
    from lrf_optuna.pipeline.build import build as build
    from lrf_optuna.pipeline.compare import compare_baselines as compare_baselines
    from lrf_optuna.pipeline.compress import compress as compress
    from lrf_optuna.pipeline.export import export as export
    from lrf_optuna.pipeline.finetune import finetune as finetune
    from lrf_optuna.pipeline.run_result import RunResult as RunResult
    from lrf_optuna.plans.comparison import Comparison as Comparison
    from lrf_optuna.plans.front import pareto_front as pareto_front
    from lrf_optuna.plans.plan import Candidate as Candidate
    from lrf_optuna.plans.plan import Choice as Choice
    from lrf_optuna.plans.plan import Plan as Plan
    from lrf_optuna.plans.result import Result as Result
    from lrf_optuna.scoring.proxy import Proxy as Proxy
    from lrf_optuna.scoring.space_limits import SpaceLimits as SpaceLimits
    from lrf_optuna.search.loop import search_front as search_front
    from lrf_optuna.selection.choose import choose_point as choose_point

_MODULES = {
    "Candidate": "plans.plan",
    "Choice": "plans.plan",
    "Comparison": "plans.comparison",
    "DECOMPOSITIONS": "decompositions.registry",
    "LrfError": "errors",
    "Plan": "plans.plan",
    "Proxy": "scoring.proxy",
    "Result": "plans.result",
    "RunResult": "pipeline.run_result",
    "SpaceLimits": "scoring.space_limits",
    "build": "pipeline.build",
    "choose_point": "selection.choose",
    "compare_baselines": "pipeline.compare",
    "compress": "pipeline.compress",
    "export": "pipeline.export",
    "find_sites": "models.inventory",
    "finetune": "pipeline.finetune",
    "pareto_front": "plans.front",
    "register": "decompositions.registry",
    "search_front": "search.loop",
}
"""Public name -> the module that defines it."""
__version__ = VERSION
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, because `--help` must not wait for TensorFlow."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lrf_optuna' has no attribute {name!r}")
    with quiet_imports():
        return getattr(import_module(f"lrf_optuna.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
