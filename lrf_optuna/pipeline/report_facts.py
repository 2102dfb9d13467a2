"""The facts of a report, gathered from a run that has just made a model; no image is passed through a network again."""

from __future__ import annotations

import base64
import io
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.preprocess import KerasPreprocess, NoPreprocess
from lrf_optuna.data.tasks import THRESHOLD, Task
from lrf_optuna.models.model_inputs import input_shapes
from lrf_optuna.processes import processor
from lrf_optuna.report.facts import ChangedDecisions, ChangedImage, Facts, ImageUse, Provenance, Usage

if TYPE_CHECKING:
    from lrf_optuna.config import StudySpec
    from lrf_optuna.pipeline.chosen_network import ChosenNetwork
    from lrf_optuna.pipeline.run import Run
    from lrf_optuna.plans.result import Result
    from lrf_optuna.scoring.option_table import OptionTable

NAMED_LIBRARIES = ("lrf-optuna", "keras", "tensorflow", "optuna", "numpy")
"""Packages whose versions decide what a run gives."""
MOST_EXAMPLES = 6
"""Changed images of each kind that are shown, at most: a row of a page has room for twelve."""
LARGEST_SIDE = 96
"""Pixels of the longer side of a shown image, at most, so that twelve of them take about 200 kB."""
PATH = re.compile(r"\S*[/\\]([^/\\\s]+\.keras)")
"""The path of a model's file, of which a card has the name alone."""
PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")
"""The password in a URL of a database."""


def provenance_of(spec: StudySpec, data: Data) -> Provenance:
    """Where a model comes from that is made now."""
    return Provenance(
        model=spec.model.path,
        data=data.source,
        command=command_line(),
        seed=spec.search.seed,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{processor()}, {platform.system()}",
        versions={"Python": platform.python_version()} | dict(installed_versions()),
    )


def command_line() -> str:
    """The command that runs now, without passwords; where it is none of ours, that it is Python."""
    program = Path(sys.argv[0])
    if program.stem == "lrf-optuna" or (program.name, program.parent.name) == ("__main__.py", "lrf_optuna"):
        return PASSWORD.sub(r"\1:***@", shlex.join(["lrf-optuna", *sys.argv[1:]]))
    return "from Python"


def installed_versions() -> Iterator[tuple[str, str]]:
    """Library -> version, of those that are installed."""
    for name in NAMED_LIBRARIES:
        try:
            yield name.replace("-", "_"), version(name)
        except PackageNotFoundError:
            continue


def image_uses(data: Data, calibration: int) -> dict[str, ImageUse]:
    """Part of the data -> how many images it has, and where they came from."""
    uses = {"calibration": ImageUse(calibration, "a random part of the training images")}
    for name, key, part in (("training", "", data.train), ("validation", "val", data.val), ("test", "test", data.test)):
        source = "split off the training images" if key in data.split_off else "given as a part of the data"
        if key == "val" and data.validation_is_small:
            source += "; as they are few, training images join them where points are compared"
        uses[name] = ImageUse(len(part), source)
    return uses


def usage_of(model: Any, data: Data, needs: str = "") -> Usage:
    """How the model is used, as code."""
    shapes = {name: str((None, *shape)).replace("None", "n", 1) for name, shape in input_shapes(model).items()}
    task = next(iter(data.tasks.values())) if len(data.tasks) == 1 else None
    return Usage(shapes, prepare_code(data, list(shapes)), read_code(task), needs)


def prepare_code(data: Data, inputs: list[str]) -> str:
    """The lines that make `x`, what the network takes, of the raw `pixels`."""
    if isinstance(data.preprocess, NoPreprocess):
        return "x = pixels"
    if isinstance(data.preprocess, KerasPreprocess):
        formula = f'keras.applications.{data.preprocess.module}.preprocess_input({{}}.astype("float32"))'
    else:
        formula = '{}.astype("float32")'
        own = data.preprocess
        formula += f" / {own.divide:g}" if own.divide != 1 else ""
        if any(own.mean):
            formula = f"{wrapped(formula)} - {channel_numbers(own.mean)}"
        if set(own.std) != {1.0}:
            formula = f"{wrapped(formula)} / {channel_numbers(own.std)}"
    if len(inputs) == 1:
        return "x = " + formula.format("pixels")
    return "x = {name: " + formula.format("array") + " for name, array in pixels.items()}"


