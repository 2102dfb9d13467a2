"""How much each layer decides in each objective, by Optuna's PED-ANOVA over the trials of a study."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from lrf_optuna.storage.database import quiet_optuna
from lrf_optuna.storage.public_trials import is_candidate
from lrf_optuna.storage.study import PLAN, StudyStore

MOST_TRIALS, SAMPLED = 1000, 300
"""Trials up to which all are read, and how many are read of more: single reads take about 5 ms each."""
LEAST_TRIALS = 20
"""Trials from which on importances say anything: PED-ANOVA compares the best tenth of the trials with all."""


def layer_importances(store: StudyStore) -> dict[str, dict[str, float]]:
    """Objective -> layer -> share that its method and its keep have in being among the best tenth of the trials.

    Empty for a study of few trials, and without an objective whose trials are all alike. Watanabe et al. 2023,
    "PED-ANOVA", https://arxiv.org/abs/2304.10255.
    """
    trials = sampled_trials(store)
    if len(trials) < LEAST_TRIALS:
        return {}
    with warnings.catch_warnings(), quiet_optuna():
        warnings.simplefilter("ignore")
        study = optuna.create_study(directions=["minimize"] * len(store.objectives))
        study.add_trials(trials)
        found = {name: summed(study, number) for number, name in enumerate(store.objectives)}
    return {name: shares for name, shares in found.items() if shares}


def sampled_trials(store: StudyStore) -> Sequence[FrozenTrial]:
    """The candidates of a study as trials, evenly spread over its numbers where there are many."""
    with store.database.calling() as storage:
        total, study_id = store.trials.counts().total, store.trials.study_id
        if total <= MOST_TRIALS:
            found = storage.get_all_trials(study_id, deepcopy=False)
        else:
            numbers = np.unique(np.linspace(0, total - 1, SAMPLED).astype(int)).tolist()
            ids = [storage.get_trial_id_from_study_id_trial_number(study_id, number) for number in numbers]
            found = [storage.get_trial(trial_id) for trial_id in ids]
    return [trial for trial in found if is_candidate(trial, PLAN)]


def summed(study: optuna.Study, objective: int) -> dict[str, float]:
    """Layer -> its share in one objective, the sum of its parameters' shares; empty where they cannot be told."""
    values = {trial.values[objective] for trial in study.trials}
    if len(values) < 2:
        return {}
    try:
        shares = get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: trial.values[objective]
        )
    except (ValueError, RuntimeError):  # trials without a parameter that all of them have
        return {}
    layers = defaultdict[str, float](float)
    for name, share in shares.items():
        if np.isfinite(share):
            layers[name.rpartition(".")[0]] += float(share)
    return dict(layers)
