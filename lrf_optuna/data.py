"""Images and labels: digits, keras.datasets, an .npz or a folder of class folders -> train, validation and test.

Pixels stay raw (uint8 where they were) until a batch is made, so that a data set is held once and in little memory.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lrf_optuna.config import DataSpec
from lrf_optuna.errors import LrfError, lookup

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[Any]
Shape = tuple[int | None, ...]  # (H, W, C); None is "any"
Arrays = dict[str, Array]  # x_train, y_train, x_test, y_test, and perhaps x_val, y_val

PARTS = ("train", "test", "val")
TEST_SHARE = 0.2  # of a folder without test images
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
NO_TEST = "There were no test images: {share:.0%} of the training images were split off as test images."
NO_VALIDATION = (
    "Validation images were split off the training images ({share:.0%} of them): "
    "a network that was trained on them looks better on them than it is."
)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """One part of a data set: raw `pixels` (N, H, W, C) and integer `labels` (N,)."""

    pixels: Array
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Array | slice) -> Images:
        """The images at `index`, in its order."""
        return Images(self.pixels[index], self.labels[index])


@dataclass(frozen=True)
class Preprocess:
    """(x / divide - mean) / std, channel by channel, as float32: what the network expects of a pixel."""

    divide: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, pixels: Array) -> NDArray[np.float32]:
        """The network's input (N, H, W, C), float32, of raw `pixels` (N, H, W, C)."""
        count, height, width, channels = pixels.shape
        mean, std = np.resize(self.mean, width * channels), np.resize(self.std, width * channels)
        rows = pixels.astype(np.float32).reshape(count, height, width * channels)  # 5 times faster than by pixel
        rows *= (1 / (self.divide * std)).astype(np.float32)
        rows -= (mean / std).astype(np.float32)
        return rows.reshape(pixels.shape)


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts of a data set, what the network expects of a pixel, and what a reader should know (`notes`)."""

    train: Images
    val: Images
    test: Images
    preprocess: Preprocess
    augment: str
    classes: int
    notes: tuple[str, ...]
    source: str

    def calibration(self, count: int, seed: int) -> Images:
        """`count` training images, or all if there are fewer; every prefix holds the classes in about their shares."""
        return self.train.take(_stratified_order(self.train.labels, np.random.default_rng(seed))[:count])


class Augmentation(NamedTuple):
    """What is done at random to each training image."""

    flip: bool
    crop: bool


AUGMENTATIONS = {
    "none": Augmentation(flip=False, crop=False),
    "flip": Augmentation(flip=True, crop=False),
    "crop": Augmentation(flip=False, crop=True),
    "flip-crop": Augmentation(flip=True, crop=True),
}


def augmented(pixels: Array, how: str, rng: np.random.Generator) -> Array:
    """Randomly flipped and shifted copies of raw `pixels` (N, H, W, C); what a shift lays bare is black (zero)."""
    flip, crop = lookup(AUGMENTATIONS, how, "augmentation")
    if crop:
        pixels = _cropped(pixels, rng)
    if flip:
        mirror = rng.random(len(pixels)) < 0.5
        pixels = pixels.copy()
        pixels[mirror] = pixels[mirror, :, ::-1]
    return pixels


def _cropped(pixels: Array, rng: np.random.Generator) -> Array:
    """Each image padded with black and cut to its size at a random place: 4 pixels at 32, in proportion elsewhere."""
    count, height, width, _ = pixels.shape
    down, right = max(1, round(height / 8)), max(1, round(width / 8))
    padded = np.pad(pixels, ((0, 0), (down, down), (right, right), (0, 0)))
    windows = sliding_window_view(padded, (height, width), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    tops, lefts = rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * right + 1, count)
    cropped: Array = windows[np.arange(count), tops, lefts]
    return cropped


def batches(
    images: Images,
    preprocess: Preprocess,
    size: int,
    *,
    augment: str = "none",
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """One epoch as (x, y) of up to `size` images: shuffled and augmented by `rng`, or plain and in order without it."""
    order = None if rng is None else rng.permutation(len(images))
    for start in range(0, len(images), size):
        stop = start + size
        part = images.take(slice(start, stop) if order is None else order[start:stop])
        pixels = part.pixels if rng is None else augmented(part.pixels, augment, rng)
        yield preprocess(pixels), part.labels


def load_data(spec: DataSpec, seed: int, input_shape: Shape | None = None, classes: int | None = None) -> Data:
    """The data of `spec`, checked against a model that takes `input_shape` (H, W, C) and has `classes` outputs.

    Raises an LrfError for files that are missing or broken and for images and labels that do not fit.
    """
    if spec.path == "digits":
        arrays = _digits(seed)
    elif spec.path.startswith("keras:"):
        arrays = _keras_dataset(spec.path.removeprefix("keras:"))
    elif Path(spec.path).is_dir():
        arrays = _folder(Path(spec.path), input_shape, classes)
    else:
        arrays = _npz(Path(spec.path))
    return _assembled(arrays, spec, seed, input_shape, classes)


def data_from_arrays(
    x_train: Array,
    y_train: Array,
    x_test: Array,
    y_test: Array,
    x_val: Array | None = None,
    y_val: Array | None = None,
    *,
    spec: DataSpec | None = None,
    seed: int = 0,
    input_shape: Shape | None = None,
    classes: int | None = None,
) -> Data:
    """The data of arrays: images (N, H, W, C) or (N, H, W), labels as integers (N,), (N, 1) or one-hot (N, K).

    Raises LrfError where they do not fit each other or the model.
    """
    given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "x_val": x_val, "y_val": y_val}
    arrays = {name: np.asarray(array) for name, array in given.items() if array is not None}
    return _assembled(arrays, spec or DataSpec(path="arrays"), seed, input_shape, classes)


def _assembled(arrays: Arrays, spec: DataSpec, seed: int, input_shape: Shape | None, classes: int | None) -> Data:
    """The checked parts; validation, and test for a folder without one, are split off the training images."""
    parts = {part: _images(arrays, part, input_shape) for part in PARTS if {f"x_{part}", f"y_{part}"} & arrays.keys()}
    shapes = {images.pixels.shape[1:] for images in parts.values()}
    if len(shapes) > 1:
        raise LrfError(f"{spec.path}: the parts have images of different shapes: {sorted(shapes)}")
    classes = classes or 1 + max(int(images.labels.max()) for images in parts.values())
    for part, images in parts.items():
        _check_range(images.labels, part, classes)
    notes = []
    for part, share, note in (("test", TEST_SHARE, NO_TEST), ("val", spec.validation, NO_VALIDATION)):
        if part not in parts:
            parts["train"], parts[part] = _split(parts["train"], share, seed)
            notes.append(note.format(share=share))
    preprocess = _preprocess(spec, parts["train"].pixels.shape[-1])
    source = spec.path if spec.path.startswith("keras:") else Path(spec.path).name
    return Data(
        **parts, preprocess=preprocess, augment=spec.augment, classes=classes, notes=tuple(notes), source=source
    )


def _images(arrays: Arrays, part: str, input_shape: Shape | None) -> Images:
    """The part's images and labels, checked against each other and the model's input."""
    if f"x_{part}" not in arrays or f"y_{part}" not in arrays:
        raise LrfError(f"x_{part} and y_{part} go together, but there is only one: give both or neither")
    pixels, labels = arrays[f"x_{part}"], _whole_labels(arrays[f"y_{part}"], part)
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or not pixels.size:
        raise LrfError(f"x_{part} should have images of the shape (N, H, W, C) or (N, H, W), but got {pixels.shape}")
    if any(want not in (None, have) for want, have in zip(input_shape or (), pixels.shape[1:], strict=False)):
        raise LrfError(f"the model takes {input_shape}, the images of x_{part} are {pixels.shape[1:]}")
    if len(pixels) != len(labels):
        raise LrfError(f"x_{part} has {len(pixels)} images, but y_{part} has {len(labels)} labels")
    if pixels.dtype.kind not in "buif":
        raise LrfError(f"x_{part} should hold numbers, but got {pixels.dtype}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise LrfError(f"x_{part} holds NaN or infinite pixels: clean the images first")
    return Images(pixels, labels)


def _whole_labels(labels: Array, part: str) -> NDArray[np.int64]:
    """(N,) integers of labels that are integers (N,) or (N, 1), or one-hot (N, K)."""
    if labels.dtype.kind not in "buif" or not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise LrfError(
            f"y_{part} should hold whole numbers or one-hot rows, but got {labels.dtype} values that are not"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and (np.sort(labels, axis=1) == np.eye(labels.shape[1])[-1]).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        raise LrfError(f"y_{part} should have the shape (N,), (N, 1) or one-hot (N, K), but got {labels.shape}")
    return labels.astype(np.int64)


def _check_range(labels: NDArray[np.int64], part: str, classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        given = f"{labels.min()}..{labels.max()}"
        raise LrfError(f"the labels of y_{part} should be 0..{classes - 1} for {classes} outputs, but are {given}")


def _preprocess(spec: DataSpec, channels: int) -> Preprocess:
    for name, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            raise LrfError(f"{name} should have 1 or {channels} numbers, one a channel, but got {list(values)}")
    return Preprocess(spec.divide, spec.mean, spec.std)


def _stratified_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of which every prefix holds the classes in about their shares.

    The k-th of a class with n members, in random order, comes at a random place in [k / n, (k + 1) / n).
    """
    shuffled = rng.permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sizes = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = (rank + rng.random(len(labels))) / np.repeat(sizes, sizes)
    return grouped[np.argsort(place)]


