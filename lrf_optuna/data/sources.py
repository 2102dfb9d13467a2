"""Images from scikit-learn's digits, keras.datasets, an .npz file or a folder of class folders, as arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrf_optuna.errors import LrfError, lookup

Pixels = NDArray[Any]
"""Raw images `(N, H, W, C)` of any type of number, or other inputs `(N, ...)`; labels before they are checked."""
Labels = NDArray[np.int64]
OpenShape = tuple[int | None, ...]
"""A shape without the batch axis, such as (H, W, C); None for any size."""
Arrays = dict[str, Pixels]
"""`x_train`, `y_train`, `x_test`, `y_test`, and perhaps `x_val` and `y_val`."""

PARTS = ("train", "test", "val")
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def stratified_order(labels: Labels, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of the indices, such that every prefix holds the classes in about their shares.

    The k-th image of a class with n images, in random order, has a random place in [k / n, (k + 1) / n).
    """
    shuffled = rng.permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = (rank + rng.random(len(labels))) / np.repeat(sizes, sizes)
    return grouped[np.argsort(place)]


def load_digits(seed: int) -> Arrays:
    """scikit-learn's 1,797 digits, 8 x 8 pixels of 0..16: 70 % train, 15 % validation, 15 % test."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    labels = bunch.target.astype(np.int64)
    order = stratified_order(labels, np.random.default_rng(seed))
    cuts = round(0.15 * len(order)), round(0.3 * len(order))
    parts = zip(("test", "val", "train"), np.split(order, cuts), strict=True)
    index = {part: np.sort(chosen) for part, chosen in parts}
    pixels = {f"x_{part}": bunch.images[at][..., None].astype(np.float32) for part, at in index.items()}
    return pixels | {f"y_{part}": labels[at] for part, at in index.items()}


def load_keras_dataset(name: str) -> Arrays:
    """A data set of keras.datasets, which Keras downloads on first use. Raises LrfError where it cannot."""
    from keras import datasets

    modules = {n: getattr(datasets, n) for n in ("mnist", "fashion_mnist", "cifar10", "cifar100")}
    module = lookup(modules, name, "Keras data set")
    try:
        (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise LrfError(f"could not download keras:{name} ({error}); give an .npz file instead") from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def load_npz(path: Path) -> Arrays:
    """The named arrays of an .npz file. Raises LrfError where it is missing, broken or lacks one."""
    if not path.exists():
        raise LrfError(f"no such data: {path}; give an .npz file, a folder of class folders, keras:NAME or digits")
    if not zipfile.is_zipfile(path):
        raise LrfError(f"{path} is not an .npz file; write one with numpy.savez(x_train=, y_train=, x_test=, y_test=)")
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = [f"{kind}_{part}" for part in PARTS for kind in "xy"]
            missing = [name for name in wanted[:4] if name not in file]
            if missing:
                raise LrfError(f"{path} lacks {', '.join(missing)}; it holds: {', '.join(file) or 'nothing'}")
            arrays = {name: file[name] for name in wanted if name in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise LrfError(f"{path} cannot be read: {error}") from error
    return arrays


def load_folder(folder: Path, input_shape: OpenShape | None, classes: int | None) -> Arrays:
    """The images of class folders, or of train/, test/ and perhaps val/ with class folders in each, all in memory.

    Raises LrfError where the folders do not fit each other or the model's `classes`, or where a file is no image.
    """
    places = {"train": folder / "train", "test": folder / "test", "val": folder / "val"}
    if (folder / "validation").is_dir():
        places["val"] = folder / "validation"
    if not places["train"].is_dir():
        places = {"train": folder}
    names = sorted(path.name for path in places["train"].glob("[!.]*") if path.is_dir())
    if not names or (classes and len(names) != classes):
        wanted = f" ({classes} outputs)" if classes else ""
        raise LrfError(
            f"{places['train']} should hold one folder a class{wanted}, but holds {len(names)}: {names[:10]}"
        )
    arrays: Arrays = {}
    for part, place in places.items():
        if place.is_dir():
            files, labels = list_images(place, names)
            arrays[f"x_{part}"], arrays[f"y_{part}"] = decode(files, input_shape), labels
    return arrays


def list_images(place: Path, names: list[str]) -> tuple[list[Path], Pixels]:
    """The image files in the class folders of `place`, and their classes as indices into `names`."""
    files = sorted(path for path in place.glob("[!.]*/[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES)
    unknown = sorted({path.parent.name for path in files} - set(names))
    if unknown or not files:
        what = f"holds classes that are not in train: {', '.join(unknown)}" if unknown else "holds no images"
        raise LrfError(f"{place} {what}; it should have folders such as {names[0]} with {'/'.join(IMAGE_SUFFIXES)}")
    return files, np.array([names.index(path.parent.name) for path in files])


def decode(files: list[Path], input_shape: OpenShape | None) -> Pixels:
    """The pixels `(N, H, W, C)` of image files, resized to the model's size; to the first file's if it takes any."""
    from PIL import Image

    height, width, channels = input_shape or (None, None, None)
    mode = lookup({"1": "L", "3": "RGB", "4": "RGBA"}, str(channels or 3), "number of channels for image files")
    decoded = []
    for file in files:
        try:
            with Image.open(file) as image:
                height, width = height or image.height, width or image.width
                decoded.append(np.asarray(image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise LrfError(f"cannot read the image {file}: {error}") from error
    return np.stack(decoded)
