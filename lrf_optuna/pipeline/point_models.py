"""The models of points side by side: each has a file of its own in the run folder, so that none replaces another's."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lrf_optuna.errors import LrfError
from lrf_optuna.files import copy_whole, write_text, write_whole
from lrf_optuna.models.compact_file import save_compact
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Result


class PointModels:
    """The folder models/: TRIAL.keras and TRIAL.json, written last, for every point that was built.

    A model that another one of the same point replaces stays as TRIAL-before.keras as long as it is the better one.
    TRIAL-tried.json has the digests of fine-tunes whose models are not there: they did not help, or were replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replaced: list[Result] = []
        """The results of fine-tuned models that are gone, because others took their place; until that was said."""

    def model(self, trial: int, before: bool = False) -> Path:
        """The file of a point's model."""
        return self.path / f"{trial}{'-before' if before else ''}.keras"

    def result(self, trial: int, before: bool = False) -> Path:
        """The file with the result of a point's model."""
        return self.model(trial, before).with_suffix(".json")

    def read(self, trial: int, before: bool = False) -> Result | None:
        """The result of a point's model; None where there is none that can be read, or its model is not there."""
        with suppress(LrfError):
            return Result.read(self.result(trial, before)) if self.model(trial, before).exists() else None
        return None

    def of_point(self, point: Candidate) -> Iterator[tuple[Result, Path]]:
        """Result and file of the models of a point, the latest first; those of another study's trial are left out."""
        for before in (False, True):
            found = self.read(point.trial, before)
            if found and found.chosen == point:
                yield found, self.model(point.trial, before)

    def latest(self, point: Candidate) -> tuple[Result, Path] | None:
        """Result and file of the latest model of a point; None where it was not built."""
        return next(self.of_point(point), None)

    def with_digest(self, point: Candidate, model_digest: str) -> tuple[Result, Path] | None:
        """Result and file of the model of a point with a digest; None where there is none."""
        return next((one for one in self.of_point(point) if one[0].model_digest == model_digest), None)

    def tuned(self, point: Candidate) -> tuple[Result, Path] | None:
        """Result and file of the better tuned model of a point, as `is_better` has it; None where none is tuned."""
        found = [one for one in self.of_point(point) if one[0].tuned]
        return found[-1] if len(found) == 2 and is_better(found[1][0], found[0][0]) else next(iter(found), None)

    def helped(self, point: Candidate, current: Result | None) -> tuple[Result, Path] | None:
        """Result and file of the model of a point that a fine-tune helped: the `current` one, else the better one."""
        found = [one for one in self.of_point(point) if one[0].helped]
        digest = current.model_digest if current else ""
        return next((one for one in found if one[0].model_digest == digest), self.tuned(point) if found else None)

    def tried_file(self, trial: int) -> Path:
        """The file with the fine-tunes of a point whose models are not there: digest -> validation metric."""
        return self.path / f"{trial}-tried.json"

    def tried(self, trial: int) -> dict[str, float]:
        """The content of `tried_file`; empty where there is none that can be read."""
        try:
            return {
                str(digest): float(metric) for digest, metric in json.loads(self.tried_file(trial).read_text()).items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def note_tried(self, result: Result) -> None:
        """Note a fine-tune whose model is not kept, so that the same command does not repeat it."""
        trial = result.chosen.trial
        table = self.tried(trial) | {result.model_digest: result.final.val_metric}
        write_text(self.tried_file(trial), json.dumps(table, indent=2) + "\n")

    def write_model(self, trial: int, model: Any) -> int:
        """The bytes of a point's file, which is compressed and has no optimizer; its result is written later."""
        self.set_aside(trial)
        self.remove(trial)
        return write_whole(self.model(trial), partial(save_compact, model)).stat().st_size

    def set_aside(self, trial: int) -> None:
        """Keep the model that is about to be replaced, unless a better one of the same point is kept already."""
        own, kept = self.read(trial), self.read(trial, before=True)
        if own is None:
            return
        if kept and is_better(kept, own):
            self.note_replaced(own)
            return
        self.note_replaced(kept)
        self.remove(trial, before=True)
        for file in sorted(self.path.glob(f"{trial}.*"), key=self.result(trial).__eq__):  # the result is the last
            file.replace(self.path / file.name.replace(f"{trial}.", f"{trial}-before.", 1))

    def said_of_replaced(self) -> list[str]:
        """A sentence about each fine-tuned model that is gone and of which none was said yet."""
        found, self.replaced = self.replaced, []
        return [replaced_text(result) for result in found]

    def note_replaced(self, result: Result | None) -> None:
        """Note that the model of a result is about to be gone, if a fine-tune had helped it."""
        if result and result.helped:
            self.note_tried(result)
            self.replaced.append(result)

    def remove(self, trial: int, before: bool = False) -> None:
        """Remove a point's model and all that goes with it, its result first."""
        self.result(trial, before).unlink(missing_ok=True)
        for file in self.path.glob(f"{self.model(trial, before).stem}.*"):
            file.unlink()

    def write_result(self, result: Result, companions: Mapping[str, Path]) -> str:
        """Write the result of a point's model, beside copies of what goes with it: ending -> file.

        Says where a better model of the same point is kept; else empty.
        """
        trial = result.chosen.trial
        for ending, file in companions.items():
            if file.exists():
                copy_whole(file, self.model(trial).with_suffix(ending))
        write_text(self.result(trial), result.to_json())
        before = self.read(trial, before=True)
        if before and is_better(before, result):
            return better_text(before, result, self.model(trial, before=True))
        self.note_replaced(before)
        self.remove(trial, before=True)
        return ""


def metric_text(result: Result) -> str:
    """The metric of the last network of a result on validation images."""
    return f"validation {result.metric} {result.final.val_metric:.2%}"


def replaced_text(result: Result) -> str:
    """A sentence about a fine-tuned model that is gone."""
    how = f" ({result.fine_tune})" if result.fine_tune else ""
    return f"an earlier fine-tuned model of trial {result.chosen.trial}, {metric_text(result)}{how}, is replaced"


def better_text(before: Result, result: Result, file: Path) -> str:
    """A sentence about the model that a point had before, which is no worse than that of a result."""
    trial, folder = result.chosen.trial, file.parent.parent
    compared = "better" if before.final.val_metric > result.final.val_metric else "no worse"
    place = [] if folder == Path("runs") / result.study else ["--out", str(folder)]
    select = shlex.join(["python", "-m", "lrf_optuna", "select", result.study, "--trial", str(trial), *place])
    return (
        f"the {before.final_state} model that trial {trial} had before is {compared}, {metric_text(before)} "
        f"against {result.final.val_metric:.2%}: it is {file}; `{select}` makes it model.keras"
    )


def is_better(one: Result, other: Result) -> bool:
    """Whether the model of a result is the better one of two of the same point, by validation images.

    One that a fine-tune helped is better than one without. Of two of these that are equal, the first is the better one.
    """
    if one.chosen != other.chosen:
        return False
    if one.helped and other.helped:
        return one.final.val_metric >= other.final.val_metric
    ranks = ((each.helped, bool(each.tuned), each.final.val_metric) for each in (one, other))
    return next(ranks) > next(ranks)
