"""Option tables of made-up layers, and stores in a file: for the tests of the search."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from lrf_optuna.plans.plan import INTACT, Choice, Plan
from lrf_optuna.scoring.option_table import COUNTED, SIZES, Option, OptionIndices, OptionTable, Shares
from lrf_optuna.storage.study import StudyStore

OBJECTIVES = ("loss", "params", "macs")
FIXED = Shares(0.04, 0.01)
"""The shares that no plan of a made-up table changes."""
FIXED_TIME = 0.05
"""The share of the milliseconds that no plan of a made-up table changes."""
Allocation = dict[str, Option]
"""Site -> the option that it gets."""


def made_up_table(counts: tuple[int, ...], seed: int = 0, *, timed: bool = False) -> OptionTable:
    """Layers with given numbers of options: the intact layer first, then smaller options of two methods.

    `timed`: whether milliseconds are a third size; some options take more of them than the intact layer.
    """
    rng, clock = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    times = clock.dirichlet(np.full(len(counts), 3.0)) * (1 - FIXED_TIME)
    shares = {cost: rng.dirichlet(np.full(len(counts), 3.0)) * (1 - getattr(FIXED, cost)) for cost in COUNTED}
    options = {}
    for layer, count in enumerate(counts):
        params, macs, slope = shares["params"][layer], shares["macs"][layer], 0.003 * rng.uniform(0.1, 1)
        rows = [Option("intact", 1.0, INTACT, 0.0, params, macs, times[layer])]
        for number, keep in enumerate(np.linspace(0.9, 0.1, count - 1), 1):
            method = "svd" if number % 2 else "cp"
            loss = slope * (1 / keep - 1) ** 1.5 * rng.uniform(0.8, 1.2)
            sizes = params * keep, macs * keep * rng.uniform(0.8, 1.0), times[layer] * keep * clock.uniform(0.5, 1.8)
            rows.append(Option(method, float(keep), Choice(method, (number,)), loss, *sizes))
        options[f"layer {layer}"] = rows
    return OptionTable(options, FIXED._replace(latency=FIXED_TIME), sizes=SIZES if timed else COUNTED)


def all_allocations(table: OptionTable) -> list[Allocation]:
    """Every combination of the table's options."""
    return [dict(zip(table, options, strict=True)) for options in product(*table.values())]


def allocation_of(table: OptionTable, plan: OptionIndices | Plan) -> Allocation:
    """Site -> option of one plan, as option numbers `(layers,)` or as such."""
    row = table.encode(plan) if isinstance(plan, Plan) else plan
    assert row is not None
    return {site: options[i] for (site, options), i in zip(table.items(), row, strict=True)}


def sum_of(allocation: Allocation, cost: str) -> float:
    """The sum of a cost over an allocation's options."""
    return float(sum(getattr(option, cost) for option in allocation.values()))


def store_at(path: Path) -> StudyStore:
    """The study `s` of a SQLite file, new or resumed."""
    return StudyStore.open(f"sqlite:///{path}", "s", objectives=OBJECTIVES, identity={})
