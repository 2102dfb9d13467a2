"""A study on disk, in Optuna's own schema: opened, resumed or refused; one transaction for each finished trial.

The search runs on a study in memory and hands over trials that are finished, so a process that is killed leaves
whole trials only, and `optuna-dashboard` or any Optuna script reads the file.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lrf_optuna.errors import LrfError
from lrf_optuna.plan import Candidate, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)

QUESTION = "lrf:question"
SPEC = "lrf:spec"
PLAN = "plan"
LOCK_SECONDS = 30


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for other databases. Raises LrfError for what is no database URL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LrfError(f"not a database URL: {url!r}; for example sqlite:///runs/my/study.db") from None
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Errors of the database as one line."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error, OSError) as reason:
        cause = reason.__cause__ or reason
        shown = make_url(url).render_as_string(hide_password=True)
        raise LrfError(f"the database {shown} cannot be used: {str(cause).splitlines()[0]}") from reason
    except ImportError as reason:
        missing = getattr(reason.__cause__ or reason, "name", None)
        raise LrfError(f"the database {url.split('://')[0]} needs the package {missing!r}: pip install it") from None


def connect(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at `url`; an SQLite file is in WAL mode, so that readers never block the search."""
    with plain_errors(url):
        path = sqlite_file(url)
        if path is None:
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})
        event.listen(storage.engine, "connect", relaxed_sync)
        storage.engine.dispose()
        return storage


def relaxed_sync(connection: Any, _record: Any) -> None:
    """In WAL mode a commit survives the death of the process without waiting for the disk."""
    connection.execute("PRAGMA synchronous=NORMAL")


class Record:
    """A study on disk that takes finished trials."""

    def __init__(self, study: optuna.Study, url: str) -> None:
        self.study, self.url = study, url

    @classmethod
    def open(
        cls, url: str, name: str, *, objectives: Sequence[str], question: Mapping[str, str], spec: str = "{}"
    ) -> Record:
        """The study `name` at `url`, new or resumed.

        `question` says what the study is about, one digest a word (model, data, space ...). Raises LrfError where a
        study of this name is about something else, or where the database cannot be used.
        """
        storage = connect(url)
        with plain_errors(url):
            names = optuna.study.get_all_study_names(storage)
            if name in names:
                study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.NSGAIISampler())
                check_question(study, question)
            else:
                study = optuna.create_study(study_name=name, storage=storage, directions=["minimize"] * len(objectives))
            if len(study.directions) != len(objectives):
                raise LrfError(f"the study {name!r} in this database was not made by lrf_optuna: give another --name")
            log.info("study %s with %d trials: %s", name, len(study.trials), json.dumps(dict(question)))
            if QUESTION not in study.user_attrs:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(list(objectives))
                study.set_user_attr(QUESTION, dict(question))
            study.set_user_attr(SPEC, spec)
        return cls(study, url)

    @classmethod
    def check(cls, url: str, name: str, question: Mapping[str, str]) -> None:
        """Refuse, where a study of this name is there and is about something else, as far as these words say."""
        path = sqlite_file(url)
        if path is not None and not path.exists():
            return
        storage = connect(url)
        with plain_errors(url):
            if name in optuna.study.get_all_study_names(storage):
                study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.NSGAIISampler())
                check_question(study, {**study.user_attrs.get(QUESTION, question), **question})

    @classmethod
    def read(cls, url: str, name: str | None = None) -> Record:
        """An existing study, the only one where no name is given. Raises LrfError, and creates nothing, without one."""
        path = sqlite_file(url)
        if path is not None and not path.exists():
            raise LrfError(
                f"no study {name or ''} here: there is no file {path}; run it first, or give --out or --storage"
            )
        storage = connect(url)
        with plain_errors(url):
            names = optuna.study.get_all_study_names(storage)
            name = names[0] if name is None and len(names) == 1 else name
            if name is None or name not in names:
                raise LrfError(f"no study {name or 'of one name'} in {url}; there is: {', '.join(names) or 'none'}")
            return cls(
                optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.NSGAIISampler()), url
            )

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

    def finished(self) -> list[optuna.trial.FrozenTrial]:
        """The complete trials, in their order."""
        with plain_errors(self.url):
            return self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))

    def add(self, trial: optuna.trial.FrozenTrial) -> None:
        """Record a finished trial, in one transaction."""
        with plain_errors(self.url):
            self.study.add_trial(trial)

    def candidates(self) -> list[Candidate]:
        """The complete trials as plans and costs."""
        return [candidate_of(trial, self.objectives) for trial in self.finished()]


def candidate_of(trial: optuna.trial.FrozenTrial, objectives: Sequence[str]) -> Candidate:
    """A finished trial as a plan with its costs."""
    costs = dict(zip(objectives, trial.values, strict=True))
    return Candidate(trial.number, Plan.from_json(trial.user_attrs[PLAN]), costs)


def check_question(study: optuna.Study, question: Mapping[str, str]) -> None:
    """Refuse a study that is about something else; one without a trial or a question was stopped in the making."""
    asked = study.user_attrs.get(QUESTION)
    if asked is None and not study.trials:
        return
    if asked is None:
        raise LrfError(
            f"the study {study.study_name!r} in this database was not made by lrf_optuna: give another --name"
        )
    other = sorted(word for word in {*asked, *question} if asked.get(word) != question.get(word))
    if other:
        words = " and another ".join(other)
        raise LrfError(
            f"the study {study.study_name!r} has {len(study.trials)} trials with another {words}: "
            "give another --name, or delete the study to start again"
        )
