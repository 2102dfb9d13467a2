"""The commands about other runtimes: `export` writes files for them, `latency` measures milliseconds in them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrf_optuna.cli import options as o
from lrf_optuna.cli.output import Output
from lrf_optuna.cli.studies import check_file, check_files, check_study
from lrf_optuna.cli.terminal import session
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DATA_FORMS
from lrf_optuna.report.runtime_tables import export_table, latency_table
from lrf_optuna.runtimes.formats import FORMATS, RUNTIMES, ExportSettings, check_formats, check_runtimes
from lrf_optuna.setting_fields import is_file_name

if TYPE_CHECKING:
    from lrf_optuna.plans.result import Export
    from lrf_optuna.runtimes.latency import LatencyRow

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
"""Suffixes by which the argument of `export` is a model file and no study."""
Source = Annotated[str, typer.Argument(help="A study, its run folder, or a model file.", metavar="NAME|FILE")]
Formats = Annotated[
    str, o.option(f"Formats, separated by commas: {', '.join(FORMATS)}.", default="litert", unit="NAMES")
]
RunFormats = Annotated[
    str | None, o.option(f"Also export the model to these formats: {', '.join(FORMATS)}.", "--export", unit="NAMES")
]
Half = Annotated[bool, o.option("Weights of 16 bits.", "--fp16")]
Integer = Annotated[bool, o.option("Full integer arithmetic of 8 bits, calibrated on training images.", "--int8")]
WithPreprocessing = Annotated[bool, o.option("The files take raw pixels.", "--with-preprocessing")]
FileBatch = Annotated[
    str, o.option("Images of a call, or any.", "--batch", default="1 for litert, else any", unit="NUMBER")
]
FilesOut = Annotated[Path | None, o.option("Where the files go.", default="beside the model", unit="FOLDER")]
Runtimes = Annotated[
    str | None, o.option(f"Runtimes: {', '.join(RUNTIMES)}.", "--runtime", default="all installed", unit="NAMES")
]
BatchSizes = Annotated[str, o.option("Images of a call.", default="1,64", unit="NUMBERS")]
ThreadCounts = Annotated[str, o.option("Threads of a runtime: numbers, or all.", default="1,all", unit="NUMBERS")]


@o.with_settings(
    *("data.path", "data.divide", "data.mean", "data.std", "data.preprocess", "search.storage"), default="the study's"
)
def export(
    output: Output,
    settings: dict[str, Any],
    source: Source,
    to: Formats = "litert",
    fp16: Half = False,
    int8: Integer = False,
    with_preprocessing: WithPreprocessing = False,
    batch: FileBatch = "",
    out: FilesOut = None,
) -> None:
    """Write the model for LiteRT, ONNX or TensorFlow, run every file, and compare it with the Keras model.

    A study's model is compared on its test images, a model file on --data, else on random inputs.
    """
    if fp16 and int8:
        raise LrfError("--fp16 goes with no --int8: give one of them")
    names = names_of(to)
    wanted = ExportSettings("fp16" if fp16 else "int8" if int8 else "fp32", batch, with_preprocessing)
    check_formats(names, wanted)
    rows = export_rows(source, names, wanted, settings, out, output)
    output.result([asdict(row) for row in rows], export_table(rows))
    if all(row.problem for row in rows):
        raise LrfError(f"nothing could be exported: {rows[0].problem}")


def export_rows(
    source: str, names: list[str], wanted: ExportSettings, settings: dict[str, Any], out: Path | None, output: Output
) -> list[Export]:
    """The exports of a study's model or of a model file."""
    is_model = Path(source).suffix.lower() in MODEL_SUFFIXES
    if is_model:
        check_file("model file", source, "a .keras, .h5 or .hdf5 file, or the name of a study")
        if (data := settings.get("data.path")) and is_file_name(data):
            check_file("data", data, DATA_FORMS)
        settings.pop("search.storage", None)
        with session(Path(source).parent, output):
            from lrf_optuna.pipeline.export import export_file

            return export_file(Path(source), names, wanted, settings, out)
    where = source, settings.pop("search.storage", None), out
    if settings:
        raise LrfError("a study has its own data: give data and preprocessing with a model file alone")
    check_study(*where)
    from lrf_optuna.pipeline.run_folder import locate

    found = locate(*where)
    check_files(found.spec)
    with session(found.folder.path, output) as progress:
        from lrf_optuna.pipeline.export import export_run
        from lrf_optuna.pipeline.run import Run

        return export_run(Run.resume(found, found.spec, progress), names, wanted)


@o.with_settings()
def latency(
    output: Output,
    found: o.Found,
    runtime: Runtimes = None,
    batch: BatchSizes = "1,64",
    threads: ThreadCounts = "1,all",
) -> None:
    """Measure milliseconds of the original and of the smaller model, in turns, in every runtime."""
    runtimes = names_of(runtime or "")
    check_runtimes(runtimes)
    batches = positive_numbers("--batch", batch)
    counts = [0 if text == "all" else positive_numbers("--threads", text)[0] for text in names_of(threads)]
    with session(found.folder.path, output) as progress:
        from lrf_optuna.pipeline.export import study_latencies

        rows = study_latencies(found, runtimes, batches, counts, progress)
    output.result([as_object(row) for row in rows], "", latency_table(rows))


def as_object(row: LatencyRow) -> dict[str, Any]:
    """A row as `--json` prints it."""
    found = asdict(row)
    return {**row.place._asdict(), "version": row.version, **{key: found[key] for key in ("timings", "problems")}}


def names_of(text: str) -> list[str]:
    """The names in a text that commas separate, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def positive_numbers(name: str, text: str) -> list[int]:
    """The numbers above 0 in a text. Raises LrfError for others."""
    parts = names_of(text)
    if not parts or not all(part.isdigit() and int(part) for part in parts):
        raise LrfError(f"{name} should be whole numbers above 0, as in 1,64, but got {text!r}")
    return list(map(int, parts))
