"""Files of a network for other runtimes, each run on images and compared with the Keras model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import Values, count_of, map_inputs
from lrf_optuna.data.preprocess import AnyPreprocess, NoPreprocess
from lrf_optuna.errors import LrfError
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.plans.result import Export
from lrf_optuna.processes import cores, quiet
from lrf_optuna.runtimes.child import in_child
from lrf_optuna.runtimes.formats import FORMATS, ExportSettings, check_formats
from lrf_optuna.runtimes.saved_model import Interface, save_signatures, signature
from lrf_optuna.runtimes.sessions import CALLS, outputs_of, runtime_version
from lrf_optuna.runtimes.timing import TimedFile, Timing, time_files

CALIBRATION_FILE = "calibration.npz"
"""The child's file of calibration inputs."""
MESSAGE = 200
"""Letters of a runtime's message that a problem has."""
AS_THEY_ARE = NoPreprocess()
DEFAULTS = ExportSettings()
"""How files are written where nothing is said."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs that an export is compared on: `images` raw, `calibration` raw or None, and their preprocessing.

    `measure`: outputs by name -> the task's metric; None without labels. `real`: whether they are real inputs.
    """

    images: Any
    calibration: Any = None
    preprocess: AnyPreprocess = AS_THEY_ARE
    measure: Callable[[Mapping[str, Values]], float] | None = None
    real: bool = True


@dataclass(frozen=True, eq=False)
class Exporter:
    """A network with the samples that its files are compared on."""

    model: Any
    samples: Samples
    settings: ExportSettings = DEFAULTS

    @cached_property
    def interface(self) -> Interface:
        """The names of inputs and outputs in the files."""
        return Interface.of(self.model)

    @cached_property
    def arrays(self) -> list[Any]:
        """What the files take: raw values where the preprocessing is in them, else prepared ones."""
        return self.file_inputs(self.samples.images)

    @cached_property
    def expected(self) -> dict[str, Values]:
        """What the Keras model gives, by output."""
        return Evaluator(self.model, self.samples.preprocess).outputs(self.samples.images)

    def file_inputs(self, images: Any) -> list[Any]:
        """The arrays that files take for raw images."""
        if self.settings.with_preprocessing:
            return self.interface.arrays(map_inputs(images, lambda array: np.asarray(array, np.float32)))
        return self.interface.arrays(self.samples.preprocess(images))

    def export(self, paths: Mapping[str, Path]) -> list[Export]:
        """Write a file for every format, compare and time them. What cannot be converted has a `problem` instead.

        `paths`: format -> file, or folder of a SavedModel. Raises LrfError before anything is written where a format,
        a precision or a module is lacking.
        """
        check_formats(list(paths), self.settings)
        if self.settings.precision == "int8" and self.samples.calibration is None:
            raise LrfError("int8 needs real inputs to calibrate with: give --data")
        with TemporaryDirectory(prefix="lrf-optuna-") as folder:
            shared = Path(folder, "saved_model")
            batches = {self.settings.batch_of(name) for name in paths} | {1}
            sample = self.interface_sample()
            preprocess = self.samples.preprocess if self.settings.with_preprocessing else None
            save_signatures(self.model, shared, sorted(batches, key=str), sample, preprocess)
            problems = self.convert(paths, Path(folder), shared)
            rows = {name: self.row(name, path, problems[name]) for name, path in paths.items()}
            return self.timed(rows, paths, shared)

    def interface_sample(self) -> Any:
        """One input of each kind, as the signatures take it."""
        return dict(zip(self.interface.keys, (array[:1] for array in self.arrays), strict=True))

    def convert(self, paths: Mapping[str, Path], folder: Path, shared: Path) -> dict[str, str]:
        """Format -> the problem of its conversion, or an empty text."""
        files = [name for name in paths if name != "savedmodel"]
        if "savedmodel" in paths:
            replace_folder(shared, paths["savedmodel"])
        if not files:
            return dict.fromkeys(paths, "")
        calibration = ""
        if self.settings.precision == "int8":
            calibration = str(folder / CALIBRATION_FILE)
            arrays = self.file_inputs(self.samples.calibration)
            np.savez(calibration, **dict(zip(self.interface.inputs, arrays, strict=True)))
        for name in files:
            paths[name].parent.mkdir(parents=True, exist_ok=True)
        job = {"saved_model": str(shared), "calibration": calibration}
        answer = in_child(
            "lrf_optuna.runtimes.convert:convert_all", {**job, "files": [self.job(name, paths[name]) for name in files]}
        )
        return dict.fromkeys(paths, "") | dict(zip(files, answer["problems"], strict=True))

    def job(self, name: str, path: Path) -> dict[str, Any]:
        """What the child has to know of a file."""
        batch = self.settings.batch_of(name)
        found = {"format": name, "path": str(path.absolute()), "signature": signature(batch), "batch": batch}
        return {**found, "precision": self.settings.precision, "inputs": list(self.interface.inputs)}

    def row(self, name: str, path: Path, problem: str) -> Export:
        """What a file gives, beside the Keras model's outputs for the same images."""
        batch, samples = self.settings.batch_of(name), self.samples
        row = Export(name, self.settings.precision, str(path), str(batch or "any"), problem=problem)
        if problem:
            return row
        try:
            with quiet():
                names = self.interface.inputs, self.interface.outputs
                found = outputs_of(CALLS[name](path, signature(batch), *names, cores()), self.arrays, batch)
        except Exception as error:  # a runtime raises whatever broke inside
            row.problem = f"{runtime_version(name)} cannot run it: {' '.join(str(error).split())[:MESSAGE]}"
            return row
        outputs = dict(zip(self.expected, found, strict=True))
        pairs = [(outputs[own], values) for own, values in self.expected.items()]
        row.difference = max(float(np.abs(one - other).max()) for one, other in pairs)
        row.largest_output = max(float(np.abs(values).max()) for _, values in pairs)
        row.file_bytes, row.runtime = size_of(path), runtime_version(name)
        row.images, row.real_images = count_of(samples.images), samples.real
        if samples.measure:
            row.metric, row.keras_metric = samples.measure(outputs), samples.measure(self.expected)
        return row

    def timed(self, rows: dict[str, Export], paths: Mapping[str, Path], shared: Path) -> list[Export]:
        """The rows with the milliseconds of a call of one image on one thread, in turns with Keras."""
        good = [name for name, row in rows.items() if not row.problem and self.settings.batch_of(name) in (None, 1)]
        timings: dict[str, Timing] = {}
        if good:
            files = [self.timed_file(name, paths[name], self.settings.batch_of(name)) for name in good]
            found = time_files([*files, self.timed_file("keras", shared, 1)])
            timings = dict(zip([*good, "keras"], found, strict=True))
        for name in good:
            rows[name].milliseconds, rows[name].keras_milliseconds = timings[name].least, timings["keras"].least
        return list(rows.values())

    def timed_file(self, name: str, path: Path, batch: int | None) -> TimedFile:
        """A file as the clock takes it, for one image a call."""
        arrays = dict(zip(self.interface.inputs, self.arrays, strict=True))
        shapes = {own: [1, *np.shape(array)[1:]] for own, array in arrays.items()}
        types = {own: str(np.asarray(array[:1]).dtype) for own, array in arrays.items()}
        return TimedFile(name, str(path.absolute()), signature(batch), shapes, types, self.interface.outputs)


