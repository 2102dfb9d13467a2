"""The trials of a study through Optuna's public calls, for a schema that `bulk_trials.py` was not tested with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.database import Database

ATTRIBUTES = "lrf:attributes"
"""The study's user attribute with attributes of finished trials, which public calls cannot set at the trials."""


class Counts(NamedTuple):
    """How many trials a study has: in all, complete ones, and candidates (complete ones with a plan)."""

    total: int
    complete: int
    candidates: int


def fitting(trials: Sequence[FrozenTrial], key: str, candidates: int, most: int | None) -> Sequence[FrozenTrial]:
    """The first trials, until a study of some candidates has `most`."""
    if most is None:
        return trials
    counts = accumulate((is_candidate(trial, key) for trial in trials), initial=candidates)
    return [trial for trial, before in zip(trials, counts, strict=False) if before < most]


def is_candidate(trial: FrozenTrial, key: str) -> bool:
    """Whether a trial is complete and has the attribute that marks candidates."""
    return trial.state == TrialState.COMPLETE and mark_of(trial, key) is not None


def mark_of(trial: FrozenTrial, key: str) -> Any:
    """The whole mark of a trial: its system attribute, else its user attribute; None where it has neither."""
    return trial.system_attrs.get(whole(key), trial.user_attrs.get(key))


def whole(key: str) -> str:
    """The system attribute with the whole of what the user attribute `key` has in short.

    Studies of earlier versions have the whole in the user attribute, which makes pages of dashboards very wide.
    """
    return f"lrf:{key}"


def check_trials(wanted: Iterable[int], found: Container[int]) -> None:
    """Raises LrfError where a wanted trial is not among those found."""
    missing = [number for number in wanted if number not in found]
    if missing:
        raise LrfError(f"the study has no trial {missing[0]}: see its trials with front")


class PublicTrials:
    """The trials of one study through public calls; the methods are those of `BulkTrials`.

    Each call of Optuna is a transaction of its own: where processes race, the study may get more trials than `most`.
    """

    def __init__(self, database: Database, study: optuna.Study, study_id: int, key: str) -> None:
        self.database, self.study, self.study_id, self.key = database, study, study_id, key

    def append(self, trials: Sequence[FrozenTrial], most: int | None) -> list[int]:
        """Add trials and return their numbers."""
        fit = fitting(trials, self.key, self.counts().candidates, most)
        with self.database.calling() as storage:
            ids = [storage.create_new_trial(self.study_id, template_trial=trial) for trial in fit]
            return [storage.get_trial_number_from_id(trial_id) for trial_id in ids]

    def read(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        with self.database.calling():
            return self.study.get_trials(deepcopy=False)

    def counts(self) -> Counts:
        """Count the trials."""
        trials = self.read()
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return Counts(len(trials), len(complete), sum(is_candidate(trial, self.key) for trial in complete))

    def marks(self, since: int, before: int | None) -> list[tuple[int, Any, Sequence[float]]]:
        """Number, marking attribute and values of the candidates in a range of numbers."""
        candidates = (trial for trial in self.read()[since:before] if is_candidate(trial, self.key))
        return [(trial.number, mark_of(trial, self.key), trial.values) for trial in candidates]

    def change(self, key: str, new: Callable[[Any], Any]) -> Any:
        """Replace a user attribute of the study."""
        with self.database.calling() as storage:
            value = new(storage.get_study_user_attrs(self.study_id).get(key))
            storage.set_study_user_attr(self.study_id, key, value)
        return value

    def attributes(self, keys: Collection[str], system: bool = False) -> dict[int, dict[str, Any]]:
        """Number -> key -> value of the attributes that trials have under some keys; no system ones are kept."""
        if system:
            return {}
        with self.database.calling() as storage:
            kept = storage.get_study_user_attrs(self.study_id).get(ATTRIBUTES, {})
        each = {trial.number: {**trial.user_attrs, **kept.get(str(trial.number), {})} for trial in self.read()}
        found = {number: {key: own[key] for key in sorted(keys) if key in own} for number, own in each.items()}
        return {number: own for number, own in found.items() if own}

    def set_attributes(self, new: Mapping[int, Mapping[str, Any]], system: bool = False) -> None:
        """Set user attributes, number -> key -> value, in an attribute of the study; no system ones are kept."""
        check_trials(new, range(self.counts().total))

        def merged(kept: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
            before = kept or {}
            return {**before, **{str(number): {**before.get(str(number), {}), **own} for number, own in new.items()}}

        if new and not system:
            self.change(ATTRIBUTES, merged)

    def remove_attributes(self, keys: Collection[str], system: bool = False) -> None:
        """Remove what `set_attributes` has set under some keys."""

        def left(kept: dict[str, dict[str, Any]] | None) -> dict[str, dict[str, Any]]:
            return {n: {key: own[key] for key in own if key not in keys} for n, own in (kept or {}).items()}

        if not system:
            self.change(ATTRIBUTES, left)
