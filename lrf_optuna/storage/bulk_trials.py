"""Many trials at once through Optuna's own models, instead of two statements for every parameter.

`benchmarks/results/recording.md` says what that saves. `trials_of` checks the revision of the schema before anything
touches a table; `public_trials.py` serves every other revision.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.orm import Session

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.database import DELETED, Database
from lrf_optuna.storage.public_trials import Counts, PublicTrials, check_trials, fitting, whole

try:
    from optuna.storages._rdb import models
except ImportError:  # the models are private: a later Optuna may move them
    models = None  # type: ignore[assignment]

TESTED_REVISION = "v3.2.0.a"
"""The Alembic revision of the schema that tests compare `BulkTrials` with, row by row: that of Optuna 5.0."""

log = logging.getLogger(__name__)


def trials_of(database: Database, study: optuna.Study, key: str) -> BulkTrials | PublicTrials:
    """The trials of a study; the user attribute `key` marks its candidates."""
    revision = database.storage.get_current_version()
    study_id = database.storage.get_study_id_from_name(study.study_name)
    if models is not None and revision == TESTED_REVISION:
        return BulkTrials(database, study_id, key)
    message = "the database has Optuna's schema %s, but %s was tested: trials are recorded one by one, which is slower"
    log.warning(message + "; let the first process begin before you start others", revision, TESTED_REVISION)
    return PublicTrials(database, study, study_id, key)


class BulkTrials:
    """The trials of one study through Optuna's models; each method is one transaction."""

    def __init__(self, database: Database, study_id: int, key: str) -> None:
        self.database, self.study_id, self.key = database, study_id, key
        self.distributions: dict[str, BaseDistribution] = {}
        """Parameter -> its distribution in the first trial that has the parameter."""

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that holds the row of the study, as Optuna does when it numbers a trial."""
        with self.database.writing() as session:
            row = select(models.StudyModel.study_id).where(models.StudyModel.study_id == self.study_id)
            if session.scalar(row.with_for_update()) is None:
                raise LrfError(DELETED)
            yield session

    def append(self, trials: Sequence[FrozenTrial], most: int | None) -> list[int]:
        """Add the first trials, until the study has `most` candidates, and return their numbers."""
        with self.writing() as session:
            counts = self.count(session)
            fit = fitting(trials, self.key, counts.candidates, most)
            distributions = self.checked_distributions(session, fit)
            write_trials(session, self.study_id, counts.total, fit)
        self.distributions = distributions
        return list(range(counts.total, counts.total + len(fit)))

    def checked_distributions(self, session: Session, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """The first distribution of every parameter. Raises LrfError where Optuna would refuse a trial's beside it."""
        found = dict(self.distributions)
        for trial in trials:
            for name, distribution in trial.distributions.items():
                if name not in found:
                    found[name] = self.first_distribution(session, name) or distribution
                try:
                    if found[name] != distribution:
                        optuna.distributions.check_distribution_compatibility(found[name], distribution)
                except ValueError as error:
                    raise LrfError(
                        f"the study draws {name} from {found[name]}, and a trial comes with {distribution}: {error}"
                    ) from None
        return found

    def first_distribution(self, session: Session, name: str) -> BaseDistribution | None:
        """The distribution of a parameter in the study; None where no trial has the parameter."""
        query = select(models.TrialParamModel.distribution_json).join(models.TrialModel)
        found = query.where(models.TrialModel.study_id == self.study_id, models.TrialParamModel.param_name == name)
        text = session.scalar(found.limit(1))
        return None if text is None else json_to_distribution(text)

    def counts(self) -> Counts:
        """Count the trials."""
        with self.database.reading() as session:
            return self.count(session)

    def count(self, session: Session) -> Counts:
        """Count the trials within a transaction."""
        trial = models.TrialModel
        query = self.marked(trial.state, func.count(trial.trial_id), func.count(self.mark), every=True)
        found = {state: counts for state, *counts in session.execute(query.group_by(trial.state))}
        return Counts(sum(total for total, _ in found.values()), *found.get(TrialState.COMPLETE, (0, 0)))

    def marked(self, *columns: Any, every: bool = False) -> Select[Any]:
        """The query for columns of the study's trials with their marks, of `every` trial or of candidates only."""
        trial, query = models.TrialModel, select(*columns).select_from(models.TrialModel)
        for attribute, key in ((attribute_model(True), whole(self.key)), (attribute_model(False), self.key)):
            query = query.outerjoin(attribute, (attribute.trial_id == trial.trial_id) & (attribute.key == key))
        query = query.where(trial.study_id == self.study_id)
        return query if every else query.where(trial.state == TrialState.COMPLETE, self.mark.is_not(None))

    @property
    def mark(self) -> Any:
        """The column with the whole mark of a trial in `marked`."""
        return func.coalesce(attribute_model(True).value_json, attribute_model(False).value_json)

    def marks(self, since: int, before: int | None) -> list[tuple[int, Any, Sequence[float]]]:
        """Number, marking attribute and values of the candidates in a range of numbers."""
        trial, value = models.TrialModel, models.TrialValueModel
        limits = [trial.number >= since] if before is None else [trial.number >= since, trial.number < before]
        marks = self.marked(trial.number, self.mark).order_by(trial.number)
        costs = self.marked(trial.number, value.value, value.value_type).join(value, value.trial_id == trial.trial_id)
        values = defaultdict[int, list[float]](list)
        with self.database.reading() as session:
            rows = session.execute(marks.where(*limits)).all()  # first, because other processes add trials meanwhile
            for number, stored, kind in session.execute(costs.where(*limits).order_by(value.objective)):
                values[number].append(value.stored_repr_to_value(stored, kind))
        return [(number, json.loads(text), values[number]) for number, text in rows]

    def change(self, key: str, new: Callable[[Any], Any]) -> Any:
        """Replace a user attribute of the study."""
        model = models.StudyUserAttributeModel
        with self.writing() as session:
            row = session.scalar(select(model).where(model.study_id == self.study_id, model.key == key))
            value = new(None if row is None else json.loads(row.value_json))
            if row is None:
                session.add(model(study_id=self.study_id, key=key, value_json=json.dumps(value)))
            else:
                row.value_json = json.dumps(value)
        return value

    def attributes(self, keys: Collection[str], system: bool = False) -> dict[int, dict[str, Any]]:
        """Number -> key -> value of the user (or system) attributes that trials have under some keys."""
        trial, mark = models.TrialModel, attribute_model(system)
        query = select(trial.number, mark.key, mark.value_json).join_from(trial, mark, mark.trial_id == trial.trial_id)
        wanted = trial.study_id == self.study_id, mark.key.in_(keys)
        found = defaultdict[int, dict[str, Any]](dict)
        with self.database.reading() as session:
            for number, key, text in session.execute(query.where(*wanted).order_by(trial.number, mark.key)):
                found[number][key] = json.loads(text)
        return dict(found)

    def set_attributes(self, new: Mapping[int, Mapping[str, Any]], system: bool = False) -> None:
        """Set user (or system) attributes, number -> key -> value, also of finished trials, in one transaction.

        Optuna's own calls refuse finished trials. Raises LrfError for a number that the study lacks.
        """
        if not new:
            return
        trial, mark = models.TrialModel, attribute_model(system)
        numbered = select(trial.number, trial.trial_id).where(trial.study_id == self.study_id, trial.number.in_(new))
        with self.writing() as session:
            ids = {number: trial_id for number, trial_id in session.execute(numbered)}  # noqa: C416
            check_trials(new, ids)
            rows = session.scalars(select(mark).where(mark.trial_id.in_(ids.values())))
            before = {(row.trial_id, row.key): row for row in rows}
            for trial_id, key, value in ((ids[n], key, value) for n, own in new.items() for key, value in own.items()):
                if (trial_id, key) in before:
                    before[trial_id, key].value_json = json.dumps(value)
                else:
                    session.add(mark(trial_id=trial_id, key=key, value_json=json.dumps(value)))

    def remove_attributes(self, keys: Collection[str], system: bool = False) -> None:
        """Remove the user (or system) attributes under some keys from all trials."""
        trial, mark = models.TrialModel, attribute_model(system)
        own = select(trial.trial_id).where(trial.study_id == self.study_id)
        with self.writing() as session:
            session.execute(delete(mark).where(mark.trial_id.in_(own), mark.key.in_(keys)))


