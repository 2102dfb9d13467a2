"""The trials of a study through Optuna's public calls, for a schema whose tables `bulk.py` was not tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.database import Database, plain_errors

DELETED = "the study was deleted from the database while it was in use: run the same command again"


class Counts(NamedTuple):
    """How many trials a study has: in all, complete ones, and candidates (complete ones with a plan)."""

    total: int
    complete: int
    candidates: int


def fitting(trials: Sequence[FrozenTrial], key: str, room: int | None) -> Sequence[FrozenTrial]:
    """The first trials, until they have `room` candidates."""
    end = 0
    for trial in trials:
        if room is not None and room <= 0:
            break
        end += 1
        room = None if room is None else room - is_candidate(trial, key)
    return trials[:end]


def is_candidate(trial: FrozenTrial, key: str) -> bool:
    """Whether a trial is complete and has the attribute that marks candidates."""
    return trial.state == TrialState.COMPLETE and key in trial.user_attrs


class PublicTrials:
    """The trials of one study through public calls; the methods are those of `BulkTrials`.

    Each call of Optuna is a transaction of its own: where processes race, the study may get more trials than `most`.
    """

    def __init__(self, database: Database, study: optuna.Study, study_id: int, key: str) -> None:
        self.database, self.study, self.study_id, self.key = database, study, study_id, key

    @contextmanager
    def storage(self) -> Iterator[optuna.storages.RDBStorage]:
        """Optuna's storage; its errors are one line."""
        with plain_errors(self.database.url):
            self.database.check_file()
            try:
                yield self.database.storage
            except KeyError:
                raise LrfError(DELETED) from None

    def append(self, trials: Sequence[FrozenTrial], most: int | None) -> list[int]:
        """Add trials and return their numbers."""
        fit = fitting(trials, self.key, None if most is None else most - self.counts().candidates)
        with self.storage() as storage:
            ids = [storage.create_new_trial(self.study_id, template_trial=trial) for trial in fit]
            return [storage.get_trial_number_from_id(trial_id) for trial_id in ids]

    def read(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        with self.storage():
            return self.study.get_trials(deepcopy=False)

    def counts(self) -> Counts:
        """Count the trials."""
        trials = self.read()
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return Counts(len(trials), len(complete), sum(is_candidate(trial, self.key) for trial in complete))

    def since(self, number: int, before: int | None) -> list[FrozenTrial]:
        """The candidates of a range of numbers."""
        return [trial for trial in self.read()[number:before] if is_candidate(trial, self.key)]

    def marks(self) -> list[tuple[int, Any, Sequence[float]]]:
        """Number, marking attribute and values of every candidate."""
        return [(trial.number, trial.user_attrs[self.key], trial.values) for trial in self.since(0, None)]

    def change(self, key: str, new: Callable[[Any], Any]) -> Any:
        """Replace a user attribute of the study."""
        with self.storage() as storage:
            value = new(storage.get_study_user_attrs(self.study_id).get(key))
            storage.set_study_user_attr(self.study_id, key, value)
        return value
