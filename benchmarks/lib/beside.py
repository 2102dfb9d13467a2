"""What stands beside the project: trained networks, and the data sets that they were trained on."""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from lrf_optuna.chains.conv import Array
    from lrf_optuna.data.dataset import Data

T = TypeVar("T")
SHARED = Path(__file__).resolve().parents[3] / "shared"
SIZED = "imagenet"
"""The data set that is unpacked at the size of a network's input."""


def unpacked(name: str, folder: Path, work: Path) -> Path:
    """The data set's file: unpacked into the work folder once by the folder's unpack.py, else of the folder."""
    script, made = folder / "unpack.py", work / "data" / f"{name}.npz"
    if not script.exists():
        return folder / f"{name}.npz"
    if not made.exists():
        asked = [SIZED, "--size", name.removeprefix(f"{SIZED}_")] if name.startswith(SIZED) else [name]
        subprocess.run([sys.executable, script, made.parent, *asked], check=True)
    return made


def described(network: str, models: Path) -> tuple[dict[str, Any], str]:
    """What the folder's models.json says of a network, and the name of its data set for `unpacked`."""
    from lrf_optuna.errors import lookup

    known = lookup(json.loads((models / "models.json").read_text()), network, "network of models.json")
    return known, f"{SIZED}_{known['input'][1]}" if known["dataset"] == SIZED else known["dataset"]


def read(network: str, models: Path, data: Path, work: Path) -> tuple[Any, Data]:
    """A network of the folder's models.json, and its data set with the preprocessing of its training."""
    import keras

    from lrf_optuna.data.load_data import load_data
    from lrf_optuna.input_sections import DataSpec
    from lrf_optuna.models.load import describe_input

    known, name = described(network, models)
    model = keras.models.load_model(models / f"{network}.keras", compile=False)
    path = str(unpacked(name, data, work))
    spec = DataSpec(path=path, divide=known["divide_by"], mean=tuple(known["mean"]), std=tuple(known["std"]))
    return model, load_data(spec, 0, *describe_input(model))


def loaded(network: str, count: int, models: Path, data: Path, work: Path) -> tuple[Any, Array]:
    """A network of the folder's models.json, and calibration images preprocessed as in its training."""
    model, found = read(network, models, data, work)
    return model, found.preprocess(found.calibration(count, 0).pixels)


def alone(work: Callable[..., T], *args: Any) -> T:
    """The result of a function that runs in a new process: its memory, threads and compiled graphs are its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


def peak() -> float:
    """GiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def results(work: Path) -> list[dict[str, Any]]:
    """The rows that were measured into a work folder, in the order of their files' names."""
    return [json.loads(file.read_text()) for file in sorted(work.glob("*.json"))]
