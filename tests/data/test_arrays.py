"""Rows of an array that stays in its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrf_optuna.data.arrays import MappedRows, as_array, batches_of, count_of, rows_of


def test_rows_of_a_file_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    plain = np.arange(60).reshape(20, 3)
    np.save(tmp_path / "a.npy", plain)
    mapped = as_array(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert isinstance(mapped, np.memmap)
    index = np.array([3, 5, 8, 13])
    rows = rows_of(mapped, index)
    assert isinstance(rows, MappedRows)
    assert isinstance(rows[1:3], MappedRows)
    assert isinstance(rows_of(rows, np.array([0, 2])), MappedRows)
    assert (rows.shape, rows.ndim, rows.size, rows.dtype, len(rows), count_of(rows)) == (
        (4, 3),
        2,
        12,
        plain.dtype,
        4,
        4,
    )
    np.testing.assert_array_equal(rows, plain[index])
    np.testing.assert_array_equal(rows[1:3], plain[[5, 8]])
    np.testing.assert_array_equal(rows[np.array([3, 0])], plain[[13, 3]])
    np.testing.assert_array_equal(rows_of(rows, np.array([0, 2])), plain[[3, 8]])
    np.testing.assert_array_equal(rows[2], plain[8])
    np.testing.assert_array_equal(np.concatenate([*map(np.asarray, batches_of(rows, 3))]), plain[index])


def test_rows_in_memory_are_plain_arrays() -> None:
    assert rows_of(np.arange(5), np.array([1, 3])).tolist() == [1, 3]
