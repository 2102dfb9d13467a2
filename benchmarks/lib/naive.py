"""The naive way to score a plan, which trials are compared with: factorize, rebuild, predict and record, each anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.lib.stopwatch import Stopwatch, Unit
from lrf_optuna.plans.plan import Plan
from lrf_optuna.sections import KEEP

if TYPE_CHECKING:
    import optuna

    from lrf_optuna.scoring.proxy import Proxy

STEPS = ("database", "factorizing", "rebuilding", "passing")


def naive(proxy: Proxy, unit: Unit, plans: int, path: Path) -> dict[str, Any]:
    """Seconds of each step over random plans, scored one after the other with the unit measured after each."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    study = optuna.create_study(storage=storage, directions=["minimize"] * 3)
    study.sampler = optuna.samplers.NSGAIISampler(seed=0)
    watch, unit.wall = Stopwatch(), []
    for _ in range(plans):
        score(proxy, study, watch)
        unit.measure()
    return {"plans": plans, "unit": float(np.median(unit.wall)), "wall": {step: watch.wall[step] for step in STEPS}}


def score(proxy: Proxy, study: optuna.Study, watch: Stopwatch) -> None:
    """One trial: kernels factorized without data, a model built, its predictions, every parameter a transaction."""
    from lrf_optuna.fitting.layer_fit import LayerFitter
    from lrf_optuna.models.surgery import materialize

    with watch.part("database"):
        trial = study.ask()
        plan = drawn(proxy, trial)
    with watch.part("factorizing"), proxy.single_blas_thread():
        kernels = {
            site: LayerFitter(proxy.sites[site].op, proxy.kernels.originals[site]).fit(choice)
            for site, choice in plan.changed.items()
        }
    with watch.part("rebuilding"):
        built = materialize(proxy.network.model, plan, kernels)
    with watch.part("passing"):
        maps = built.predict(proxy.scored.tensors, batch_size=proxy.network.batch_size, verbose=0)
        found = {name: np.asarray(head.logits(maps)) for name, head in proxy.network.heads.items()}
        loss = 1 - proxy.similarity.overall(proxy.scored.reference, found)
    params, macs = proxy.counts(plan)
    with watch.part("database"):
        study.tell(trial, [loss, params / proxy.inventory.params, macs / proxy.inventory.macs])


def drawn(proxy: Proxy, trial: optuna.Trial) -> Plan:
    """A method and a keep for every layer, as Optuna draws them."""
    choices = {}
    for site in proxy.sites:
        method = trial.suggest_categorical(f"{site}.method", proxy.methods_of(site))
        choices[site] = proxy.choice(site, method, trial.suggest_categorical(f"{site}.keep", KEEP))
    return Plan.of(choices)
