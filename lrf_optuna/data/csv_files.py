"""A CSV file as data: image paths with labels, or rows of numbers with a label."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrf_optuna.data.image_files import IMAGE_SUFFIXES, read_images
from lrf_optuna.data.sources import Arrays, LoadedArrays, OpenShape
from lrf_optuna.errors import LrfError

PATH, LABEL, SPLIT = "x_train", "y_train", "split"
"""Keys of `--key` that name the columns of paths, labels and splits."""
COLUMN_NAMES = {
    PATH: ("path", "image_path", "img_path", "file_path", "filepath", "file", "file_name", "filename", "image", "img"),
    LABEL: ("label", "labels", "class", "class_name", "class_id", "target", "category", "y"),
    SPLIT: ("split", "set", "subset", "partition", "part", "dataset", "data_set", "fold"),
}
"""Kind of column -> names that it often has, in small letters."""
SPLIT_NAMES = {
    "train": ("train", "training", "tr"),
    "test": ("test", "testing", "te"),
    "val": ("val", "valid", "validation", "dev"),
}
"""Part -> what the split column calls it, in small letters."""
DELIMITERS = ",;\t|"
LOOKED_AT = 100
"""Rows that tell what a column holds."""

Columns = dict[str, list[str]]


@dataclass(frozen=True)
class CsvLayout:
    """Which column is which: paths or numbers make the inputs, labels may be in several columns or in none."""

    path: str | None
    numbers: list[str]
    labels: list[str]
    named_labels: Mapping[str, str]
    split: str | None

    @property
    def note(self) -> str:
        """The note that says which column was taken for what."""
        inputs = f"{self.path!r} has the images" if self.path else f"{len(self.numbers)} columns have the inputs"
        labels = [*self.labels, *self.named_labels.values()]
        shown = ", ".join(map(repr, labels[:3])) + (", ..." if len(labels) > 3 else "")
        split = f"; {self.split!r} has the parts" if self.split else ""
        has = "has" if len(labels) < 2 else "have"
        return f"Columns of the CSV file: {inputs}; {shown or 'none'} {has} the labels{split}."


def load_csv(path: Path, keys: Mapping[str, str], input_shape: OpenShape | None, labels: bool = True) -> LoadedArrays:
    """The images or rows of a CSV file with their labels, by its split column if it has one.

    Paths are relative to the file. `keys`: `x_train`, `y_train`, `y_train.OUTPUT` or `split` -> name of a column, where
    names and content do not tell. Raises LrfError where the file is broken or columns are not found.
    """
    columns = read_columns(path)
    layout = layout_of(path, columns, keys, labels)
    parts = rows_of_parts(path, columns, layout.split)
    notes: tuple[str, ...] = (layout.note,)
    order = np.concatenate(list(parts.values()))
    if layout.path is None:
        pixels, kept = numbers_of(path, columns, layout.numbers), np.arange(len(order))
        pixels = as_inputs(pixels[order], input_shape)
    else:
        stack = read_images([image_path(path, columns[layout.path][row]) for row in order], input_shape)
        pixels, kept, notes = stack.pixels, stack.kept, (layout.note, *stack.notes)
    of_rows = labels_of(path, columns, layout)
    arrays: Arrays = {}
    start = 0
    for part, rows in parts.items():
        first, last = np.searchsorted(kept, [start, start + len(rows)])
        arrays[f"x_{part}"] = pixels[first:last]
        arrays |= {f"y_{part}{own}": values[order[kept[first:last]]] for own, values in of_rows.items()}
        start += len(rows)
    return LoadedArrays(arrays, notes)


def read_columns(path: Path) -> Columns:
    """Column -> its texts. Columns of a file without a header are called 1, 2 and so on. Raises LrfError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=start.count)
            rows = [row for row in csv.reader(file, delimiter=delimiter) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise LrfError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise LrfError(f"{path} is empty; it should have a column of image paths and one of labels")
    has_header = not any(is_image(cell) or is_number(cell) for cell in rows[0])
    header = [cell.strip() for cell in rows[0]] if has_header else [str(i + 1) for i in range(len(rows[0]))]
    body = rows[has_header:]
    wrong = next((i for i, row in enumerate(body) if len(row) != len(header)), None)
    if wrong is not None or not body or len(set(header)) < len(header):
        what = f"row {wrong + 1 + has_header} has {len(body[wrong])} cells" if wrong is not None else "no rows"
        what = "two columns of one name" if len(set(header)) < len(header) else what
        raise LrfError(f"{path} should have {len(header)} cells a row ({', '.join(header)}), but has {what}")
    return {name: [row[i].strip() for row in body] for i, name in enumerate(header)}


def layout_of(path: Path, columns: Columns, keys: Mapping[str, str], wants_labels: bool) -> CsvLayout:
    """Which column is which: as `keys` say, else by names, else by content. Raises LrfError where it is not clear."""
    named = {key.partition(".")[2]: column for key, column in keys.items() if key.startswith(f"{LABEL}.")}
    unknown = [key for key in keys if key not in COLUMN_NAMES and not key.startswith(f"{LABEL}.")]
    missing = [column for column in keys.values() if column not in columns]
    if unknown or missing:
        what = f"has no key {unknown[0]}" if unknown else f"lacks {', '.join(missing)}"
        raise LrfError(f"{path} {what}; give --key {PATH}=, {LABEL}= or {SPLIT}= one of {', '.join(columns)}")
    split = keys.get(SPLIT) or usual_column(columns, SPLIT, is_split)
    images = keys.get(PATH) or usual_column(columns, PATH, is_image) or by_content(columns, is_image)
    others = [name for name in columns if name not in (split, images, *named.values()) and not is_counter(name)]
    label = keys.get(LABEL) or (None if named else usual_column({name: columns[name] for name in others}, LABEL))
    if images:
        labels = [label] if label else [] if named else others
        several = len(labels) > 1 and not all(all_of(columns[name], is_number) for name in labels)
        numbers: list[str] = []
    else:
        numbers = [name for name in others if name != label and all_of(columns[name], is_number)]
        labels, several = [label] if label else [], not label and not named and wants_labels
    if (several and wants_labels) or not (images or numbers):
        raise LrfError(f"{path} has the columns {', '.join(columns)}; say which, as in --key {LABEL}=COLUMN")
    return CsvLayout(images, numbers, labels if wants_labels else [], named if wants_labels else {}, split)


def usual_column(columns: Columns, kind: str, holds: Any = None) -> str | None:
    """The column whose name is usual for a kind, and which `holds` what it should."""
    found = [name for usual in COLUMN_NAMES[kind] for name in columns if name.lower().replace(" ", "_") == usual]
    return next((name for name in found if holds is None or all_of(columns[name], holds)), None)


def by_content(columns: Columns, holds: Any) -> str | None:
    """The first column that holds what it should."""
    return next((name for name, cells in columns.items() if all_of(cells, holds)), None)


def all_of(cells: Sequence[str], holds: Any) -> bool:
    """Whether the first cells of a column are all of a kind."""
    return all(holds(cell) for cell in cells[:LOOKED_AT])


def is_image(cell: str) -> bool:
    """Whether a cell is the path of an image file."""
    return Path(cell).suffix.lower() in IMAGE_SUFFIXES


def is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_split(cell: str) -> bool:
    """Whether a cell is the name of a part."""
    return part_named(cell) is not None


def is_counter(name: str) -> bool:
    """Whether a column only counts the rows, as pandas writes it."""
    return name.lower() in ("", "index", "unnamed: 0")


def part_named(cell: str) -> str | None:
    """The part that a name of the split column means."""
    return next((part for part, names in SPLIT_NAMES.items() if cell.lower() in names), None)


def rows_of_parts(path: Path, columns: Columns, split: str | None) -> dict[str, Any]:
    """Part -> its rows; all rows are training rows without a split column. Raises LrfError for unknown parts."""
    count = len(next(iter(columns.values())))
    if split is None:
        return {"train": np.arange(count)}
    parts = [part_named(cell) for cell in columns[split]]
    if None in parts or "train" not in parts:
        cell = columns[split][parts.index(None)] if None in parts else ", ".join(sorted(set(columns[split])))
        raise LrfError(f"{path}: the column {split} should hold train, test and val, but has {cell!r}")
    return {part: np.flatnonzero(np.array(parts) == part) for part in SPLIT_NAMES if part in parts}


def image_path(csv_file: Path, cell: str) -> Path:
    """The image file of a cell: relative to the CSV file, with the separators of any system."""
    plain = Path(cell)
    return csv_file.parent / (plain if plain.is_absolute() else Path(cell.replace("\\", "/")))


def numbers_of(path: Path, columns: Columns, names: list[str]) -> Any:
    """Columns of numbers as float32 `(rows, columns)`. Raises LrfError for a cell that is none."""
    for name in names:
        wrong = next((i for i, cell in enumerate(columns[name]) if not is_number(cell)), None)
        if wrong is not None:
            raise LrfError(
                f"{path}: the column {name} should hold numbers, but row {wrong + 1} has {columns[name][wrong]!r}"
            )
    return np.array([columns[name] for name in names]).T.astype(np.float32)


def as_inputs(rows: Any, input_shape: OpenShape | None) -> Any:
    """Rows of numbers `(n, columns)` in the shape that the model takes, where it has as many numbers."""
    fits = input_shape and None not in input_shape and np.prod(input_shape) == rows.shape[1]  # type: ignore[arg-type]
    return rows.reshape(len(rows), *input_shape) if fits else rows  # type: ignore[misc]


def labels_of(path: Path, columns: Columns, layout: CsvLayout) -> dict[str, Any]:
    """ "" or ".OUTPUT" -> the labels of all rows: texts of one column, or numbers of several."""
    named = {f".{output}": np.array(columns[column]) for output, column in layout.named_labels.items()}
    if not layout.labels:
        return named
    for name in layout.labels:
        if "" in columns[name]:
            raise LrfError(f"{path}: the column {name} has no label in row {columns[name].index('') + 1}")
    several = len(layout.labels) > 1
    return named | {"": numbers_of(path, columns, layout.labels) if several else np.array(columns[layout.labels[0]])}
