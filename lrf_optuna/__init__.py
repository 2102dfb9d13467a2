"""lrf_optuna: the Pareto front of low-rank factorizations of a trained Keras CNN, and one smaller model off it."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrf_optuna.choosing import choose
    from lrf_optuna.compare import compare
    from lrf_optuna.comparison import Comparison
    from lrf_optuna.compress import compress
    from lrf_optuna.decompositions import DECOMPOSITIONS, register
    from lrf_optuna.errors import LrfError
    from lrf_optuna.finetune import finetune
    from lrf_optuna.layers import find_sites
    from lrf_optuna.pareto import front
    from lrf_optuna.plan import Candidate, Choice, Plan
    from lrf_optuna.proxy import Proxy
    from lrf_optuna.result import Result
    from lrf_optuna.search import search
    from lrf_optuna.surgery import materialise

_ROOMS = {
    "compare": "compare",
    "Comparison": "comparison",
    "compress": "compress",
    "DECOMPOSITIONS": "decompositions",
    "register": "decompositions",
    "LrfError": "errors",
    "finetune": "finetune",
    "find_sites": "layers",
    "Candidate": "plan",
    "Choice": "plan",
    "Plan": "plan",
    "Proxy": "proxy",
    "Result": "result",
    "choose": "choosing",
    "front": "pareto",
    "search": "search",
    "materialise": "surgery",
}
__version__ = "0.1.0"
__all__ = [
    "DECOMPOSITIONS",
    "Candidate",
    "Choice",
    "Comparison",
    "LrfError",
    "Plan",
    "Proxy",
    "Result",
    "choose",
    "compare",
    "compress",
    "find_sites",
    "finetune",
    "front",
    "materialise",
    "register",
    "search",
]


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first used: `--help` must not wait for TensorFlow."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'lrf_optuna' has no attribute {name!r}")
    return getattr(import_module(f"lrf_optuna.{_ROOMS[name]}"), name)


class _Package(ModuleType):
    """Keeps `lrf_optuna.search` the function: to import the room of that name would put the room in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
