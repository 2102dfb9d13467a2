"""A study in a database, in Optuna's own schema: opened, resumed or refused; finished trials are added in batches.

A search runs on a study in memory and records trials that are finished, and a trial gets its number when it is
recorded. So a killed process leaves whole trials only, any number of processes add to one study, and
`optuna-dashboard` or any Optuna script reads the database.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.storage.bulk_trials import trials_of
from lrf_optuna.storage.database import Database, plain_errors, quiet_optuna, sqlite_file, url_without_password
from lrf_optuna.storage.public_trials import mark_of, whole

log = logging.getLogger(__name__)

IDENTITY = "lrf:question"
"""The study's user attribute with its identity. The key is older than the name, so that older studies still open."""
SPEC = "lrf:spec"
"""The study's user attribute with its specification."""
PLAN = "plan"
"""The trial's user attribute with its plan in short, beside a system attribute with the whole plan, as JSON.

Complete trials without them are not candidates.
"""
LATENCIES = "lrf:latencies"
"""The study's user attribute with the digest of its milliseconds, where these are an objective."""
PROCESSES = "lrf:processes"
"""The study's user attribute with the number of processes that have searched in it."""

WARNINGS = "lrf:warnings"
"""The study's user attribute with what was said of its set-up."""
METRIC, AS_BUILT, CALIBRATED, TUNED = "metric", "metric as built", "metric calibrated", "metric tuned"
"""User attributes of trials: the task's metric on validation images, of a point as it was scored, as it is built
without training, and of a chosen one after its calibration and its fine-tune. As scored it is of fewer images."""
METRIC_KEYS = (METRIC, AS_BUILT, CALIBRATED, TUNED)
METRIC_OF = "lrf:metric"
"""The study's user attribute with the name of the metric, a digest of what it was measured on, and the original's."""
PIXELS = "data or preprocessing"
"""What messages call the part "data" of an identity, which is of preprocessed pixels."""
MEASUREMENTS = "lrf:measured"
"""The trial's system attribute with its whole measurements, by stage: dashboards do not show it."""


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
            directions = [optuna.study.StudyDirection.MINIMIZE] * len(objectives)
            optuna.create_study(study_name=name, storage=database.storage, directions=directions, load_if_exists=True)
            store = cls(database, name)
            if len(store.study.directions) != len(objectives):
                raise store.foreign()
            store.trials.change(IDENTITY, partial(store.check_identity, identity))  # one transaction
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
    def warnings(self) -> list[str]:
        """What was said of the study's set-up when it was last searched in."""
        return [str(text) for text in self.study.user_attrs.get(WARNINGS, [])]

    def keep_warnings(self, warnings: Sequence[str]) -> None:
        """Keep what was said of the set-up for later steps of the study."""
        if list(warnings) != self.warnings:
            self.study.set_user_attr(WARNINGS, list(warnings))

    @property
    def latencies(self) -> str:
        """The digest of the milliseconds that the costs of the trials are of; empty where there are none."""
        return str(self.study.user_attrs.get(LATENCIES, ""))

    def keep_latencies(self, digest_of_table: str) -> None:
        """Keep the digest of the milliseconds for later steps of the study."""
        self.study.set_user_attr(LATENCIES, digest_of_table)

    @property
    def metric_name(self) -> str:
        """The name of the metric that is kept of points, such as accuracy; empty where none was measured yet."""
        return str(self.study.user_attrs.get(METRIC_OF, {}).get("name", ""))

    @property
    def compared_metric(self) -> str:
        """The name of the metric with the images that points were measured on, such as validation accuracy."""
        return str(self.study.user_attrs.get(METRIC_OF, {}).get("compared", self.metric_name))

    @property
    def original_metrics(self) -> dict[str, float]:
        """The original's metric under the names of `metrics`, each on the images that points were measured on."""
        return dict(self.study.user_attrs.get(METRIC_OF, {}).get("original", {}))

    @property
    def metric_images(self) -> int:
        """How many images points were measured on at most; 0 where that is not known."""
        return int(self.study.user_attrs.get(METRIC_OF, {}).get("images", 0))

    def metrics(self) -> dict[int, dict[str, float]]:
        """Number -> name -> metric of the trials that were measured; the names are `METRIC_KEYS`."""
        return self.trials.attributes(METRIC_KEYS)

    def keep_metrics(self, trial: int, metrics: Mapping[str, float]) -> None:
        """Keep metrics, name -> metric, of the trial of a number. Raises LrfError where there is no such trial."""
        self.trials.set_attributes({trial: metrics})

    def measurements(self, digest_of_images: str) -> dict[int, dict[str, Any]]:
        """Number -> stage -> whole measurement as it was kept; empty where it is of other images or labels."""
        if self.study.user_attrs.get(METRIC_OF, {}).get("digest") != digest_of_images:
            return {}
        return {
            number: own[MEASUREMENTS] for number, own in self.trials.attributes([MEASUREMENTS], system=True).items()
        }

    def keep_measurements(
        self, of: Mapping[str, Any], metrics: Mapping[int, Mapping[str, float]], whole: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Keep the metrics and the whole measurements, number -> stage -> JSON, of trials.

        `of`: the `name` of the metric and as it is `compared`, the `digest` of the images and labels, how many `images`
        they are, and the `original` as in `metrics`. What was kept of other images or labels is removed.
        """
        before = self.study.user_attrs.get(METRIC_OF, {})
        if before and before["digest"] != of["digest"]:
            self.trials.remove_attributes(METRIC_KEYS)
            self.trials.remove_attributes([MEASUREMENTS], system=True)
        if before != of:
            self.study.set_user_attr(METRIC_OF, dict(of))
        self.trials.set_attributes(metrics)
        self.trials.set_attributes({number: {MEASUREMENTS: own} for number, own in whole.items()}, system=True)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the costs, in the order of a trial's values."""
        return tuple(self.study.metric_names or ())

    def foreign(self) -> LrfError:
        """The error for a study of another program."""
        return LrfError(f"the study {self.name!r} in this database was not made by lrf_optuna: give another --name")

    def check_identity(self, identity: Mapping[str, str], stored: Mapping[str, str] | None) -> dict[str, str]:
        """The identity. Raises LrfError where the stored one differs, and where a study without any has trials.

        A part that a study of an earlier version lacks counts as empty.
        """
        if stored is None and self.trials.counts().total:
            raise self.foreign()
        found = identity if stored is None else stored
        other = sorted(part for part in {*found, *identity} if found.get(part, "") != identity.get(part, ""))
        other = [PIXELS if part == "data" else part for part in other]
        if other:
            raise LrfError(
                f"the study {self.name!r} has {self.count()} trials with another {' and another '.join(other)}: "
                f"give another --name, or start again after "
                f"`optuna delete-study --storage {url_without_password(self.url)} --study-name {self.name}`"
            )
        return dict(identity)

    def append(self, trials: Sequence[FrozenTrial], most: int | None = None) -> list[int]:
        """Record finished trials in one transaction, and return their numbers.

        With `most`, trials at the end are left out as soon as the study has `most` candidates of all processes. After
        an exception none is recorded.
        """
        return self.trials.append([with_short_plan(trial) for trial in trials], most)

    def join(self) -> int:
        """How many processes have searched in this study before this one."""
        return int(self.trials.change(PROCESSES, lambda before: (before or 0) + 1)) - 1

    def count(self) -> int:
        """How many candidates the study has."""
        return self.trials.counts().candidates

    def candidates(self, since: int = 0, before: int | None = None) -> list[Candidate]:
        """The candidates in a range of numbers, in order. Logs one warning where complete trials have no plan."""
        if not self.warned:
            _, complete, candidates = self.trials.counts()
            self.warned = complete > candidates
            if self.warned:
                message = "%d trials of the study %s were not made by lrf_optuna and are ignored: they have no plan"
                log.warning(message, complete - candidates, self.name)
        objectives = self.objectives
        return [
            Candidate(number, Plan.from_json(plan), dict(zip(objectives, values, strict=True)))
            for number, plan, values in self.trials.marks(since, before)
        ]

    def distributions(self, number: int) -> dict[str, BaseDistribution]:
        """Parameter -> its distribution in the trial of a number."""
        with self.database.calling() as storage:
            trial_id = storage.get_trial_id_from_study_id_trial_number(self.trials.study_id, number)
            return storage.get_trial(trial_id).distributions


def with_short_plan(trial: FrozenTrial) -> FrozenTrial:
    """A trial whose whole plan, as JSON, is a system attribute; its user attribute says which methods it has."""
    text = trial.user_attrs.get(PLAN)
    if text is None or whole(PLAN) in trial.system_attrs:
        return trial
    found = copy.copy(trial)
    found.user_attrs = {**trial.user_attrs, PLAN: Plan.from_json(text).methods}
    found.system_attrs = {**trial.system_attrs, whole(PLAN): text}
    return found


def plan_of(trial: FrozenTrial) -> Plan:
    """The plan of a candidate that was read by Optuna. Raises LrfError for a trial without one."""
    return Plan.from_json(str(mark_of(trial, PLAN)))
