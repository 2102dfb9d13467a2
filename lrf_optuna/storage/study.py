"""A study in a database, in Optuna's own schema: opened, resumed or refused; finished trials go in by batches.

A trial gets its number when it is recorded. A search runs on a study in memory and hands over trials that are
finished; any number of processes append to one study, and read what others have appended. So none of them holds a
place there that it could leave half filled: a process that is killed leaves whole trials only, and
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
from sqlalchemy import insert, select, update

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.storage.bulk import Rows, lock
from lrf_optuna.storage.calls import Calls
from lrf_optuna.storage.database import Database, plain_errors, sqlite_file
from lrf_optuna.storage.schema import SCHEMA, STUDY_USER

log = logging.getLogger(__name__)

QUESTION = "lrf:question"
SPEC = "lrf:spec"
PLAN = "plan"
PROCESSES, SPACE = "lrf:processes", "lrf:space"


class StudyStore:
    """A study in a database that takes finished trials."""

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.url = database, database.url
        with plain_errors(self.url):
            self.study = optuna.load_study(
                study_name=name, storage=database.storage, sampler=optuna.samplers.NSGAIISampler()
            )
            known = database.storage.get_current_version() == SCHEMA
            self.trials = (Rows if known else Calls)(database, database.storage.get_study_id_from_name(name))

    @classmethod
    def open(
        cls, url: str, name: str, *, objectives: Sequence[str], question: Mapping[str, str], spec: str = "{}"
    ) -> StudyStore:
        """The study `name` at `url`, new or resumed.

        `question` says what the study is about, one digest a word (model, data, space ...). Raises LrfError where a
        study of this name is about something else, or where the database cannot be used.
        """
        database = Database(url)
        with plain_errors(url):
            if name not in optuna.study.get_all_study_names(database.storage):
                with suppress(optuna.exceptions.DuplicatedStudyError):  # another process was as quick
                    directions = [optuna.study.StudyDirection.MINIMIZE] * len(objectives)
                    database.storage.create_new_study(directions, name)
            record = cls(database, name)
            record.check_question(question)
            study = record.study
            if len(study.directions) != len(objectives):
                raise LrfError(f"the study {name!r} in this database was not made by lrf_optuna: give another --name")
            log.info("study %s with %d trials: %s", name, record.count(), json.dumps(dict(question)))
            if QUESTION not in study.user_attrs:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(list(objectives))
                study.set_user_attr(QUESTION, dict(question))
                record.check_question(question)
            study.set_user_attr(SPEC, spec)
        return record

    @classmethod
    def check(cls, url: str, name: str, question: Mapping[str, str]) -> None:
        """Refuse, where a study of this name is there and is about something else, as far as these words say."""
        path = sqlite_file(url)
        if path is not None and not path.exists():
            return
        database = Database(url)
        with plain_errors(url):
            if name in optuna.study.get_all_study_names(database.storage):
                record = cls(database, name)
                record.check_question({**record.study.user_attrs.get(QUESTION, question), **question})

    @classmethod
    def read(cls, url: str, name: str | None = None) -> StudyStore:
        """An existing study, the only one where no name is given. Raises LrfError, and creates nothing, without one."""
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

    def check_question(self, question: Mapping[str, str]) -> None:
        """Refuse a study about something else; one without a trial or a question was stopped in the making."""
        asked = self.study.user_attrs.get(QUESTION)
        if asked is None and not self.trials.counts()[0]:
            return
        if asked is None:
            raise LrfError(f"the study {self.name!r} in this database was not made by lrf_optuna: give another --name")
        other = sorted(word for word in {*asked, *question} if asked.get(word) != question.get(word))
        if other:
            raise LrfError(
                f"the study {self.name!r} has {self.count()} trials with another {' and another '.join(other)}: "
                "give another --name, or delete the study to start again"
            )

    def append(self, trials: Sequence[FrozenTrial], most: int | None = None) -> list[int]:
        """Record finished trials, in one transaction; the numbers that they got.

        With `most`, only so many that the study has `most` complete trials, whoever recorded them: what does not fit
        is left out at the end. Either all that fit are recorded or, where an LrfError or any other exception comes
        out, none of them.
        """
        return self.trials.append(trials, most)

    def change(self, key: str, new: Callable[[Any], Any]) -> Any:
        """Put `new(old)` in the place of a user attribute of the study (None where there is none), and give it.

        In one transaction, so that processes can agree on something, or take turns.
        """
        here = (STUDY_USER.c.study_id == self.trials.study) & (STUDY_USER.c.key == key)
        with self.database.writing() as connection:
            lock(connection, self.trials.study)
            old = connection.execute(select(STUDY_USER.c.value_json).where(here)).scalar()
            value = new(None if old is None else json.loads(old))
            if old is None:
                row = {"study_id": self.trials.study, "key": key, "value_json": json.dumps(value)}
                connection.execute(insert(STUDY_USER), [row])
            else:
                connection.execute(update(STUDY_USER).where(here).values(value_json=json.dumps(value)))
        return value

    def join(self) -> int:
        """How many processes have searched in this study before this one."""
        count: int = self.change(PROCESSES, lambda before: (before or 0) + 1)
        return count - 1

    def agree(self, space: dict[str, list[str]]) -> dict[str, list[str]]:
        """What trials draw from: that of the process which came first."""
        agreed: dict[str, list[str]] = self.change(SPACE, lambda before: before or space)
        return agreed

    def count(self) -> int:
        """How many complete trials there are."""
        return self.trials.counts()[1]

    def since(self, number: int, before: int | None = None) -> list[FrozenTrial]:
        """The complete trials whose numbers are `number` or more (and less than `before`), in their order."""
        return self.trials.since(number, before)

    def finished(self) -> list[FrozenTrial]:
        """The complete trials, in their order."""
        return self.since(0)

    def candidates(self) -> list[Candidate]:
        """The complete trials as plans and costs; nothing else of them is read."""
        objectives = self.objectives
        return [candidate(*found, objectives) for found in self.trials.costs(PLAN)]


def candidate_of(trial: FrozenTrial, objectives: Sequence[str]) -> Candidate:
    """A finished trial as a plan with its costs."""
    return candidate(trial.number, trial.user_attrs.get(PLAN), trial.values, objectives)


def candidate(number: int, plan: str | None, values: Sequence[float], objectives: Sequence[str]) -> Candidate:
    """A plan with its costs. Raises LrfError for a trial without a plan."""
    if plan is None:
        raise LrfError(
            f"trial {number} of the study has no plan: it was not made by lrf_optuna; delete it or give another --name"
        )
    return Candidate(number, Plan.from_json(plan), dict(zip(objectives, values, strict=True)))
