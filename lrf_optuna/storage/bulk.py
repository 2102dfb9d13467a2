"""Trials as rows of Optuna's schema: written many at a time, read by a query a table instead of one a trial.

Optuna itself adds a trial in a statement or two for every parameter. A database of another schema than `schema.py`
has is left to Optuna's own calls (`calls.py`).
"""

from __future__ import annotations

import datetime
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from sys import intern
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Select, func, insert, select

from lrf_optuna.errors import LrfError
from lrf_optuna.storage.database import Database
from lrf_optuna.storage.schema import PARAMS, STEPS, STUDIES, SYSTEM, TRIALS, USER, VALUES

Row = dict[str, Any]
SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


class Rows:
    """The trials of one study."""

    def __init__(self, database: Database, study: int) -> None:
        self.database, self.study = database, study
        self.ranges: dict[str, str] = {}

    def append(self, trials: Sequence[FrozenTrial], most: int | None = None) -> list[int]:
        """Add the first trials, until `most` are complete, in one transaction; their numbers. See `Record.append`."""
        with self.database.writing() as connection:
            lock(connection, self.study)
            total, complete = counts(connection, self.study)
            taken = trials if most is None else trials[: max(0, most - complete)]
            numbers, fresh = list(range(total, total + len(taken))), {}
            if taken:
                ids = insert_trials(connection, self.study, numbers, taken)
                fresh = insert_params(connection, self.study, ids, taken, self.ranges)
                insert_values(connection, ids, taken)
                insert_attributes(connection, ids, taken)
        self.ranges |= fresh
        return numbers

    def counts(self) -> tuple[int, int]:
        """How many trials there are, and how many of them are complete."""
        with self.database.reading() as connection:
            return counts(connection, self.study)

    def since(self, number: int, before: int | None = None) -> list[FrozenTrial]:
        """The complete trials from this number on, in their order."""
        with self.database.reading() as connection:
            return list(read_trials(connection, complete(self.study, number, before)))

    def costs(self, key: str) -> list[tuple[int, Any, list[float]]]:
        """Of every complete trial its number, the user attribute `key` (None without one) and its values."""
        with self.database.reading() as connection:
            asked = complete(self.study, 0, None).subquery()
            numbers = pairs(connection, select(asked.c.trial_id, asked.c.number))
            texts = select(USER.c.trial_id, USER.c.value_json).join(asked, asked.c.trial_id == USER.c.trial_id)
            found = pairs(connection, texts.where(USER.c.key == key))
            values = read_values(connection, asked)
        ids = sorted(numbers, key=numbers.__getitem__)
        return [(numbers[i], json.loads(found[i]) if i in found else None, values[i]) for i in ids]


def lock(connection: Connection, study: int) -> None:
    """Hold the study's row until the transaction ends, as Optuna does when it makes a trial."""
    held = select(STUDIES.c.study_id).where(STUDIES.c.study_id == study).with_for_update()
    if connection.execute(held).first() is None:
        raise LrfError("the study was deleted from the database while it was in use: run the same command again")


def counts(connection: Connection, study: int) -> tuple[int, int]:
    """How many trials there are, and how many of them are complete."""
    asked = select(TRIALS.c.state, func.count()).where(TRIALS.c.study_id == study).group_by(TRIALS.c.state)
    found = pairs(connection, asked)
    return sum(found.values()), found.get(TrialState.COMPLETE, 0)


def insert_trials(
    connection: Connection, study: int, numbers: Sequence[int], trials: Sequence[FrozenTrial]
) -> list[int]:
    """Insert the trials themselves; their ids."""
    rows = [
        {
            "number": number,
            "study_id": study,
            "state": trial.state,
            "datetime_start": utc(trial.datetime_start),
            "datetime_complete": utc(trial.datetime_complete),
        }
        for number, trial in zip(numbers, trials, strict=True)
    ]
    connection.execute(insert(TRIALS), rows)
    last = select(TRIALS.c.number, TRIALS.c.trial_id).where(TRIALS.c.study_id == study)
    ids = pairs(connection, last.order_by(TRIALS.c.trial_id.desc()).limit(len(rows)))
    return [ids[number] for number in numbers]


def insert_params(
    connection: Connection, study: int, ids: Sequence[int], trials: Sequence[FrozenTrial], ranges: Mapping[str, str]
) -> dict[str, str]:
    """Insert the parameters; the ranges that are not in `ranges`, the study's known ones (name -> JSON)."""
    fresh: dict[str, str] = {}
    rows = []
    for trial_id, trial in zip(ids, trials, strict=True):
        for name, value in trial.params.items():
            spread = trial.distributions[name]
            text = distribution_to_json(spread)
            if name not in ranges and name not in fresh:
                fresh[name] = first_range(connection, study, name) or text
            check_range(name, ranges.get(name) or fresh[name], text)
            stored = spread.to_internal_repr(value)
            rows.append({"trial_id": trial_id, "param_name": name, "param_value": stored, "distribution_json": text})
    insert_all(connection, PARAMS, rows)
    return fresh


def first_range(connection: Connection, study: int, name: str) -> str | None:
    """What the study's trials draw this parameter from, as JSON; None where none of them has it."""
    asked = select(PARAMS.c.distribution_json).join(TRIALS, TRIALS.c.trial_id == PARAMS.c.trial_id)
    return connection.execute(asked.where(TRIALS.c.study_id == study, PARAMS.c.param_name == name).limit(1)).scalar()


def check_range(name: str, there: str, new: str) -> None:
    """Raises LrfError where Optuna would not let one study have both ranges."""
    if there == new:
        return
    try:
        check_distribution_compatibility(json_to_distribution(there), json_to_distribution(new))
    except ValueError as reason:
        raise LrfError(f"the study draws {name} from {there}, and a trial comes with {new}: {reason}") from None


