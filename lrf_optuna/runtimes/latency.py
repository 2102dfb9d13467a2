"""The milliseconds of Keras models in every runtime that is installed, in turns, at several batches and threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from lrf_optuna.processes import cores, processor
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.runtimes.child import in_child
from lrf_optuna.runtimes.exports import Samples, random_samples
from lrf_optuna.runtimes.formats import FORMATS, check_runtimes
from lrf_optuna.runtimes.saved_model import Interface, save_signatures, signature
from lrf_optuna.runtimes.sessions import runtime_version
from lrf_optuna.runtimes.timing import TimedFile, Timing, TimingSettings, time_files


class Place(NamedTuple):
    """Where a network runs: a runtime, the images of a call, and its threads (0 is all processors)."""

    runtime: str
    batch: int
    threads: int


def place_text(place: Place, versions: str) -> str:
    """The versions of the runtimes, the threads, the images of a call, and this machine, in words."""
    count = place.threads or cores()
    threads = "1 thread" if count == 1 else f"{count} threads"
    images = "1 image" if place.batch == 1 else f"{place.batch} images"
    return f"{versions}, {threads}, {images}, {processor()}"


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """The timings of several networks in one place, or the problem of the network that could not be converted."""

    place: Place
    version: str
    timings: dict[str, Timing]
    problems: dict[str, str]


def model_latencies(
    models: Mapping[str, Any],
    places: Sequence[Place],
    samples: Samples | None = None,
    rounds: int = 20,
    progress: Progress = SILENT,
) -> list[LatencyRow]:
    """The milliseconds of every model in every place, in turns; places with equal threads share a child process.

    Conversions are in one child process for all models. `samples`: inputs of all models, for their shapes; by default
    random ones of each model's own shape. Raises LrfError for a runtime that is not there.
    """
    check_runtimes(list(dict.fromkeys(place.runtime for place in places)))
    with (
        TemporaryDirectory(prefix="lrf-optuna-") as folder,
        progress.task("milliseconds of networks", 1 + len({place.threads for place in places})) as step,
    ):
        files = {
            name: ModelFiles(model, Path(folder, f"{i}"), samples) for i, (name, model) in enumerate(models.items())
        }
        for own in files.values():
            own.save(sorted({place.batch for place in places}))
        problems = convert_for(files, places)
        step(1)
        good = {
            (place, name): own.timed_file(place)
            for place in places
            for name, own in files.items()
            if not problems.get((name, place))
        }
        timings: dict[tuple[Place, str], Timing] = {}
        for threads in dict.fromkeys(place.threads for place in places):
            wanted = {key: file for key, file in good.items() if key[0].threads == threads}
            found = time_files(list(wanted.values()), TimingSettings(threads, rounds)) if wanted else []
            timings |= dict(zip(wanted, found, strict=True))
            step(1)
    return [row_of_place(place, timings, problems) for place in places]


def row_of_place(
    place: Place, timings: Mapping[tuple[Place, str], Timing], problems: Mapping[tuple[str, Place], str]
) -> LatencyRow:
    """The row of a place, of the timings and the problems of all places."""
    own = {name: timing for (where, name), timing in timings.items() if where == place}
    lacking = {name: problem for (name, where), problem in problems.items() if where == place and problem}
    return LatencyRow(place, runtime_version(place.runtime), own, lacking)


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """The files of one model in a folder of its own."""

    model: Any
    folder: Path
    samples: Samples | None

    def save(self, batches: Sequence[int]) -> None:
        """Write the SavedModel with a signature for each batch."""
        save_signatures(self.model, self.folder / "saved_model", batches, self.sample())

    def sample(self) -> Any:
        """One input of every kind."""
        found = self.samples or random_samples(self.model, 1)
        arrays = Interface.of(self.model).arrays(found.preprocess(found.images))
        return dict(zip(Interface.of(self.model).keys, (array[:1] for array in arrays), strict=True))

    def path(self, place: Place) -> Path:
        """The file that a runtime has for a batch."""
        if place.runtime == "keras":
            return self.folder / "saved_model"
        return self.folder / f"batch_{place.batch}{FORMATS[place.runtime].suffix}"

    def job(self, place: Place) -> dict[str, Any]:
        """What the converting child has to know."""
        found = {"format": place.runtime, "path": str(self.path(place)), "signature": signature(place.batch)}
        names = list(Interface.of(self.model).inputs)
        return {**found, "batch": place.batch, "precision": "fp32", "inputs": names}

    def timed_file(self, place: Place) -> TimedFile:
        """The file as the clock takes it."""
        interface = Interface.of(self.model)
        arrays = dict(zip(interface.inputs, self.sample().values(), strict=True))
        shapes = {name: [place.batch, *np.shape(array)[1:]] for name, array in arrays.items()}
        types = {name: str(np.asarray(array).dtype) for name, array in arrays.items()}
        return TimedFile(place.runtime, str(self.path(place)), signature(place.batch), shapes, types, interface.outputs)


def convert_for(files: Mapping[str, ModelFiles], places: Sequence[Place]) -> dict[tuple[str, Place], str]:
    """(model, place) -> the problem of its conversion, or an empty text; all conversions are in one child process."""
    wanted = [place for place in places if place.runtime in ("litert", "onnx")]
    once = list({(place.runtime, place.batch): place for place in wanted}.values())
    if not once:
        return {}
    jobs = [
        {"saved_model": str(own.folder / "saved_model"), "calibration": "", "files": [own.job(place) for place in once]}
        for own in files.values()
    ]
    answer = in_child("lrf_optuna.runtimes.convert:convert_models", {"models": jobs})
    by_kind = {
        (name, place.runtime, place.batch): problem
        for name, problems in zip(files, answer["problems"], strict=True)
        for place, problem in zip(once, problems, strict=True)
    }
    return {(name, place): by_kind[name, place.runtime, place.batch] for name in files for place in wanted}
