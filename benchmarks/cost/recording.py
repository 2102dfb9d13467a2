"""Milliseconds that recording and reading a trial cost: through Optuna's models in batches, and by its public calls.

    python benchmarks/cost/recording.py [--trials N] [--batch N]

The trials have two parameters for each layer, and go into a new SQLite database in WAL mode. Recording runs in a thread
beside the search, and Python runs one thread at a time, so the processor time of that thread is what the search loses.
Writes benchmarks/results/recording.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from benchmarks.lib.tables import publish
from lrf_optuna.plans.plan import Choice, Plan
from lrf_optuna.storage.study import PLAN, StudyStore

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    Way = Callable[[StudyStore, Sequence[FrozenTrial]], object]

LAYERS = (20, 100)
"""Numbers of layers: that of ResNet-20, and that of the deepest networks in the other tables."""
HEAD = "| layers | what | through | processor, ms a trial | clock, ms a trial |"
METHODS = optuna.distributions.CategoricalDistribution(("svd", "tucker2", "spatial", "cp"))
KEEPS = optuna.distributions.CategoricalDistribution((0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8))


def main() -> None:
    """Measure all ways, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--batch", type=int, default=20, help="trials in a transaction: half a second of a search")
    args = parser.parse_args()
    rows = [row for layers in LAYERS for row in measured(layers, args.trials, args.batch)]
    text = "\n".join([HEAD, "|---|---|---|---:|---:|", *rows, "", about(args)]) + "\n"
    publish("recording", text)
    print(text)


def about(args: argparse.Namespace) -> str:
    """The lines under the table."""
    return (
        f"{args.trials} trials of two parameters a layer, SQLite in WAL mode; models record {args.batch} trials in a "
        "transaction, public calls one.\nOptuna's models are `lrf_optuna/storage/bulk_trials.py`; public calls are "
        "`storage.create_new_trial(template_trial=...)`, `study.add_trial` and `study.get_trials`."
    )


def measured(layers: int, trials: int, batch: int) -> Iterator[str]:
    """The rows of the table for networks of so many layers."""
    made = [trial_of(number, layers) for number in range(trials)]
    for name, record in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            store = StudyStore.open(f"sqlite:///{folder}/s.db", "s", objectives=("loss", "params", "macs"), identity={})
            batches = [made[first : first + batch] for first in range(0, trials, batch)]
            yield row(f"{layers} | record | {name}", trials, record_all, record, store, batches)
            if store.count() != trials:
                raise RuntimeError(f"{name}: {store.count()} of {trials} trials are there")
            if record is not WAYS["models"]:
                continue
            yield row(f"{layers} | read plans and values | models", trials, store.candidates)
            yield row(f"{layers} | read whole trials | `get_trials`", trials, read_by_optuna, store.url)


def trial_of(number: int, layers: int) -> FrozenTrial:
    """A trial as a search records it."""
    rng = np.random.default_rng(number)
    params: dict[str, Any] = {}
    for i in range(layers):
        params[f"layer{i}.method"] = METHODS.choices[rng.integers(len(METHODS.choices))]
        params[f"layer{i}.keep"] = KEEPS.choices[rng.integers(len(KEEPS.choices))]
    ranks = rng.integers(1, 64, (layers, 2)).tolist()
    plan = Plan.of({f"layer{i}": Choice("tucker2", tuple(pair)) for i, pair in enumerate(ranks)})
    return optuna.trial.create_trial(
        params=params,
        distributions={name: METHODS if name.endswith("method") else KEEPS for name in params},
        values=rng.random(3).tolist(),
        user_attrs={PLAN: plan.to_json(), "params": 1, "macs": 1, "images": 128, "hypervolume": 0.5},
        constraints={"params": 0.1},
    )


def row(what: str, trials: int, act: Callable[..., object], *args: Any) -> str:
    """Do something once, and return its row."""
    processor, clock = time.thread_time(), time.perf_counter()
    act(*args)
    spent = time.thread_time() - processor, time.perf_counter() - clock
    return f"| {what} | {' | '.join(f'{1e3 * seconds / trials:.2f}' for seconds in spent)} |"


def record_all(record: Way, store: StudyStore, batches: Sequence[Sequence[FrozenTrial]]) -> None:
    """Record all batches in one way."""
    for batch in batches:
        record(store, batch)


def by_storage(store: StudyStore, trials: Sequence[FrozenTrial]) -> None:
    """Record by the storage's public call."""
    for trial in trials:
        store.database.storage.create_new_trial(store.trials.study_id, template_trial=trial)


def by_study(store: StudyStore, trials: Sequence[FrozenTrial]) -> None:
    """Record by the study's public call."""
    store.study.add_trials(trials)


def read_by_optuna(url: str) -> list[FrozenTrial]:
    """Every trial by Optuna, without the trials that its cache has."""
    return optuna.load_study(study_name="s", storage=url, sampler=optuna.samplers.RandomSampler()).get_trials()


WAYS: dict[str, Way] = {
    "models": StudyStore.append,
    "`create_new_trial`": by_storage,
    "`add_trial`": by_study,
}

if __name__ == "__main__":
    main()
