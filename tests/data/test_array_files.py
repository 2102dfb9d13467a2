""".npz files with few arrays or other names, and folders of .npy files that are mapped into memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf_optuna.data.arrays import MappedRows
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.load_data import load_data
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import DataSpec


def images(count: int = 50) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)


def labels(count: int = 50) -> np.ndarray[Any, Any]:
    return np.arange(count) % 3


def npz(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def npy_folder(folder: Path, **arrays: Any) -> str:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return str(folder)


def loaded(path: str, **more: Any) -> Data:
    return load_data(DataSpec(path=path, **more), 0, (8, 6, 3), 3)


def test_an_npz_without_a_test_part_is_split(tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, x_train=images(), y_train=labels()))
    assert (len(data.train), len(data.val), len(data.test)) == (36, 4, 10)
    assert "There were no test images" in data.notes[0]


def test_arrays_with_other_names_are_taken_by_their_keys(tmp_path: Path) -> None:
    path = npz(tmp_path, X=images(), y=labels(), meta=np.zeros(3))
    data = loaded(path, keys={"x_train": "X", "y_train": "y"})
    assert len(data.train) + len(data.val) + len(data.test) == 50


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        (("X", "y"), "--key x_train=X --key y_train=y"),
        (("train_images", "train_labels"), "--key x_train=train_images --key y_train=train_labels"),
        (("X_train", "Y_train"), "--key x_train=X_train --key y_train=Y_train"),
        (("arr_0", "arr_1"), "--key x_train=arr_0 --key y_train=arr_1"),
        (("first", "second"), "name them, as in --key x_train=NAME"),
    ],
)
def test_an_error_suggests_the_keys_of_usual_names(tmp_path: Path, names: tuple[str, str], suggested: str) -> None:
    path = npz(tmp_path, **dict(zip(names, (images(), labels()), strict=True)))
    with pytest.raises(LrfError, match=f"lacks x_train; it holds: {names[0]}, {names[1]}; .*{suggested}$"):
        loaded(path)


def test_a_key_that_the_file_has_not_lists_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="lacks Z; it holds: X, y"):
        loaded(npz(tmp_path, X=images(), y=labels()), keys={"x_train": "Z"})


def test_a_key_for_no_array_of_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LrfError, match="--key train= is unknown: give x_train=KEY"):
        loaded(npz(tmp_path, X=images()), keys={"train": "X"})


def test_arrays_that_are_no_part_of_a_data_set_are_left_alone(tmp_path: Path) -> None:
    data = loaded(npz(tmp_path, x_train=images(), y_train=labels(), x_train_mean=np.zeros(3), names=np.array(["a"])))
    assert data.classes == 3


@pytest.mark.parametrize("form", [npz, npy_folder])
def test_python_objects_are_refused_in_one_line(tmp_path: Path, form: Any) -> None:
    path = form(tmp_path, x_train=images(2), y_train=np.array([{"a": 1}, None]))
    with pytest.raises(LrfError, match=r"y_train.* cannot be read: .*; save it as numbers or texts") as caught:
        loaded(path)
    assert "\n" not in str(caught.value)


def test_npy_files_are_a_data_set_that_stays_in_its_files(tmp_path: Path) -> None:
    data = loaded(npy_folder(tmp_path, x_train=images(), y_train=labels(), x_test=images(20), y_test=labels(20)))
    assert isinstance(data.test.pixels, np.memmap)
    assert isinstance(data.train.pixels, MappedRows)
    everything = np.concatenate([np.asarray(data.train.pixels), np.asarray(data.val.pixels)])
    assert sorted(map(bytes, everything)) == sorted(map(bytes, images()))
    np.testing.assert_array_equal(np.concatenate([data.train.labels, data.val.labels]).sum(), labels().sum())


def test_npy_files_and_an_npz_are_the_same_data(tmp_path: Path) -> None:
    arrays = {"x_train": images(300), "y_train": labels(300)}
    one, other = loaded(npz(tmp_path, **arrays)), loaded(npy_folder(tmp_path / "f", **arrays))
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, part).pixels, np.asarray(getattr(other, part).pixels))
        np.testing.assert_array_equal(getattr(one, part).labels, getattr(other, part).labels)
    for draw in ("calibration", "validation_sample"):
        a, b = getattr(one, draw)(64, 3), getattr(other, draw)(64, 3)
        np.testing.assert_array_equal(a.pixels, b.pixels)
    epochs = [list(data.epoch(64, np.random.default_rng(0))) for data in (one, other)]
    for (x, y), (u, v) in zip(*epochs, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y["logits"], v["logits"])


def test_the_training_images_may_have_their_own_file_name(tmp_path: Path) -> None:
    path = npy_folder(tmp_path, pictures=images(), y_train=labels())
    assert len(loaded(path, keys={"x_train": "pictures"}).train) == 36


def test_images_larger_than_memory_are_read_by_batches(tmp_path: Path) -> None:
    big = np.lib.format.open_memmap(tmp_path / "x_train.npy", mode="w+", dtype=np.float32, shape=(2000, 64, 64, 3))
    big[:] = np.arange(2000)[:, None, None, None]
    del big
    np.save(tmp_path / "y_train.npy", labels(2000))
    tracemalloc.start()
    data = load_data(DataSpec(path=str(tmp_path)), 0, (64, 64, 3), 3)
    data.calibration(64, 0)
    data.validation_sample(64, 0)
    x, _ = next(data.epoch(32, np.random.default_rng(0)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x.shape == (32, 64, 64, 3)
    assert most < 2000 * 64 * 64 * 3 * 4 / 2, "the file is not copied"


def test_a_single_npy_file_has_training_images_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", images())
    with pytest.raises(LrfError, match="there is only x_train: give both, or --labels none"):
        loaded(str(tmp_path / "pictures.npy"))


def test_a_broken_npy_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x_train.npy").write_text("hello", encoding="utf-8")
    with pytest.raises(LrfError, match=r"x_train\.npy cannot be read"):
        loaded(str(tmp_path))