def wrapped(formula: str) -> str:
    """A formula in brackets, where it has operators."""
    return f"({formula})" if " " in formula else formula


def channel_numbers(values: tuple[float, ...]) -> str:
    """Numbers for each channel as code: one number stands for all."""
    return f"{values[0]!r}" if len(values) == 1 else f"np.array({list(values)!r}, np.float32)"


def read_code(task: Task | None) -> str:
    """The lines that make decisions of `outputs`; nothing where the outputs are read as they are."""
    if task is None or not task.decides:
        return ""
    if task.one_hot:
        return "classes = outputs.argmax(axis=-1)"
    return f"yes = outputs > {THRESHOLD if task.from_probabilities else 0:g}"


def hugging_face_task(data: Data) -> str:
    """The name that Hugging Face has for what the only output is for; empty where it has none."""
    if len(data.tasks) > 1 or isinstance(data.train.pixels, Mapping) or data.train.pixels.ndim != 4:
        return ""
    (task,) = data.tasks.values()
    return {"classes": "image-classification", "map": "image-segmentation"}.get(task.kind, "")


def changed_decisions(data: Data, before: Mapping[str, Values], after: Mapping[str, Values]) -> ChangedDecisions | None:
    """What two networks decide differently, by their outputs for the test images; None where they decide no classes."""
    if len(data.tasks) > 1:
        return None
    ((name, task),) = data.tasks.items()
    if task.kind not in ("classes", "binary") or not task.labeled:
        return None
    labels = np.asarray(data.targets(data.test.labels)[name]).reshape(-1)
    old, new = task.decisions(before[name]), task.decisions(after[name])
    differ = old != new
    wrong, right = differ & (old == labels), differ & (new == labels)
    picked = [*np.flatnonzero(wrong)[:MOST_EXAMPLES], *np.flatnonzero(right)[:MOST_EXAMPLES]]
    examples = tuple(
        ChangedImage(png, *(str(int(values[i])) for values in (labels, old, new)))
        for i in picked
        if (png := png_of(data.test.pixels, int(i)))
    )
    return ChangedDecisions(len(labels), int(differ.sum()), int(wrong.sum()), int(right.sum()), examples)


def png_of(pixels: Any, index: int) -> str:
    """An image as PNG in base64; empty where it is no picture of one, three or four channels."""
    if isinstance(pixels, Mapping) or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3, 4):
        return ""
    values = np.asarray(pixels[index])
    if values.dtype != np.uint8 or values.max(initial=0) <= 16:
        least, most = float(values.min()), float(values.max())
        values = (255 * (values.astype(np.float64) - least) / max(most - least, 1e-12)).astype(np.uint8)
    image = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def sensitivity_of(table: OptionTable) -> dict[str, tuple[tuple[float, float], ...]]:
    """Layer -> (keep, the least expected loss of the network at that keep), for every keep of its options."""
    found = {}
    for site, options in table.items():
        least: dict[float, float] = {}
        for option in options:
            if option.choice.ranks:
                least[option.keep] = min(option.loss, least.get(option.keep, np.inf))
        found[site] = tuple(sorted((keep, float(loss)) for keep, loss in least.items()))
    return found


def write_facts(run: Run, network: ChosenNetwork, result: Result) -> None:
    """Write the facts of a run whose model has just been made.

    What was not computed in this run is that of the facts before: the sensitivity of layers where the search was
    finished already, and the changed decisions where the same model was there already.
    """
    before = Facts.read(run.folder.facts)
    changed = before.changed if before and before.model_digest == result.model_digest else None
    if network.last_outputs:
        changed = changed_decisions(run.data, network.original_outputs, network.last_outputs)
    table = vars(run).get("table")  # a cached property: no table is made for the report alone
    sensitivity = sensitivity_of(table) if table else before.sensitivity if before else {}
    facts = Facts(
        model_digest=result.model_digest,
        provenance=provenance_of(run.spec, run.data),
        uses=image_uses(run.data, result.calibration),
        recipe=usage_of(run.final_model, run.data, PATH.sub(r"\1", network.needs)),
        task=hugging_face_task(run.data),
        changed=changed,
        sensitivity=sensitivity,
    )
    facts.write(run.folder.facts)
