"""A study in a database, in Optuna's own schema: opened, resumed or refused; finished trials are added in batches.

A search runs on a study in memory and records trials that are finished, and a trial gets its number when it is
recorded. So a killed process leaves whole trials only, any number of processes add to one study, and
`optuna-dashboard` or any Optuna script reads the database.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.storage.bulk import trials_of
from lrf_optuna.storage.database import Database, plain_errors, quiet_optuna, sqlite_file

log = logging.getLogger(__name__)

IDENTITY = "lrf:question"
"""The study's user attribute with its identity. The key is older than the name, so that older studies still open."""
SPEC = "lrf:spec"
"""The study's user attribute with its specification."""
PLAN = "plan"
"""The trial's user attribute with its plan, as JSON. Complete trials without it are not candidates."""
PROCESSES = "lrf:processes"
"""The study's user attribute with the number of processes that have searched in it."""


class StudyStore:
    """A study in a database that takes finished trials.

    Only candidates count, which are complete trials with a plan. Pruned, failed, running and enqueued trials, and the
    trials of other programs, keep their numbers and are left alone.
    """

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.url, self.warned = database, database.url, False
        sampler = optuna.samplers.NSGAIISampler()
        with plain_errors(self.url):
            self.study = optuna.load_study(study_name=name, storage=database.storage, sampler=sampler)
            self.trials = trials_of(database, self.study, PLAN)

    @classmethod
    def open(
        cls, url: str, name: str, *, objectives: Sequence[str], identity: Mapping[str, str], spec: str = "{}"
    ) -> StudyStore:
        """The study `name` at `url`, new or resumed.

        `identity` has a digest for each of the model, the data, the space and more. Raises LrfError where the study
        of this name has another identity, and where the database cannot be used.
        """
        database = Database(url)
        with plain_errors(url), quiet_optuna():
            if name not in optuna.study.get_all_study_names(database.storage):
                with suppress(optuna.exceptions.DuplicatedStudyError):  # another process created it just now
                    directions = [optuna.study.StudyDirection.MINIMIZE] * len(objectives)
                    database.storage.create_new_study(directions, name)
            store = cls(database, name)
            if len(store.study.directions) != len(objectives):
                raise store.foreign()
            store.claim(identity)
            if not store.objectives:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    store.study.set_metric_names(list(objectives))
            store.study.set_user_attr(SPEC, spec)
        log.info("study %s with %d trials: %s", name, store.count(), json.dumps(dict(identity)))
        return store

    @classmethod
    def check(cls, url: str, name: str, identity: Mapping[str, str]) -> None:
        """Raise LrfError where the study `name` exists with another identity; `identity` may be a part of it."""
        path = sqlite_file(url)
        if path is not None and not path.exists():
            return
        database = Database(url)
        with plain_errors(url):
            if name in optuna.study.get_all_study_names(database.storage):
                store = cls(database, name)
                stored = store.study.user_attrs.get(IDENTITY)
                store.check_identity({**(stored or {}), **identity}, stored)

    @classmethod
    def read(cls, url: str, name: str | None = None) -> StudyStore:
        """An existing study, by default the only one at `url`. Raises LrfError, and creates nothing, without one."""
        path = sqlite_file(url)
        if path is not None and not path.exists():
            raise LrfError(
                f"no study {name or ''} here: there is no file {path}; run it first, or give --out or --storage"
            )
        database = Database(url)
        with plain_errors(url):
            names = optuna.study.get_all_study_names(database.storage)
        name = names[0] if name is None and len(names) == 1 else name
        if name is None or name not in names:
            raise LrfError(f"no study {name or 'of one name'} in {url}; there is: {', '.join(names) or 'none'}")
        return cls(database, name)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study_name

    @property
    def spec(self) -> str:
        """The study's specification, as the JSON it was opened with."""
        return str(self.study.user_attrs.get(SPEC, "{}"))

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the costs, in the order of a trial's values."""
        return tuple(self.study.metric_names or ())

    def foreign(self) -> LrfError:
        """The error for a study of another program."""
        return LrfError(f"the study {self.name!r} in this database was not made by lrf_optuna: give another --name")

    def claim(self, identity: Mapping[str, str]) -> None:
        """Set the identity of a new study or check that of an old one, in one transaction.

        Of two processes that begin with different identities, the second is refused.
        """

        def checked(stored: Any) -> Any:
            self.check_identity(identity, stored)
            return dict(identity)

        self.change(IDENTITY, checked)

    def check_identity(self, identity: Mapping[str, str], stored: Mapping[str, str] | None) -> None:
        """Raise LrfError where the stored identity is another one, and where a study without any has trials."""
        if stored is None:
            if self.trials.counts().total:
                raise self.foreign()
            return
        other = sorted(part for part in {*stored, *identity} if stored.get(part) != identity.get(part))
        if other:
            raise LrfError(
                f"the study {self.name!r} has {self.count()} trials with another {' and another '.join(other)}: "
                f"give another --name, or start again after `optuna delete-study --study-name {self.name}`"
            )

    def append(self, trials: Sequence[FrozenTrial], most: int | None = None) -> list[int]:
        """Record finished trials in one transaction, and return their numbers.

        With `most`, trials at the end are left out as soon as the study has `most` candidates of all processes. After
        an exception none is recorded.
        """
        return self.trials.append(trials, most)

    def change(self, key: str, new: Callable[[Any], Any]) -> Any:
        """Replace a user attribute of the study by `new(old)`, in one transaction, and return the new value.

        `old` is None where there is no such attribute. An exception of `new` leaves the attribute as it was.
        """
        return self.trials.change(key, new)

    def join(self) -> int:
        """How many processes have searched in this study before this one."""
        count: int = self.change(PROCESSES, lambda before: (before or 0) + 1)
        return count - 1

    def count(self) -> int:
        """How many candidates the study has."""
        return self.trials.counts().candidates

    def since(self, number: int, before: int | None = None) -> list[FrozenTrial]:
        """The trials of candidates with `number` or a higher number (and a lower one than `before`), in order."""
        return self.trials.since(number, before)

    def finished(self) -> list[FrozenTrial]:
        """The trials of all candidates, in order."""
        return self.since(0)

    def candidates(self) -> list[Candidate]:
        """All candidates, in order. Logs one warning where complete trials have no plan."""
        counts, objectives = self.trials.counts(), self.objectives
        if counts.complete > counts.candidates and not self.warned:
            self.warned = True
            log.warning(
                "%d trials of the study %s were not made by lrf_optuna and are ignored: they have no plan",
                counts.complete - counts.candidates,
                self.name,
            )
        return [candidate(*found, objectives) for found in self.trials.marks()]


def candidate_of(trial: FrozenTrial, objectives: Sequence[str]) -> Candidate:
    """The candidate of a trial that has a plan."""
    return candidate(trial.number, trial.user_attrs[PLAN], trial.values, objectives)


def candidate(number: int, plan: str, values: Sequence[float], objectives: Sequence[str]) -> Candidate:
    """A plan, as JSON, with its costs."""
    return Candidate(number, Plan.from_json(plan), dict(zip(objectives, values, strict=True)))