def insert_values(connection: Connection, ids: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
    """Insert objective values and intermediate ones."""
    values, steps = [], []
    for trial_id, trial in zip(ids, trials, strict=True):
        for i, value in enumerate(trial.values or ()):
            number, kind = stored(value)
            values.append({"trial_id": trial_id, "objective": i, "value": number, "value_type": kind})
        for step, value in trial.intermediate_values.items():
            number, kind = stored(value)
            row = {"trial_id": trial_id, "step": step, "intermediate_value": number, "intermediate_value_type": kind}
            steps.append(row)
    insert_all(connection, VALUES, values)
    insert_all(connection, STEPS, steps)


def insert_attributes(connection: Connection, ids: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
    """Insert user and system attributes."""
    for place, name in ((USER, "user_attrs"), (SYSTEM, "system_attrs")):
        rows = [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for trial_id, trial in zip(ids, trials, strict=True)
            for key, value in getattr(trial, name).items()
        ]
        insert_all(connection, place, rows)


def insert_all(connection: Connection, place: Any, rows: list[Row]) -> None:
    """Insert rows, where there are any."""
    if rows:
        connection.execute(insert(place), rows)


def complete(study: int, number: int, before: int | None) -> Select[Any]:
    """The query for complete trials whose numbers are `number` or more, and less than `before`."""
    asked = select(TRIALS).where(
        TRIALS.c.study_id == study, TRIALS.c.state == TrialState.COMPLETE, TRIALS.c.number >= number
    )
    return asked.order_by(TRIALS.c.number) if before is None else asked.where(TRIALS.c.number < before)


def read_trials(connection: Connection, asked: Select[Any]) -> Iterator[FrozenTrial]:
    """The trials of a query, each as Optuna itself gives it."""
    heads = sorted(connection.execute(asked).all(), key=lambda row: row.number)
    inner = asked.order_by(None).subquery()
    params, values = read_params(connection, inner), read_values(connection, inner)
    user, system = read_attributes(connection, USER, inner), read_attributes(connection, SYSTEM, inner)
    steps = read_steps(connection, inner)
    for head in heads:
        named = params.get(head.trial_id, ())
        yield FrozenTrial(
            number=head.number,
            state=head.state,
            value=None,
            values=values.get(head.trial_id),
            datetime_start=local(head.datetime_start),
            datetime_complete=local(head.datetime_complete),
            params={name: value for _, name, value, _ in named},
            distributions={name: spread for _, name, _, spread in named},
            user_attrs=user.get(head.trial_id, {}),
            system_attrs=system.get(head.trial_id, {}),
            intermediate_values=steps.get(head.trial_id, {}),
            trial_id=head.trial_id,
        )


def pairs(connection: Connection, asked: Select[Any]) -> dict[Any, Any]:
    """A query of two columns as a table from one to the other."""
    return dict(connection.execute(asked).all())


def streamed(connection: Connection, asked: Select[Any]) -> Iterator[Any]:
    """The rows of a query, never all at once."""
    for part in connection.execute(asked).partitions(1000):
        yield from part


def of_trials(place: Any, inner: Any, *columns: Any) -> Select[Any]:
    """The query for these columns, the trial's id before them, of the trials of `inner`."""
    return select(place.c.trial_id, *columns).join(inner, inner.c.trial_id == place.c.trial_id)


def read_params(connection: Connection, inner: Any) -> Mapping[int, list[tuple[int, str, Any, BaseDistribution]]]:
    """Trial id -> its parameters as they were added: place, name, value, distribution (one object for equal ones)."""
    spreads: dict[str, BaseDistribution] = {}
    found = defaultdict(list)
    c = PARAMS.c
    asked = of_trials(PARAMS, inner, c.param_id, c.param_name, c.param_value, c.distribution_json)
    for trial_id, place, name, number, text in streamed(connection, asked):
        spread = spreads.get(text)
        if spread is None:
            spread = spreads[text] = json_to_distribution(text)
        found[trial_id].append((place, intern(name), spread.to_external_repr(number), spread))
    for named in found.values():
        named.sort(key=itemgetter(0))
    return found


def read_values(connection: Connection, inner: Any) -> Mapping[int, list[float]]:
    """Trial id -> its values."""
    found = defaultdict(list)
    asked = of_trials(VALUES, inner, VALUES.c.value, VALUES.c.value_type).order_by(VALUES.c.objective)
    for trial_id, number, kind in streamed(connection, asked):
        found[trial_id].append(SPECIAL.get(kind, number))
    return found


def read_steps(connection: Connection, inner: Any) -> Mapping[int, dict[int, float]]:
    """Trial id -> its intermediate values."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    asked = of_trials(STEPS, inner, STEPS.c.step, STEPS.c.intermediate_value, STEPS.c.intermediate_value_type)
    for trial_id, step, number, kind in streamed(connection, asked):
        found[trial_id][step] = SPECIAL.get(kind, number)
    return found


def read_attributes(connection: Connection, place: Any, inner: Any) -> Mapping[int, dict[str, Any]]:
    """Trial id -> its attributes."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in streamed(connection, of_trials(place, inner, place.c.key, place.c.value_json)):
        found[trial_id][intern(key)] = json.loads(text)
    return found


def stored(value: float) -> tuple[float | None, str]:
    """A value as Optuna stores it: databases have no infinity."""
    for kind, special in SPECIAL.items():
        if value == special or (math.isnan(value) and math.isnan(special)):
            return None, kind
    return value, "FINITE"


def utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Local time as the tables have it."""
    return moment and moment.astimezone(datetime.UTC).replace(tzinfo=None)


def local(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Time of the tables as trials have it."""
    return moment and moment.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
