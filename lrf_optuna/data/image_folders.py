"""Folders of images: class folders, folders of loose images without labels, and train, test and val folders of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lrf_optuna.data.image_files import IMAGE_SUFFIXES, read_images
from lrf_optuna.data.sources import Arrays, LoadedArrays, OpenShape
from lrf_optuna.errors import LrfError

PART_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
"""Part of a data set -> names of its folder."""


def load_folder(folder: Path, input_shape: OpenShape | None, classes: int | None, labels: bool = True) -> LoadedArrays:
    """The images of class folders or loose ones, or of train/, test/ and perhaps val/ with such in each.

    Loose images have no labels; nor have others where `labels` is false. Raises LrfError where the folders do not fit
    each other or the model's `classes`, where there are no images, and where more than a few files cannot be read.
    """
    places = part_folders(folder)
    names = sorted(path.name for path in places["train"].glob("[!.]*") if path.is_dir())
    loose = not labels or (not names and bool(images_below(places["train"], "*")))
    if not loose and (not names or (classes and len(names) != classes)):
        wanted = f" ({classes} outputs)" if classes else ""
        remedy = "; for images without labels give --labels none" if names else ""
        given = f"{places['train']} should hold one folder a class{wanted}, but holds {len(names)}: {names[:10]}"
        raise LrfError(given + remedy)
    pattern = "**/*" if loose else "*/**/*"
    files = {part: images_below(place, pattern) for part, place in places.items()}
    check_found(places, files, names, loose)
    stack = read_images([file for part in files.values() for file in part], input_shape)
    arrays: Arrays = {}
    start = 0
    for part, own in files.items():
        kept = stack.kept[(stack.kept >= start) & (stack.kept < start + len(own))] - start
        first = int(np.searchsorted(stack.kept, start))
        arrays[f"x_{part}"] = stack.pixels[first : first + len(kept)]
        if not loose:
            classes_of = np.array([names.index(class_of(file, places[part])) for file in own])
            arrays[f"y_{part}"] = classes_of[kept]
        start += len(own)
    return LoadedArrays(arrays, (*stack.notes, *left_out(places, loose)))


def part_folders(folder: Path) -> dict[str, Path]:
    """Part -> its folder; the whole folder is the training part where it has no folder of that name."""
    found = {
        part: next(folder / name for name in names if (folder / name).is_dir())
        for part, names in PART_FOLDERS.items()
        if any((folder / name).is_dir() for name in names)
    }
    return found if "train" in found else {"train": folder}


def images_below(place: Path, pattern: str) -> list[Path]:
    """The image files that a pattern finds below a folder, in the order of their paths; hidden ones are left alone."""
    found = (path for path in place.glob(pattern) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(name.startswith(".") for name in path.relative_to(place).parts))


def class_of(file: Path, place: Path) -> str:
    """The class folder of a file."""
    return file.relative_to(place).parts[0]


def check_found(places: Mapping[str, Path], files: Mapping[str, list[Path]], names: list[str], loose: bool) -> None:
    """Raises LrfError for a part without images, or with classes that the training part has not."""
    for part, place in places.items():
        unknown = set() if loose else {class_of(file, place) for file in files[part]} - set(names)
        if unknown or not files[part]:
            foreign = f"holds classes that are not in train: {', '.join(sorted(unknown))}"
            what, suffixes = foreign if unknown else "holds no images", "/".join(IMAGE_SUFFIXES)
            where = "images" if loose else f"folders such as {names[0]}"
            raise LrfError(f"{place} {what}; it should have {where} with {suffixes}")


def left_out(places: Mapping[str, Path], loose: bool) -> list[str]:
    """The note on loose images beside class folders."""
    count = 0 if loose else sum(len(images_below(place, "*")) for place in places.values())
    return [f"{count} images beside the class folders have no class and were left out."] if count else []
