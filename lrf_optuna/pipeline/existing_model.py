"""A model of a point that was made before: whether there is one, and its result in the study as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_optuna.models.model_files import load_like
from lrf_optuna.pipeline.latencies import time_at_end
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Result

if TYPE_CHECKING:
    from lrf_optuna.pipeline.run import Run


def existing_model(run: Run, point: Candidate) -> tuple[Result, Path] | None:
    """Result and file of a model of a point that needs no building: the one that a run asks for, or a tuned one."""
    found = run.folder.models.with_digest(point, run.digest_of_model(point))
    tried = run.folder.models.tried(point.trial).get(run.digest_of_model(point))
    if found is None and tried is not None and (stays := run.folder.stays(point)):
        done = f"this fine-tune of trial {point.trial} was done before: validation {stays[0].metric} {tried:.2%}"
        run.progress.say(f"{done}; the model with {stays[0].final.val_metric:.2%} stays")
        return stays
    if found or run.spec.tune.epochs or run.force or not (better := run.folder.models.tuned(point)):
        return found
    run.progress.say(f"the fine-tuned model of trial {point.trial} stays; give --force to build an untuned one")
    return better


def renewed(run: Run, made: tuple[Result, Path], candidates: Sequence[Candidate], why: str, has_news: bool) -> Result:
    """The result of a model that was made before, written as of now. `has_news`: whether metrics are new."""
    known, file = made
    result, written = run.files.now(known, candidates, why)
    timed = not run.spec.latency.time_at_end or run.spec.latency.runtime in result.original.milliseconds
    if written and timed and not has_news:
        uncalled = ", and no callback is called" if run.callbacks else ""
        run.progress.say(f"nothing to do: the model of this point is there{uncalled}")
        return result
    if not timed:
        networks = run.model, load_like(file, run.model)
        run.warn(filter(None, [time_at_end(result, networks, run.spec, run.data, run.progress)]))
    run.files.write(result, file, candidates)
    return result
