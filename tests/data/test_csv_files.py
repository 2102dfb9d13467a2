"""CSV files of image paths or of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf_optuna.data.csv_files import load_csv
from lrf_optuna.data.load_data import load_data
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec
from tests.support.data_files import color, write_images

NAMES = ("cat", "dog", "cat", "emu", "dog", "emu")


def written(folder: Path, header: str | None, rows: list[str], name: str = "labels.csv") -> Path:
    """A CSV file beside six images in a folder `pictures`."""
    write_images(folder / "pictures", 6)
    text = "\n".join([*([header] if header else []), *rows])
    (folder / name).write_text(text + "\n", encoding="utf-8")
    return folder / name


def rows(form: str) -> list[str]:
    parts = ("train", "train", "Training", "test", "test", "val")
    return [form.format(path=f"pictures/{i:03}.png", label=NAMES[i], number=i, part=parts[i]) for i in range(6)]


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("path,label", "{path},{label}"),
        ("Label;File Name", "{label};{path}"),
        (",filename,class", "{number},{path},{label}"),
        ("photo\tspecies", "{path}\t{label}"),
        (None, "{path},{label}"),
        ("id,image,author,label", "{number},{path},me,{label}"),
        ("path,label", '"{path}", {label} '),
    ],
    ids=["names", "other names", "with a counter", "by content", "no header", "more columns", "quoted"],
)
def test_columns_are_found_by_name_or_content(tmp_path: Path, header: str | None, form: str) -> None:
    loaded = load_csv(written(tmp_path, header, rows(form)), {}, (12, 20, 3))
    assert list(loaded.arrays) == ["x_train", "y_train"]
    for i in range(6):
        np.testing.assert_array_equal(loaded.arrays["x_train"][i], color(i))
    assert loaded.arrays["y_train"].tolist() == list(NAMES)
    assert len(loaded.notes) == 1
    assert "Columns of the CSV file" in loaded.notes[0]


def test_the_split_column_makes_the_parts(tmp_path: Path) -> None:
    loaded = load_csv(written(tmp_path, "path,split,label", rows("{path},{part},{label}")), {}, None)
    assert {name: len(array) for name, array in loaded.arrays.items() if name[0] == "x"} == {
        "x_train": 3,
        "x_test": 2,
        "x_val": 1,
    }
    np.testing.assert_array_equal(loaded.arrays["x_test"][1], color(4))
    assert loaded.arrays["y_test"].tolist() == ["emu", "dog"]


def test_texts_of_a_csv_file_become_classes_in_sorted_order(tmp_path: Path) -> None:
    data = load_data(DataSpec(path=str(written(tmp_path, "path,label", rows("{path},{label}")))), 0, (12, 20, 3), 3)
    assert any("cat = 0, dog = 1, emu = 2" in note for note in data.notes)


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = written(tmp_path, "front,back,species,sex", rows("{path},{path},{label},m"))
    with pytest.raises(
        LrfError, match="has the columns front, back, species, sex; say which, as in --key y_train=COLUMN"
    ):
        load_csv(file, {}, None)
    loaded = load_csv(file, {"x_train": "back", "y_train": "species"}, None)
    assert loaded.arrays["y_train"].tolist() == list(NAMES)
    named = load_csv(file, {"y_train.kind": "species", "y_train.sex": "sex"}, None)
    assert set(named.arrays) == {"x_train", "y_train.kind", "y_train.sex"}


def test_several_columns_of_numbers_are_several_labels(tmp_path: Path) -> None:
    loaded = load_csv(written(tmp_path, "path,sun,rain", rows("{path},{number},0")), {}, None)
    np.testing.assert_array_equal(loaded.arrays["y_train"], [[i, 0] for i in range(6)])


def test_a_csv_file_needs_no_labels(tmp_path: Path) -> None:
    file = written(tmp_path, "path,label", rows("{path},{label}"))
    assert list(load_csv(file, {}, None, labels=False).arrays) == ["x_train"]
    assert list(load_csv(written(tmp_path, "path", rows("{path}")), {}, None).arrays) == ["x_train"]


def test_rows_of_numbers_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c,target\n" + "1,2.5,3,yes\n4,5,6,no\n" * 5, encoding="utf-8")
    loaded = load_csv(tmp_path / "t.csv", {}, (3,))
    assert loaded.arrays["x_train"].shape == (10, 3)
    np.testing.assert_array_equal(loaded.arrays["x_train"][0], [1, 2.5, 3])
    assert loaded.arrays["y_train"].tolist() == ["yes", "no"] * 5


def test_rows_of_pixels_take_the_shape_of_the_model(tmp_path: Path) -> None:
    header = ",".join(["label", *(f"pixel{i}" for i in range(6))])
    (tmp_path / "t.csv").write_text(f"{header}\n3,0,1,2,3,4,5\n", encoding="utf-8")
    np.testing.assert_array_equal(load_csv(tmp_path / "t.csv", {}, (2, 3, 1)).arrays["x_train"][0, 1, :, 0], [3, 4, 5])


def one_row(text: str) -> Any:
    return lambda lines: [*lines[:-1], text]


@pytest.mark.parametrize(
    ("header", "change", "words"),
    [
        (
            "path,label",
            one_row("pictures/005.png"),
            "should have 2 cells a row (path, label), but has row 7 has 1 cells",
        ),
        ("path,label", one_row("pictures/005.png,"), "the column label has no label in row 6"),
        ("path,label", one_row("pictures/none.png,cat"), "1 of 6 files cannot be read"),
        ("path,label", lambda lines: [], "has no rows"),
        ("label,label", lambda lines: lines, "has two columns of one name"),
    ],
)
def test_a_wrong_csv_file_is_told_in_one_line(tmp_path: Path, header: str, change: Any, words: str) -> None:
    file = written(tmp_path, header, change(rows("{path},{label}")))
    with pytest.raises(LrfError) as caught:
        load_csv(file, {}, None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_part_and_an_unknown_column_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, "path,where,label", rows("{path},{part},{label}"))
    with pytest.raises(
        LrfError, match="lacks species; give --key x_train=, y_train= or split= one of path, where, label"
    ):
        load_csv(file, {"y_train": "species"}, None)
    with pytest.raises(LrfError, match="the column label should hold train, test and val, but has 'cat'"):
        load_csv(file, {"split": "label", "y_train": "where"}, None)
