"""The state of a fine-tune between two epochs, and the file that it goes on from after an interrupt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lrf_optuna.data.arrays import Values
from lrf_optuna.files import write_text, write_whole

COLUMNS = ("epoch", "seconds", "loss", "validation_metric")
"""Columns of the rows of a state. The loss is the mean over the steps of an epoch; row 0 is the network before."""
KEPT = "kept"
"""The last column of tuning.csv: 1 in the row whose weights are kept, else 0."""


@dataclass
class TuningState:
    """How it is tuned, what each epoch gave as `rows` in the order of `COLUMNS`, and the weights kept so far.

    `best`: these weights; `kept_epoch`: the epoch that they are of.
    """

    rate: float
    distil_by: str
    best: list[Values]
    rows: list[tuple[int, float, float | None, float]] = field(default_factory=list)
    kept_epoch: int = 0

    @property
    def metrics(self) -> list[float]:
        """The metric on validation images before the fine-tune and after each epoch."""
        return [metric for *_, metric in self.rows]

    @property
    def epochs(self) -> int:
        """Epochs that are done."""
        return len(self.rows) - 1

    @property
    def epochs_since_best(self) -> int:
        """Epochs after the first one with the best metric of all epochs; the network from before does not count."""
        return self.epochs - 1 - int(np.argmax(self.metrics[1:])) if self.epochs else 0

    @property
    def table(self) -> str:
        """The text of tuning.csv."""
        text = io.StringIO()
        rows = [(*row, int(row[0] == self.kept_epoch)) for row in self.rows]
        csv.writer(text, lineterminator="\n").writerows([(*COLUMNS, KEPT), *rows])
        return text.getvalue()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The file of a fine-tune's state, and the table of its epochs beside it; each is written whole or not at all.

    `key`: a digest of all that decides the result. A state with another key is not gone on from.
    """

    path: Path
    table: Path
    key: str

    def write(self, state: TuningState, variables: Mapping[str, Sequence[Any]]) -> None:
        """Write the state, and the `variables` of the model and of the optimizer by name."""
        arrays: dict[str, Any] = {f"best_{i}": value for i, value in enumerate(state.best)}
        arrays |= {f"{name}_{i}": np.asarray(value) for name, each in variables.items() for i, value in enumerate(each)}
        way = {"rate": state.rate, "distil_by": state.distil_by}
        about = json.dumps({"key": self.key, **way, "rows": state.rows, "kept_epoch": state.kept_epoch})

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, about=np.array(about), **arrays)

        write_whole(self.path, save)
        write_text(self.table, state.table)

    def about(self) -> dict[str, Any]:
        """What the file has beside weights: `key`, `rate`, `distil_by`, `rows`, `kept_epoch`; empty without a state."""
        try:
            with np.load(self.path) as found:
                about = json.loads(str(found["about"]))
                return about if about.keys() >= {"key", "rows", "kept_epoch"} else {}
        except (OSError, KeyError, ValueError, AttributeError, BadZipFile):
            return {}

    def epochs_of_another(self) -> int:
        """Epochs that are done of a fine-tune with another key; 0 where there is none."""
        about = self.about()
        return len(about["rows"]) - 1 if about and about["key"] != self.key else 0

    def read(self, weights: Sequence[Any]) -> TuningState | None:
        """The state in the file of a model with as many `weights`; None where there is none of this key."""
        about = self.about()
        if not about or about["key"] != self.key:
            return None
        try:
            with np.load(self.path) as found:
                best, rows = [found[f"best_{i}"] for i in range(len(weights))], [tuple(row) for row in about["rows"]]
                return TuningState(about["rate"], about["distil_by"], best, rows, about["kept_epoch"])
        except (OSError, KeyError, ValueError, BadZipFile):
            return None

    def restore(self, variables: Mapping[str, Sequence[Any]]) -> None:
        """Put the values in the file into the `variables`, as `write` took them."""
        with np.load(self.path) as found:
            for name, each in variables.items():
                for i, variable in enumerate(each):
                    variable.assign(found[f"{name}_{i}"])

    def remove(self) -> None:
        """Remove the file of the state; the table stays."""
        self.path.unlink(missing_ok=True)