def attribute_model(system: bool) -> Any:
    """Optuna's model of the user attributes of trials, or of the system attributes, which no dashboard shows."""
    return models.TrialSystemAttributeModel if system else models.TrialUserAttributeModel


def write_trials(session: Session, study_id: int, number: int, trials: Sequence[FrozenTrial]) -> None:
    """Insert trials with the numbers from `number` on: their own rows, then the rows of their parts."""
    heads = []
    for place, trial in enumerate(trials, number):
        head = models.TrialModel(number=place, study_id=study_id, state=trial.state)
        head.datetime_start, head.datetime_complete = trial.datetime_start, trial.datetime_complete
        heads.append(head)
    session.add_all(heads)
    session.flush()  # now the heads have their ids
    rows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for head, trial in zip(heads, trials, strict=True):
        for model, fields in trial_rows(trial):
            rows[model].append({"trial_id": head.trial_id, **fields})
    for model, found in rows.items():
        session.execute(insert(model), found)


def trial_rows(trial: FrozenTrial) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Model and fields for every parameter, value, intermediate value and attribute of a trial."""
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        number, text = distribution.to_internal_repr(value), distribution_to_json(distribution)
        yield models.TrialParamModel, {"param_name": name, "param_value": number, "distribution_json": text}
    for objective, value in enumerate(trial.values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        yield models.TrialValueModel, {"objective": objective, "value": stored, "value_type": kind}
    for step, value in trial.intermediate_values.items():
        model = models.TrialIntermediateValueModel
        stored, step_kind = model.intermediate_value_to_stored_repr(value)
        yield model, {"step": step, "intermediate_value": stored, "intermediate_value_type": step_kind}
    for key, value in trial.user_attrs.items():
        yield models.TrialUserAttributeModel, {"key": key, "value_json": json.dumps(value)}
    for key, value in trial.system_attrs.items():
        yield models.TrialSystemAttributeModel, {"key": key, "value_json": json.dumps(value)}
