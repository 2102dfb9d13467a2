"""Class folders and folders of loose images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lrf_optuna.data.image_folders import load_folder
from lrf_optuna.errors import LrfError
from tests.support.data_files import color, write_image, write_images


def test_loose_images_are_images_without_labels(tmp_path: Path) -> None:
    write_images(tmp_path, 5)
    loaded = load_folder(tmp_path, (12, 20, 3), 10)
    assert list(loaded.arrays) == ["x_train"]
    np.testing.assert_array_equal(loaded.arrays["x_train"][4], color(4))


def test_loose_images_in_folders_of_parts_are_these_parts(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("test", 2), ("valid", 3)):
        write_images(tmp_path / part, count)
    arrays = load_folder(tmp_path, None, None).arrays
    assert {name: len(array) for name, array in arrays.items()} == {"x_train": 5, "x_test": 2, "x_val": 3}


def test_images_in_any_folders_need_no_classes_where_no_labels_are_wanted(tmp_path: Path) -> None:
    write_images(tmp_path / "day one" / "morning", 3)
    write_images(tmp_path / "day two", 2)
    write_images(tmp_path, 1)
    arrays = load_folder(tmp_path, None, 10, labels=False).arrays
    assert (list(arrays), len(arrays["x_train"])) == (["x_train"], 6)


def test_class_folders_may_have_folders_in_them(tmp_path: Path) -> None:
    write_images(tmp_path / "cat" / "2020", 2)
    write_images(tmp_path / "cat", 1, start=5)
    write_images(tmp_path / "dog", 2)
    assert load_folder(tmp_path, None, 2).arrays["y_train"].tolist() == [0, 0, 0, 1, 1]


def test_loose_images_beside_class_folders_are_said(tmp_path: Path) -> None:
    for name in ("cat", "dog", "."):
        write_images(tmp_path / name, 2)
    loaded = load_folder(tmp_path, None, 2)
    assert len(loaded.arrays["x_train"]) == 4
    assert loaded.notes == ("2 images beside the class folders have no class and were left out.",)


def test_an_unreadable_file_takes_its_label_with_it(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 500)):
        for shade, name in enumerate(("cat", "dog")):
            for i in range(60):
                write_image(
                    tmp_path / part / name / f"{i:03}.png", np.full((4, 4, 3), 100 * shade + start // 10, np.uint8)
                )
    (tmp_path / "train" / "cat" / "030.png").write_text("no image", encoding="utf-8")
    (tmp_path / "test" / "dog" / "007.png").write_text("no image", encoding="utf-8")
    loaded = load_folder(tmp_path, None, 2)
    for part, offset in (("train", 0), ("test", 50)):
        pixels, labels = loaded.arrays[f"x_{part}"], loaded.arrays[f"y_{part}"]
        assert len(pixels) == len(labels) == 119
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], 100 * labels + offset)
    assert len(loaded.notes) == 1


def test_other_classes_than_the_model_has_are_refused_with_a_way_out(tmp_path: Path) -> None:
    write_images(tmp_path / "all", 2)
    with pytest.raises(LrfError, match=r"\(10 outputs\), but holds 1: \['all'\]; .* give --labels none"):
        load_folder(tmp_path, None, 10)


def test_a_part_without_images_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 2)
    (tmp_path / "test").mkdir()
    with pytest.raises(LrfError, match="test holds no images; it should have images with"):
        load_folder(tmp_path, None, None)
    shutil.rmtree(tmp_path / "test")
    assert len(load_folder(tmp_path, None, None).arrays["x_train"]) == 2
