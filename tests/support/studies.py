"""Studies, finished trials and processes that record: what tests of the storage share."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.storage.study import PLAN, StudyStore, with_short_plan

IDENTITY = {"model": "abc", "data": "def", "space": "ghi"}
OBJECTIVES = ("loss", "params")
SITES = [f"layer{i}" for i in range(12)]


def url_in(folder: Path) -> str:
    """The URL of the study's database in a folder."""
    return f"sqlite:///{folder / 'study.db'}"


def opened(folder: Path, name: str = "s", **changes: Any) -> StudyStore:
    """The study in a folder, new or resumed."""
    return StudyStore.open(url_in(folder), name, objectives=OBJECTIVES, **({"identity": IDENTITY} | changes))


def finished_trial(number: int) -> optuna.trial.FrozenTrial:
    """A trial of a search as it is stored."""
    rng = np.random.default_rng(number)
    distribution = CategoricalDistribution((0.2, 0.4, 0.6))
    keeps = {f"{site}.keep": float(rng.choice(distribution.choices)) for site in SITES}
    plan = Plan.of({site: Choice("svd", (int(rng.integers(1, 9)),)) for site in SITES})
    trial = optuna.trial.create_trial(
        params=keeps,
        distributions=dict.fromkeys(keeps, distribution),
        values=[float(rng.random()), float(rng.random())],
        user_attrs={PLAN: plan.to_json(), "params": number},
        system_attrs={"NSGAIISampler:generation": number // 50},
    )
    return with_short_plan(trial)


def recorded(folder: Path) -> list[int]:
    """The arguments of `finished_trial` for every trial of the study, by number. Checks that each trial is whole."""
    trials = optuna.load_study(study_name="s", storage=url_in(folder)).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        wanted = finished_trial(trial.user_attrs["params"])
        assert (trial.params, trial.values) == (wanted.params, wanted.values)
        assert (trial.user_attrs, trial.system_attrs) == (wanted.user_attrs, wanted.system_attrs)
    return [trial.user_attrs["params"] for trial in trials]


RANGES = {
    "wide": FloatDistribution(1e-300, 1e300, log=True),
    "exact": FloatDistribution(0, 1),
    "stepped": FloatDistribution(0, 1, step=0.25),
    "count": IntDistribution(1, 2**40),
    "mixed": CategoricalDistribution((None, True, 2, 0.3, "\u00e9\u2019 '\"")),
    "1 or True": CategoricalDistribution((1, "x")),
}


def odd_trial(number: int, **changes: Any) -> optuna.trial.FrozenTrial:
    """A trial with everything that Optuna's schema can hold."""
    rng = np.random.default_rng(number)
    params = {
        "wide": 10 ** float(rng.uniform(-300, 300)),
        "exact": float(rng.random()),
        "stepped": 0.25 * int(rng.integers(5)),
        "count": int(rng.integers(1, 2**40)),
        "mixed": (None, True, 2, 0.3, "\u00e9\u2019 '\"")[number % 5],
        "1 or True": 1,
    }
    given: dict[str, Any] = {
        "params": params,
        "distributions": RANGES,
        "values": [(math.inf, -math.inf, 1 / 3)[number % 3], float(rng.random()) * 1e-17],
        "user_attrs": {PLAN: "{}", "nested": {"a": [1, None, 1e-9]}, "text": "\u00fc"},
        "system_attrs": {"NSGAIISampler:generation": number},
        "constraints": {"params": -0.25},
        "intermediate_values": {0: 0.5, 3: math.nan, 4: math.inf, 5: -math.inf},
    }
    return with_short_plan(optuna.trial.create_trial(**(given | changes)))


def odd_trials() -> list[optuna.trial.FrozenTrial]:
    """Trials of several kinds; the last without anything."""
    fewer = {"params": {"exact": 0.5}, "distributions": {"exact": RANGES["exact"]}}
    pruned = odd_trial(8, state=optuna.trial.TrialState.PRUNED, values=None)
    failed = odd_trial(9, state=optuna.trial.TrialState.FAIL, values=None)
    summer = odd_trial(10)
    summer.datetime_start = datetime.datetime(2024, 7, 1, 12, 0, 0, 123456)
    bare = {"params": {}, "distributions": {}, "user_attrs": {}, "system_attrs": {}, "intermediate_values": {}}
    return [*map(odd_trial, range(7)), pruned, failed, summer, odd_trial(11, **fewer), odd_trial(12, **bare)]
