"""What a report says beside the result: where everything came from, how the model is used, what changed.

The facts are gathered when a model is made, and are a file of the run folder, so that a report that is written again
(by `compare`, say) says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from lrf_optuna.files import write_text


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model came from. `command`: the command line, or that it was Python; `versions`: library -> version."""

    model: str
    data: str
    command: str
    seed: int
    date: str
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageUse:
    """How many images a part has. `source`: where they came from."""

    count: int
    source: str


@dataclass(frozen=True, slots=True)
class Usage:
    """How raw inputs become what the network takes, and how its outputs are read, as lines of Python.

    `shapes`: input -> shape with its batch axis; `prepare` and `read`: code; `needs`: what loading needs beside Keras.
    """

    shapes: Mapping[str, str]
    prepare: str
    read: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class ChangedImage:
    """A test image whose class the smaller network decides in another way. `png`: in base64."""

    png: str
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ChangedDecisions:
    """How many of the test images are decided in another way: right before and wrong now, and the other way round."""

    images: int
    changed: int
    now_wrong: int
    now_right: int
    examples: tuple[ChangedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says beside the result. `model_digest`: of the model that the facts are about.

    `uses`: part of the data -> its images; `sensitivity`: layer -> (keep, loss) of the best option at each keep.
    `task`: what the outputs are for, as Hugging Face names it; empty where it has no name for it.
    """

    model_digest: str
    provenance: Provenance
    uses: Mapping[str, ImageUse]
    recipe: Usage
    task: str = ""
    changed: ChangedDecisions | None = None
    sensitivity: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the facts as JSON."""
        write_text(path, TypeAdapter(Facts).dump_json(self, indent=1).decode() + "\n")

    @classmethod
    def read(cls, path: Path) -> Facts | None:
        """The facts in a file; None where there are none that can be read."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError):
            return None
