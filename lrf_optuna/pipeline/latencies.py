"""Milliseconds in a run: what gives those of layers to the search, and those of whole networks at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import map_inputs
from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.files import digest, write_text
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import Progress
from lrf_optuna.scoring import latency as scoring
from lrf_optuna.scoring.disk_cache import cache_folder
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.storage.study import StudyStore


def layer_timer(
    spec: StudySpec, folder: RunFolder, model: Any, data: Data, progress: Progress
) -> scoring.LayerTimer | None:
    """What gives milliseconds to a study; None where they are no objective.

    A given table comes first. A study that has trials keeps its latency.csv, so that all of them are measured alike.
    Where a study has none, that file may be of another study, and is not used.
    """
    if scoring.LATENCY not in spec.search.objectives:
        return None
    if spec.latency.latency_table:
        given = scoring.read_latencies(Path(spec.latency.latency_table))
        return scoring.FileTimer(replace(given, place=f"{given.place} (table {digest(given.to_csv())[:6]})"))
    if known := known_latencies(spec.search.storage or folder.url, spec.name):
        check_unchanged(folder.latency, known)
        return scoring.FileTimer(scoring.read_latencies(folder.latency))
    from lrf_optuna.runtimes.latency import Place
    from lrf_optuna.runtimes.layer_timer import LayerTimer

    where = Place(spec.latency.runtime, spec.latency.runtime_batch, spec.latency.threads)
    inputs = data.preprocess(map_inputs(data.train.pixels, lambda array: array[:1]))
    return LayerTimer(model, inputs, where, cache_folder(spec.search.cache), progress=progress)


def known_latencies(url: str, name: str) -> str:
    """The digest of the milliseconds that a study's trials were measured by; empty for a study without trials."""
    try:
        record = StudyStore.read(url, name)
    except LrfError:
        return ""
    return record.latencies if record.count() else ""


def check_unchanged(file: Path, known: str) -> None:
    """Raises LrfError where a study's file of milliseconds is gone, or is another one than its trials are of."""
    if not file.exists() or digest(file.read_text(encoding="utf-8")) != known:
        state = "was changed" if file.exists() else "is not there"
        raise LrfError(
            f"{file} {state}, and the study's trials are measured by it: bring it back (from the folder of the first "
            "process, where there are several), or give another --name"
        )


def keep_latencies(found: scoring.LatencyTable, folder: RunFolder, record: StudyStore, progress: Progress) -> None:
    """Write latency.csv for a study without trials, and say where milliseconds were measured."""
    if record.count():
        return
    text = found.to_csv()
    write_text(folder.latency, text)
    record.keep_latencies(digest(text))
    within = f"; sums of layers are within {found.error:.1%} of whole networks" if found.error is not None else ""
    progress.say(f"the original takes {found.original:.3g} ms in {found.place}{within}")


def time_at_end(result: Result, networks: tuple[Any, Any], spec: StudySpec, data: Data, progress: Progress) -> str:
    """Measure the milliseconds of two networks, the original and the last one, in the study's runtime and in Keras.

    They take turns, and become part of the result. Gives the reason where a runtime cannot run one of them, else an
    empty text: all other work is done, so that nothing ends here.
    """
    from lrf_optuna.runtimes.exports import Samples
    from lrf_optuna.runtimes.latency import Place, model_latencies, place_text

    chosen = spec.latency
    names = dict.fromkeys((chosen.runtime, "keras"))
    places = [Place(name, chosen.runtime_batch, chosen.threads) for name in names]
    samples = Samples(data.preprocess(map_inputs(data.train.pixels, lambda array: array[:1])))
    models = dict(zip(("original", "final"), networks, strict=True))
    try:
        rows = model_latencies(models, places, samples, progress=progress)
    except LrfError as reason:
        return f"no milliseconds were measured: {reason}"
    for network in (result.original, result.final):
        network.milliseconds.clear()  # of an earlier run, in another place
    for row in rows:
        if not row.problems:
            result.original.milliseconds[row.place.runtime] = row.timings["original"].least
            result.final.milliseconds[row.place.runtime] = row.timings["final"].least
    result.place = place_text(rows[0].place, ", ".join(row.version for row in rows))
    problems = [(row, *item) for row in rows for item in row.problems.items()]
    return "; ".join(f"{row.place.runtime} cannot run the {name} network: {why}" for row, name, why in problems)


def check_latency_target(targets: Mapping[str, float], table: OptionTable) -> None:
    """Raises LrfError for a target of the milliseconds that no plan can meet."""
    smallest = table.latency.min(axis=1).sum() + table.fixed.latency
    if targets.get(scoring.LATENCY, 1.0) < smallest:
        least = np.ceil(1e3 * smallest) / 1e3
        raise LrfError(
            f"the target latency={targets[scoring.LATENCY]:g} is out of reach: the fastest chains leave "
            f"{smallest:.1%} of the milliseconds; give latency={least:g} or more, or another --runtime and --name"
        )
