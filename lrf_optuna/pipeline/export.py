"""`export`, and the exported files and milliseconds of a study: on its own images, with its own metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec, ModelSpec
from lrf_optuna.models.evaluation import overall_metric
from lrf_optuna.models.load import load_model
from lrf_optuna.models.model_files import from_file, load_like
from lrf_optuna.pipeline.load_inputs import DATA_OBJECT, MODEL_OBJECT, GivenData, dataset
from lrf_optuna.pipeline.python_words import python_words
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.run_folder import ExistingStudy
from lrf_optuna.plans.result import Export, Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.runtimes.exports import Exporter, Samples, file_paths, random_samples
from lrf_optuna.runtimes.formats import ExportSettings, check_formats, format_of, installed_runtimes
from lrf_optuna.runtimes.latency import LatencyRow, Place, model_latencies


@python_words()
def export(
    model: Any,
    path: str | Path,
    *,
    data: GivenData = None,
    preprocess: dict[str, Any] | str | None = None,
    precision: str = "fp32",
    batch: int | str | None = None,
    with_preprocessing: bool = False,
) -> Export:
    """Write a model for another runtime, run the file, and compare it with the Keras model.

    `model`: a Keras model, or what `--model` takes. `path`: FILE.tflite, FILE.onnx, or a folder for a SavedModel.
    `data`, `preprocess`: as `compress` takes them; without data the inputs are random and no metric is measured.
    `precision`: fp32, fp16 or int8, which needs data. `batch`: images of a call, or "any"; by default 1 for LiteRT and
    any for the others. `with_preprocessing`: the file takes raw pixels. Raises LrfError where the model cannot be
    converted, with the layer and its operation where the converter names them.
    """
    loaded = load_model(str(model)) if isinstance(model, str | Path) else model
    named = {"preprocess": preprocess} if isinstance(preprocess, str) else dict(preprocess or {})
    spec = bare_spec(data if isinstance(data, str | Path) else None, {f"data.{key}": own for key, own in named.items()})
    settings = ExportSettings(precision, "" if batch is None else str(batch), with_preprocessing)
    samples = samples_of(loaded, spec, None if isinstance(data, str | Path) else data, settings)
    (row,) = Exporter(loaded, samples, settings).export({format_of(str(path)): Path(path)})
    if row.problem:
        raise LrfError(f"{path}: {row.problem}")
    return row


def bare_spec(data: str | Path | None, options: dict[str, Any]) -> StudySpec:
    """The settings of a model without a study."""
    plain = StudySpec(name="export", model=ModelSpec(path=MODEL_OBJECT), data=DataSpec(path=DATA_OBJECT))
    return plain.override({**options, "data.path": data})


def samples_of(model: Any, spec: StudySpec, data: GivenData, settings: ExportSettings) -> Samples:
    """Inputs to compare files on: of data where there are some, else random ones."""
    if data is None and spec.data.path == DATA_OBJECT:
        if settings.with_preprocessing:
            raise LrfError("--with-preprocessing needs the data and their preprocessing: give --data")
        return random_samples(model)
    return real_samples(dataset(spec, data, model), spec.search.seed, settings)


def real_samples(data: Data, seed: int, settings: ExportSettings) -> Samples:
    """Test images with the tasks' metric, and training images to calibrate with.

    Without any labels there is no metric.
    """
    test, calibration = data.test.sample(settings.images, seed), data.calibration(settings.calibration, seed)
    labels = data.targets(test.labels)
    measure = partial(overall_metric, data.tasks, labels) if labels else None
    return Samples(test.pixels, calibration.pixels, data.preprocess, measure)


def export_run(run: Run, names: Sequence[str], settings: ExportSettings) -> list[Export]:
    """Export the model of a run's folder, and write the comparison into result.json and the report.

    Rows of other formats and precisions stay. Raises LrfError where the selected point has no model yet.
    """
    check_formats(names, settings)
    result = run.folder.chosen_result()
    model = run.final_model or load_like(run.folder.model, run.model)
    samples = real_samples(run.data, run.spec.search.seed, settings)
    with run.progress.task("exporting and comparing", 1) as step:
        paths = file_paths(run.folder.path / "model", names, settings.precision)
        rows = Exporter(model, samples, settings).export(paths)
        step(1)
    kept = {(row.format, row.precision): row for row in [*result.exports, *rows]}
    write_exports(run, replace(result, exports=list(kept.values())))
    return rows


def write_exports(run: Run, result: Result) -> None:
    """Write the report and result.json again."""
    run.folder.write_report(run.record, run.record.candidates(), result)
    run.folder.write_result(result)


def export_file(
    path: Path, names: Sequence[str], settings: ExportSettings, options: dict[str, Any], out: Path | None = None
) -> list[Export]:
    """Export a model file to files beside it, or in the folder `out`. `options`: settings of the data, if any."""
    check_formats(names, settings)
    model = load_model(str(path))
    samples = samples_of(model, bare_spec(None, options), None, settings)
    return Exporter(model, samples, settings).export(
        file_paths((out or path.parent) / path.stem, names, settings.precision)
    )


def study_latencies(
    found: ExistingStudy,
    runtimes: Sequence[str] = (),
    batches: Sequence[int] = (1, 64),
    threads: Sequence[int] = (1, 0),
    progress: Progress = SILENT,
) -> list[LatencyRow]:
    """The milliseconds of a study's original and of its smaller model, in turns.

    By default in every runtime that is installed. `threads`: 0 is all processors. Sizes that the model leaves open are
    taken as 64.
    """
    result = found.folder.chosen_result()
    original = original_of(found)
    models = {"original": original, result.final_state: load_like(found.folder.model, original)}
    chosen = runtimes or installed_runtimes()
    places = [Place(runtime, batch, count) for runtime in chosen for batch in batches for count in threads]
    return model_latencies(models, places, progress=progress)


def original_of(found: ExistingStudy) -> Any:
    """The original of a study as its user gave it. Raises LrfError where it was an object of Python."""
    path = found.spec.model.path
    if path == MODEL_OBJECT:
        raise LrfError("the model of this study was a Python object: save it as a .keras file and run it from there")
    if path.startswith("zoo:"):
        return from_file(found.folder.path / "original.keras")
    return load_model(path)
