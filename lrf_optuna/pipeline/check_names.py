"""Whether the names in a study are those of its tables, before TensorFlow is loaded."""

from __future__ import annotations

from lrf_optuna.config import StudySpec
from lrf_optuna.decompositions.registry import DECOMPOSITIONS, load_plugins
from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.runtimes.formats import check_runtimes
from lrf_optuna.scoring.latency import LATENCY
from lrf_optuna.scoring.objectives import OBJECTIVES
from lrf_optuna.scoring.similarity import AUTO, SIMILARITIES
from lrf_optuna.search.samplers import SAMPLERS


def check_names(spec: StudySpec) -> None:
    """Raises LrfError for a name that its table lacks, a runtime that is not installed, and a table that nothing needs.

    Nothing but the plug-ins is loaded for that.
    """
    load_plugins()
    limited = [method for layer in spec.layers.values() for method in layer.methods or ()]
    for method in (*(spec.search.methods or ()), *limited):
        lookup(DECOMPOSITIONS, method, "method")
    for objective in spec.search.objectives:
        lookup(OBJECTIVES, objective, "objective")
    lookup({AUTO: None, **SIMILARITIES}, spec.search.similarity, "similarity")
    lookup(SAMPLERS, spec.search.sampler, "sampler")
    table, is_timed = spec.latency.latency_table, LATENCY in spec.search.objectives
    if table and not is_timed:
        raise LrfError("--latency-table counts only where latency is an objective: give --target latency=0.5 as well")
    if (is_timed and not table) or spec.latency.time_at_end:
        check_runtimes([spec.latency.runtime])
