"""Data of every source become the same three parts, and data that do not fit say so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
from PIL import Image

from lrf_optuna.data.augment import AUGMENTATIONS, augmented
from lrf_optuna.data.dataset import Data, LabeledImages
from lrf_optuna.data.load_data import data_from_arrays, load_data
from lrf_optuna.data.preprocess import Preprocess, preprocess_of
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec

if TYPE_CHECKING:
    from pathlib import Path

DIGITS = DataSpec(path="digits", divide=16)


def arrays(count: int = 60, shape: tuple[int, ...] = (8, 6, 3), classes: int = 3) -> dict[str, Any]:
    """Random uint8 images, whose labels go round."""
    rng = np.random.default_rng(0)
    parts = {"train": count, "test": count // 2}
    images = {f"x_{part}": rng.integers(0, 256, (n, *shape), dtype=np.uint8) for part, n in parts.items()}
    return images | {f"y_{part}": np.arange(n) % classes for part, n in parts.items()}


def shares(labels: np.ndarray[Any, Any], classes: int) -> np.ndarray[Any, Any]:
    return np.bincount(labels, minlength=classes) / len(labels)


def identities(images: LabeledImages) -> set[bytes]:
    return {pixels.tobytes() for pixels in images.pixels}


def saved(folder: Path, **changes: Any) -> DataSpec:
    path = folder / "data.npz"
    np.savez(path, **{name: array for name, array in (arrays() | changes).items() if array is not None})
    return DataSpec(path=str(path))


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(DIGITS, 0, (8, 8, 1), 10)


def test_the_digits_are_split_in_three_without_overlap(digits: Data) -> None:
    parts = (digits.train, digits.val, digits.test)
    assert sum(len(part) for part in parts) == 1797
    assert [round(len(part) / 1797, 2) for part in parts] == [0.7, 0.15, 0.15]
    assert len(set.union(*map(identities, parts))) == sum(len(identities(part)) for part in parts)
    assert digits.notes == ()


def test_every_part_of_a_split_holds_the_classes_in_their_shares(digits: Data) -> None:
    everything = np.concatenate([digits.train.labels, digits.val.labels, digits.test.labels])
    for part in (digits.train, digits.val, digits.test):
        np.testing.assert_allclose(shares(part.labels, 10), shares(everything, 10), atol=0.008)


def test_a_split_follows_the_seed(digits: Data) -> None:
    again, other = load_data(DIGITS, 0), load_data(DIGITS, 1)
    np.testing.assert_array_equal(again.train.pixels, digits.train.pixels)
    assert identities(other.test) != identities(digits.test)


@pytest.mark.parametrize("count", [40, 128, 300, 512])
def test_every_prefix_of_a_calibration_sample_is_stratified(digits: Data, count: int) -> None:
    sample = digits.calibration(512, seed=3).take(slice(0, count))
    expected = shares(digits.train.labels, 10) * count
    assert np.abs(np.bincount(sample.labels, minlength=10) - expected).max() < 2


@pytest.mark.parametrize("count", [40, 128])
def test_judged_images_hold_every_class_whatever_the_order_they_come_in(digits: Data, count: int) -> None:
    by_class = replace(digits, val=digits.val.take(np.argsort(digits.val.labels, kind="stable")))
    judged = by_class.validation_sample(count, 3)
    expected = shares(by_class.val.labels, 10) * count
    assert np.abs(np.bincount(judged.labels, minlength=10) - expected).max() < 2
    assert judged.labels.tolist() == sorted(judged.labels), "in their order"
    assert (
        identities(by_class.validation_sample(count, 3))
        == identities(judged)
        != identities(by_class.validation_sample(count, 4))
    )


def test_a_handful_of_validation_images_is_joined_by_training_images(digits: Data) -> None:
    few = replace(digits, val=digits.val.take(slice(30)))
    assert (few.validation_is_small, digits.validation_is_small) == (True, False)
    judged = identities(few.validation_sample(100000, 0))
    assert judged == identities(few.val) | identities(few.train)
    assert len(few.validation_sample(500, 0)) == 500


def test_few_validation_images_are_all_judged_in_their_order(digits: Data) -> None:
    np.testing.assert_array_equal(digits.validation_sample(2000, 0).pixels, digits.val.pixels)


def test_a_calibration_sample_is_drawn_from_train_without_replacement(digits: Data) -> None:
    sample = digits.calibration(512, seed=3)
    assert identities(sample) <= identities(digits.train)
    assert len(digits.calibration(10_000, seed=3)) == len(digits.train)
    assert len(identities(digits.calibration(10_000, seed=3))) == len(identities(digits.train))


def test_a_calibration_sample_follows_the_seed_and_is_shuffled(digits: Data) -> None:
    first, again, other = (digits.calibration(64, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert identities(first) != identities(other)
    assert (np.diff(first.labels) < 0).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_preprocessing_is_divide_then_mean_then_std(dtype: type) -> None:
    pixels = arrays()["x_train"].astype(dtype)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = Preprocess(255, mean, std)(pixels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, (pixels / 255 - mean) / std, atol=2e-6)


def test_preprocessing_leaves_float_pixels_untouched() -> None:
    pixels = np.ones((2, 4, 4, 1), np.float32)
    Preprocess(2.0, (0.5,), (3.0,))(pixels)
    assert (pixels == 1).all()


def test_an_npz_keeps_raw_pixels_and_splits_off_validation_with_a_note(tmp_path: Path) -> None:
    data = load_data(saved(tmp_path), 0, (8, 6, 3), 3)
    assert data.train.pixels.dtype == np.uint8
    assert (len(data.train), len(data.val), len(data.test), data.source) == (54, 6, 30, "data.npz")
    assert not identities(data.train) & identities(data.val)
    assert ["looks better on them than it is" in note for note in data.notes] == [True]


def test_validation_images_of_their_own_are_used_without_a_note(tmp_path: Path) -> None:
    given = arrays()
    data = load_data(saved(tmp_path, x_val=given["x_test"], y_val=given["y_test"]), 0)
    assert (len(data.train), len(data.val), data.notes) == (60, 30, ())


def test_a_class_with_one_image_can_still_be_split() -> None:
    given = arrays()
    given["y_train"][0] = 3
    assert len(data_from_arrays(given).train) == 54


@pytest.mark.parametrize("kind", ["column", "one-hot", "float"])
def test_labels_of_every_usual_kind_become_integers(kind: str) -> None:
    given = arrays()
    kinds = {"column": lambda y: y[:, None], "one-hot": lambda y: np.eye(3)[y], "float": lambda y: y.astype(float)}
    plain = data_from_arrays(given)
    data = data_from_arrays(given | {name: kinds[kind](given[name]) for name in ("y_train", "y_test")})
    assert data.test.labels.dtype == np.int64
    np.testing.assert_array_equal(data.train.labels, plain.train.labels)
    assert data.classes == 3


def test_images_without_a_channel_axis_fit_a_model_of_one_channel() -> None:
    data = data_from_arrays(arrays(shape=(8, 6)), input_shape=(8, 6, 1), classes=3)
    assert data.test.pixels.shape == (30, 8, 6, 1)


def test_a_model_that_takes_any_size_takes_these() -> None:
    assert data_from_arrays(arrays(), input_shape=(None, None, 3)).test.pixels.shape[1:] == (8, 6, 3)


NAN = np.full((30, 8, 6, 3), np.nan)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"y_test": np.zeros(7, int)}, "x_test has 30 images, but y_test has 7 labels"),
    "rank": ({"x_test": np.zeros((30, 48))}, "x_test should have images of the shape (N, H, W, C) or (N, H, W), but"),
    "shape": ({"x_test": np.zeros((30, 9, 6, 3))}, "the model takes (8, 6, 3), the images of x_test are (9, 6, 3)"),
    "channels": ({"x_test": np.zeros((30, 8, 6))}, "the model takes (8, 6, 3), the images of x_test are (8, 6, 1)"),
    "too many classes": ({"y_test": np.full(30, 3)}, "y_test should be 0..2 for 3 outputs, but are 3..3"),
    "negative": ({"y_test": np.full(30, -1)}, "y_test should be 0..2 for 3 outputs, but are -1..-1"),
    "empty": ({"x_test": np.zeros((0, 8, 6, 3)), "y_test": np.zeros(0)}, "(N, H, W), but got (0, 8, 6, 3)"),
    "nan": ({"x_test": NAN}, "x_test holds NaN or infinite pixels"),
    "text": ({"x_test": np.full((30, 8, 6, 3), "a")}, "x_test should hold numbers, but got <U1"),
    "fractions": ({"y_test": np.full(30, 0.5)}, "y_test should hold whole numbers or one-hot rows"),
    "unknown": ({"y_test": np.full(30, np.nan)}, "whole numbers or one-hot rows, but got NaN"),
    "words": ({"y_test": np.full(30, "cat")}, "y_test should hold whole numbers or one-hot rows"),
    "not one-hot": ({"y_test": np.ones((30, 3))}, "y_test should have the shape (N,), (N, 1) or one-hot (N, K)"),
    "half a part": (
        {"x_val": np.zeros((3, 8, 6, 3))},
        "x_val and y_val go together, but there is only x_val: give both",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_do_not_fit_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    changes, words = WRONG[name]
    with pytest.raises(LrfError) as caught:
        load_data(saved(tmp_path, **changes), 0, (8, 6, 3), 3)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_different_shapes_are_refused() -> None:
    given = arrays() | {"x_test": np.zeros((30, 9, 6, 3))}
    with pytest.raises(LrfError, match="the parts have images of different shapes"):
        data_from_arrays(given, input_shape=(None, None, 3))


def test_a_mean_for_each_of_two_channels_does_not_fit_three() -> None:
    spec = DataSpec(path="arrays", mean=(0.1, 0.2), std=(1.0, 1.0))
    with pytest.raises(LrfError, match=r"mean should have 1 or 3 numbers, one a channel, but got \[0.1, 0.2\]"):
        data_from_arrays(arrays(), spec=spec)


def test_one_image_cannot_be_split() -> None:
    given = {"x_train": np.zeros((1, 4, 4, 1)), "y_train": [0], "x_test": np.zeros((1, 4, 4, 1)), "y_test": [0]}
    with pytest.raises(LrfError, match="cannot be split"):
        data_from_arrays(given)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"no such data: .*none\.npz; give an \.npz file, a folder"):
        load_data(DataSpec(path=str(tmp_path / "none.npz")), 0)


def test_a_file_that_is_no_npz_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(LrfError, match=r"data\.npz is not an \.npz file"):
        load_data(DataSpec(path=str(path)), 0)


def test_missing_training_images_are_told_with_the_arrays_there_are(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="lacks x_train; it holds: x_test, y_train, y_test; name them"):
        load_data(saved(tmp_path, x_train=None), 0)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="cannot be read: Object arrays cannot be loaded"):
        load_data(saved(tmp_path, y_test=np.array([None] * 30)), 0)


def test_an_unknown_keras_data_set_lists_those_there_are() -> None:
    with pytest.raises(LrfError, match=r"unknown Keras data set 'cifar' .*there is: cifar10, cifar100, fashion_mnist"):
        load_data(DataSpec(path="keras:cifar"), 0)


def test_a_keras_data_set_is_taken_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arrays(shape=(8, 6))
    published = [(given["x_train"], given["y_train"][:, None]), (given["x_test"], given["y_test"][:, None])]
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: published)
    data = load_data(DataSpec(path="keras:mnist"), 0, (8, 6, 1), 3)
    assert (data.test.pixels.shape, data.source) == ((30, 8, 6, 1), "keras:mnist")


def test_a_failed_download_says_what_to_give_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure: no route to host")  # as Keras does

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(LrfError, match=r"could not download keras:mnist \(URL fetch failure.*\); give an \.npz"):
        load_data(DataSpec(path="keras:mnist"), 0)


def drawn(folder: Path, count: int = 10, size: tuple[int, int] = (12, 9)) -> Path:
    """Class folders "bright" and "dark" with images of that brightness."""
    for name, grey in (("bright", 240), ("dark", 10)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", size, (grey, grey, index)).save(folder / name / f"{index:02}.png")
    return folder


def test_class_folders_become_resized_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    data = load_data(DataSpec(path=str(drawn(tmp_path))), 0, (8, 6, 3), 2)
    assert data.train.pixels.shape[1:] == (8, 6, 3)
    assert (len(data.train), len(data.val), len(data.test)) == (14, 2, 4)
    np.testing.assert_array_equal(data.train.labels, data.train.pixels[:, 0, 0, 0] < 100)
    assert len(data.notes) == 2
    assert "20% of the training images were split off as test images" in data.notes[0]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_folders_of_train_val_and_test_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    for part, count in (("train", 5), (name, 2), ("test", 3)):
        drawn(tmp_path / part, count)
    data = load_data(DataSpec(path=str(tmp_path)), 0, (None, None, 1), 2)
    assert (len(data.train), len(data.val), len(data.test), data.notes) == (10, 4, 6, ())
    assert data.train.pixels.shape[1:] == (9, 12, 1)


def test_hidden_and_foreign_files_in_a_folder_are_left_alone(tmp_path: Path) -> None:
    drawn(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "dark" / "notes.txt").write_text("not an image", encoding="utf-8")
    assert load_data(DataSpec(path=str(tmp_path)), 0, (8, 6, 3), 2).classes == 2


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    (drawn(tmp_path) / "dark" / "03.png").write_text("not an image", encoding="utf-8")
    with pytest.raises(LrfError, match=r"cannot read the image .*03\.png"):
        load_data(DataSpec(path=str(tmp_path)), 0, (8, 6, 3), 2)


def test_a_folder_with_other_classes_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match=r"one folder a class \(10 outputs\), but holds 2: \['bright', 'dark'\]"):
        load_data(DataSpec(path=str(drawn(tmp_path))), 0, (8, 6, 3), 10)


def test_a_test_folder_with_a_class_of_its_own_is_refused(tmp_path: Path) -> None:
    drawn(tmp_path / "train")
    drawn(tmp_path / "test")
    (tmp_path / "test" / "dark").rename(tmp_path / "test" / "dusk")
    with pytest.raises(LrfError, match="holds classes that are not in train: dusk"):
        load_data(DataSpec(path=str(tmp_path)), 0)


def test_class_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(LrfError, match=r"holds no images; it should have folders such as cats with \.bmp"):
        load_data(DataSpec(path=str(tmp_path)), 0)


@pytest.mark.parametrize("how", AUGMENTATIONS)
def test_augmentation_keeps_shape_and_type_and_leaves_its_argument_alone(how: str) -> None:
    pixels = arrays()["x_train"]
    before = pixels.copy()
    got = augmented(pixels, how, np.random.default_rng(0))
    assert (got.shape, got.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(got, augmented(pixels, how, np.random.default_rng(0)))


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    pixels = arrays(200)["x_train"]
    got = augmented(pixels, "flip", np.random.default_rng(0))
    kept = (got == pixels).all(axis=(1, 2, 3))
    mirrored = (got == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_a_crop_shifts_by_up_to_an_eighth_and_fills_with_black() -> None:
    pixels = np.zeros((500, 32, 16, 1), np.uint8)
    pixels[:, 16, 8] = 1
    got = augmented(pixels, "crop", np.random.default_rng(0))
    _, rows, columns, _ = np.nonzero(got)
    assert len(rows) == 500
    assert set(rows - 16) == set(range(-4, 5))
    assert set(columns - 8) == set(range(-2, 3))
    assert (augmented(pixels + 1, "crop", np.random.default_rng(0)) == 0).any()


def test_an_unknown_augmentation_lists_those_there_are() -> None:
    with pytest.raises(LrfError, match="unknown augmentation 'spin'; there is: crop, flip, flip-crop, none"):
        augmented(arrays()["x_train"], "spin", np.random.default_rng(0))


def test_a_shuffled_epoch_holds_every_image_once_in_an_order_of_the_rng(digits: Data) -> None:
    epochs = [list(digits.epoch(64, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    first, again, other = (np.concatenate([x for x, _ in epoch]) for epoch in epochs)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    ordered = digits.preprocess(digits.train.pixels)
    assert sorted(x.tobytes() for x in first) == sorted(x.tobytes() for x in ordered)


def test_a_sample_of_sorted_images_holds_every_class_and_follows_the_seed(digits: Data) -> None:
    by_class = digits.val.take(np.argsort(digits.val.labels, kind="stable"))
    first, again, other = (by_class.sample(50, seed) for seed in (0, 0, 1))
    assert np.bincount(first.labels, minlength=10).min() >= 3
    assert identities(first) == identities(again) != identities(other)
    assert len(by_class.sample(10**6, 0)) == len(by_class)


def test_the_labels_of_a_model_with_one_output_number_are_yes_or_no() -> None:
    given = {f"x_{part}": np.zeros((4, 8, 8, 1), np.uint8) for part in ("train", "test")}
    given |= {f"y_{part}": np.array([0, 1, 0, 1]) for part in ("train", "test")}
    assert data_from_arrays(given, input_shape=(8, 8, 1), classes=1).test.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(
        LrfError, match=r"y_test should be 0\.\.1 for 2 outputs, but are 0\.\.2; for numbers give --task"
    ):
        data_from_arrays(given | {"y_test": np.array([0, 1, 2, 1])}, input_shape=(8, 8, 1), classes=1)


def test_a_mean_for_gray_images_is_one_number() -> None:
    with pytest.raises(LrfError, match=r"mean should have 1 number, but got \[1.0, 2.0\]"):
        preprocess_of(DataSpec(path="arrays", mean=(1.0, 2.0), std=(1.0,)), 1)
