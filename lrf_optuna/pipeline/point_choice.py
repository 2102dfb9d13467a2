"""Another point of a study whose search is done: found by its number, and made the chosen one with its model."""

from __future__ import annotations

from collections.abc import Sequence

from lrf_optuna.errors import LrfError
from lrf_optuna.pipeline.result_files import ResultFiles
from lrf_optuna.pipeline.run_folder import ExistingStudy, Reasoned
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.progress import Progress


def point_of(candidates: Sequence[Candidate], trial: int) -> Reasoned:
    """The candidate of a number. Raises LrfError where there is none."""
    found = next((candidate for candidate in candidates if candidate.trial == trial), None)
    if found is None:
        last = f"the last one is {max(c.trial for c in candidates)}" if candidates else "there is none yet"
        raise LrfError(f"trial {trial} is no finished trial of this study, {last}: see its points with front")
    return found, "chosen by its number"


def make_chosen(found: ExistingStudy, choice: Reasoned, candidates: Sequence[Candidate], progress: Progress) -> bool:
    """Keep a choice in plan.json, and make the point's model, if it was built, that of the folder; whether it was.

    A tuned model comes before one that was only built.
    """
    (chosen, why), folder = choice, found.folder
    folder.keep_earlier()
    folder.write_choice(found.record.name, choice)
    made = folder.models.tuned(chosen) or folder.models.latest(chosen)
    if made is None:
        return False
    files = ResultFiles(folder, found.record, progress)
    result, written = files.now(made[0], candidates, why)
    if not written:
        files.write(result, made[1], candidates)
    return True
