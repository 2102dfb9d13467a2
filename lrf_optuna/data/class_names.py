"""Labels that are texts become class indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrf_optuna.data.arrays import as_array
from lrf_optuna.data.sources import PARTS
from lrf_optuna.errors import LrfError

TEXTS = "The labels are texts. Classes are numbered"
"""The beginning of the note about labels that are texts."""
SHOWN_NAMES = 5
"""Class names that a note shows, at most."""


def index_names(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The grouped arrays with numbers for labels that are texts, and notes that say which number a text has.

    Texts that are all numbers become these numbers, other texts become their place in sorted order. Raises LrfError for
    a text of validation or test labels that no training label has.
    """
    found, notes = dict(arrays), []
    given = found.get("y_train")
    for output in given if isinstance(given, Mapping) else (None,):
        parts = {f"y_{part}": texts_of(found.get(f"y_{part}"), output) for part in PARTS}
        parts = {name: texts for name, texts in parts.items() if texts is not None}
        if "y_train" not in parts:
            continue
        indexed, note = indexed_texts(parts)
        notes.append(note if output is None else f"{output}: {note}")
        for name, numbers in indexed.items():
            found[name] = numbers if output is None else {**found[name], output: numbers}
    return found, tuple(notes)


def texts_of(labels: Any, output: str | None) -> Any:
    """The labels of an output as an array of texts; None where they are not there or are no texts."""
    labels = labels.get(output) if isinstance(labels, Mapping) else labels
    labels = None if labels is None else as_array(labels)
    if labels is None or labels.dtype.kind not in "USOT":
        return None
    if labels.dtype.kind == "S" or (labels.dtype.kind == "O" and all(isinstance(x, bytes) for x in labels.flat)):
        decoded = [text.decode("utf-8", "replace") for text in labels.flat]
        return np.array(decoded, dtype=str).reshape(labels.shape)
    return np.asarray(labels, dtype=str) if all(isinstance(text, str) for text in labels.flat) else None


def indexed_texts(parts: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Arrays of texts as numbers, and the note that says which text has which number."""
    try:
        numbers = {name: np.char.strip(texts).astype(np.float64) for name, texts in parts.items()}
    except ValueError:
        pass
    else:
        return numbers, "The labels are texts of numbers, which are taken as these numbers."
    names = np.unique(parts["y_train"])
    for name, texts in parts.items():
        if unknown := sorted(set(np.unique(texts)) - set(names)):
            raise LrfError(f"{name} has labels that y_train has not: {', '.join(unknown[:SHOWN_NAMES])}")
    shown = ", ".join(f"{name} = {i}" for i, name in enumerate(names[:SHOWN_NAMES]))
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    indexed = {name: np.searchsorted(names, texts) for name, texts in parts.items()}
    return indexed, f"{TEXTS} in the sorted order of their names: {shown}{more}."
