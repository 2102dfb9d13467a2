"""The formats that a network is exported to, the runtimes that run them, and what has to be installed for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from lrf_optuna.errors import LrfError, lookup

PRECISIONS = ("fp32", "fp16", "int8")
"""Types of the weights in a file; int8 is full integer arithmetic, calibrated on images."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: its suffix, the batch it has by default, its precisions, the modules that write and run it.

    `batch`: the number of images of a call, or None for any. `extra`: the extra of this package with the modules.
    """

    suffix: str
    batch: int | None
    precisions: tuple[str, ...]
    modules: tuple[str, ...] = ()
    extra: str = ""


FORMATS = {
    "litert": Format(".tflite", 1, PRECISIONS),
    "onnx": Format(".onnx", None, PRECISIONS, ("onnx", "tf2onnx", "onnxruntime"), "onnx"),
    "savedmodel": Format("", None, ("fp32",)),
}
"""Name of a format -> what is known of it. LiteRT files run in TensorFlow's interpreter where ai-edge-litert is not."""
RUNTIMES = {"keras": (), "litert": (), "onnx": FORMATS["onnx"].modules}
"""Name of a runtime -> the modules that it needs beside TensorFlow, whose own interpreter runs LiteRT files, too."""


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """How files are written and compared.

    `batch`: "1" or another number, "any", or empty for the format's own: LiteRT plans memory for one size, and
    recurrent layers convert for a fixed size alone. `images`: test images on which files are compared with Keras; 1,000
    give a standard error of about one point of accuracy, and the comparison itself is between the same images.
    `calibration`: training images of int8; more than some hundreds changes ranges of activations little.
    """

    precision: str = "fp32"
    batch: str = ""
    with_preprocessing: bool = False
    images: int = 1000
    calibration: int = 256

    def batch_of(self, name: str) -> int | None:
        """The images of a call in a format; None for any. Raises LrfError for what is no number above 0."""
        if not self.batch:
            return FORMATS[name].batch
        if self.batch == "any":
            return None
        if not self.batch.isdigit() or int(self.batch) < 1:
            raise LrfError(f"--batch should be 1 or more, or any, but got {self.batch!r}")
        return int(self.batch)


def check_formats(names: Sequence[str], settings: ExportSettings) -> None:
    """Raises LrfError for an unknown format, a precision that it has not, and modules that are not installed."""
    if not names:
        raise LrfError(f"no format is given: give some of {', '.join(FORMATS)}")
    for name in names:
        found = lookup(FORMATS, name, "format")
        if settings.precision not in found.precisions:
            others = ", ".join(other for other, own in FORMATS.items() if settings.precision in own.precisions)
            raise LrfError(f"{name} has no {settings.precision}: export to {others or ', '.join(FORMATS)}")
        settings.batch_of(name)
        check_modules(name, found.modules, found.extra)


def check_runtimes(names: Sequence[str]) -> None:
    """Raises LrfError for an unknown runtime, and for one that is not installed."""
    for name in names:
        check_modules(name, lookup(RUNTIMES, name, "runtime"), name)


def check_modules(name: str, modules: Sequence[str], extra: str) -> None:
    """Raises LrfError where modules are not installed, with the command that installs them."""
    if missing := [module.replace("_", "-") for module in modules if find_spec(module) is None]:
        raise LrfError(f"{name} needs {' and '.join(missing)}: pip install 'lrf-optuna[{extra}]'")


def installed_runtimes() -> list[str]:
    """The runtimes that can be timed here."""
    return [name for name, modules in RUNTIMES.items() if all(find_spec(module) for module in modules)]


def format_of(path: str) -> str:
    """The format that a file name means by its suffix. Raises LrfError for a suffix that no format has."""
    suffixes = {found.suffix: name for name, found in FORMATS.items()}
    ending = next((suffix for suffix in suffixes if suffix and path.endswith(suffix)), None)
    if ending is None and "." in path.rpartition("/")[2]:
        raise LrfError(f"{path} has no suffix of a format: give .tflite, .onnx, or a folder for a SavedModel")
    return suffixes[ending or ""]