def file_paths(stem: Path, names: Sequence[str], precision: str = "fp32") -> dict[str, Path]:
    """Format -> file beside `stem`: model.tflite, model_int8.onnx, model_savedmodel."""
    ending = "" if precision == "fp32" else f"_{precision}"
    return {
        name: stem.with_name(f"{stem.name}{ending}{FORMATS[name].suffix or '_savedmodel'}")
        for name in names
        if name in FORMATS
    }


def replace_folder(source: Path, target: Path) -> None:
    """Copy a folder to the place of another. Raises LrfError where a file, or something else than a SavedModel, is."""
    if target.exists() and not (target / "saved_model.pb").exists():
        raise LrfError(f"{target} is there and is no SavedModel: give another path")
    part = target.with_name(f".part-{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    if target.exists():
        shutil.rmtree(target)
    part.replace(target)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def random_samples(model: Any, count: int = 64) -> Samples:
    """Random inputs of a model in the shape that it takes, where there are no real ones."""
    from lrf_optuna.models.separable import OPEN_SIZE
    from lrf_optuna.runtimes.saved_model import input_tensors, takes_names

    rng, interface = np.random.default_rng(0), Interface.of(model)
    arrays = []
    for tensor in input_tensors(model):
        shape = [count, *(size or OPEN_SIZE for size in tensor.shape[1:])]
        arrays.append(rng.random(shape, np.float32).astype(tensor.dtype))
    inputs = dict(zip(interface.keys, arrays, strict=True)) if takes_names(model) else arrays[0]
    return Samples(inputs, real=False)
