"""Importances find the layer that decides, and nothing where nothing can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from lrf_optuna.storage import importances
from lrf_optuna.storage.importances import layer_importances
from lrf_optuna.storage.study import PLAN, StudyStore

if TYPE_CHECKING:
    from pathlib import Path

SPACE = {
    f"{layer}.{name}": CategoricalDistribution(some)
    for layer in ("idle", "strong")
    for name, some in (("method", ("cp", "svd")), ("keep", (0.1, 0.3, 0.5, 0.9)))
}


def store_of(folder: Path, count: int) -> StudyStore:
    """A study whose loss is the keep of the layer `strong`, and whose parameters never change."""
    rng = np.random.default_rng(0)
    store = StudyStore.open(
        f"sqlite:///{folder / 'study.db'}", "one", objectives=("loss", "params"), identity={"model": "one"}
    )
    found = []
    for _ in range(count):
        params = {name: some.choices[rng.integers(len(some.choices))] for name, some in SPACE.items()}
        values = [float(params["strong.keep"]), 1.0]
        found.append(
            optuna.trial.create_trial(params=params, distributions=SPACE, values=values, user_attrs={PLAN: "{}"})
        )
    store.append(found)
    return store


@pytest.mark.parametrize("most", [1000, 50])
def test_the_layer_that_decides_is_found(tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importances, "MOST_TRIALS", most)
    monkeypatch.setattr(importances, "SAMPLED", 60)
    found = layer_importances(store_of(tmp_path, 120))
    assert set(found) == {"loss"}, "all trials have the same parameters: nothing decides in them"
    assert found["loss"]["strong"] > 3 * found["loss"]["idle"]
    assert sum(found["loss"].values()) == pytest.approx(1)


def test_few_trials_say_nothing(tmp_path: Path) -> None:
    assert layer_importances(store_of(tmp_path, 5)) == {}
