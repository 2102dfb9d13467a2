"""Trials by Optuna's own calls: what `rows.py` does, slower, for a schema that a newer Optuna made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, orm

from lrf_optuna.storage.bulk import lock
from lrf_optuna.storage.database import Database, plain_errors


class Calls:
    """The trials of one study."""

    def __init__(self, database: Database, study: int) -> None:
        self.database, self.study = database, study

    @cached_property
    def cache(self) -> optuna.Study:
        """The study through Optuna's cache, which reads a trial once."""
        name = self.database.storage.get_study_name_from_id(self.study)
        return optuna.load_study(study_name=name, storage=self.database.storage)

    def read(self) -> list[FrozenTrial]:
        """Every trial, in their order."""
        with plain_errors(self.database.url):
            self.database.check_file()
            return self.cache.get_trials(deepcopy=False)

    def append(self, trials: Sequence[FrozenTrial], most: int | None = None) -> list[int]:
        """Add the first trials, until `most` are complete, in one transaction; their numbers. See `Record.append`."""
        with self.database.writing() as connection:
            lock(connection, self.study)
            total, complete = self.counts()
            taken = trials if most is None else trials[: max(0, most - complete)]
            with self.inside(connection) as storage:
                for trial in taken:
                    storage.create_new_trial(self.study, template_trial=trial)
        return list(range(total, total + len(taken)))

    @contextmanager
    def inside(self, connection: Connection) -> Iterator[optuna.storages.RDBStorage]:
        """A storage whose every commit is a part of the connection's transaction."""
        kept = self.database.storage
        storage = optuna.storages.RDBStorage(
            kept.url, kept.engine_kwargs, skip_compatibility_check=True, skip_table_creation=True
        )
        sessions = orm.sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
        storage.scoped_session = orm.scoped_session(sessions)
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def counts(self) -> tuple[int, int]:
        """How many trials there are, and how many of them are complete."""
        trials = self.read()
        return len(trials), sum(trial.state == TrialState.COMPLETE for trial in trials)

    def since(self, number: int, before: int | None = None) -> list[FrozenTrial]:
        """The complete trials from this number on, in their order."""
        return [trial for trial in self.read()[number:before] if trial.state == TrialState.COMPLETE]

    def costs(self, key: str) -> list[tuple[int, Any, list[float]]]:
        """Of every complete trial its number, the user attribute `key` (None without one) and its values."""
        return [(trial.number, trial.user_attrs.get(key), trial.values) for trial in self.since(0)]