def _split(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """The images without a stratified `share` of them, and that share; both in their old order."""
    count = max(1, round(share * len(images)))
    if count >= len(images):
        raise LrfError(f"{len(images)} image(s) cannot be split: {share:.0%} of them would leave none to train on")
    order = _stratified_order(images.labels, np.random.default_rng(seed))
    return images.take(np.sort(order[count:])), images.take(np.sort(order[:count]))


def _digits(seed: int) -> Arrays:
    """scikit-learn's 1,797 digits, 8 x 8 pixels of 0..16: 70 % train, 15 % validation, 15 % test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    everything = Images(bunch.images[..., None].astype(np.float32), bunch.target.astype(np.int64))
    rest, test = _split(everything, 0.15, seed)
    train, val = _split(rest, 0.15 / 0.85, seed)
    parts = {"train": train, "val": val, "test": test}
    return {f"x_{n}": p.pixels for n, p in parts.items()} | {f"y_{n}": p.labels for n, p in parts.items()}


def _keras_dataset(name: str) -> Arrays:
    from keras import datasets

    known = {n: getattr(datasets, n) for n in ("mnist", "fashion_mnist", "cifar10", "cifar100")}
    module = lookup(known, name, "Keras data set")
    try:
        (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise LrfError(f"could not download keras:{name} ({error}); give an .npz file instead") from error
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def _npz(path: Path) -> Arrays:
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


def _folder(folder: Path, input_shape: Shape | None, classes: int | None) -> Arrays:
    """The images of class folders, or of train/, test/ and perhaps val/ with class folders in each; held in memory."""
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
            files, labels = _listed(place, names)
            arrays[f"x_{part}"], arrays[f"y_{part}"] = _decoded(files, input_shape), labels
    return arrays


def _listed(place: Path, names: list[str]) -> tuple[list[Path], Array]:
    """The image files in the class folders of `place`, and their classes as indices into `names`."""
    files = sorted(path for path in place.glob("[!.]*/[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES)
    unknown = sorted({path.parent.name for path in files} - set(names))
    if unknown or not files:
        what = f"holds classes that are not in train: {', '.join(unknown)}" if unknown else "holds no images"
        raise LrfError(f"{place} {what}; it should have folders such as {names[0]} with {'/'.join(IMAGE_SUFFIXES)}")
    return files, np.array([names.index(path.parent.name) for path in files])


def _decoded(files: list[Path], input_shape: Shape | None) -> Array:
    """(N, H, W, C): the image files, bilinearly resized to the model's size (the first one's if it takes any)."""
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
