"""A file is written whole or not at all, and digests tell contents apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrf_optuna.errors import LrfError
from lrf_optuna.files import check_folder, digest, write_text, write_whole


def test_a_file_is_written_whole_over_an_older_one(tmp_path: Path) -> None:
    for text in ("long " * 1000, "short"):
        write_text(tmp_path / "a" / "b.txt", text)
        assert (tmp_path / "a" / "b.txt").read_text() == text
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    write_text(tmp_path / "a.txt", "whole")
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_temporary_file_has_the_suffix_of_the_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "new" / "a.keras", lambda part: part.write_text(part.suffix))
    assert (tmp_path / "new" / "a.keras").read_text() == ".keras"


def test_a_digest_depends_on_every_text_and_number() -> None:
    array = np.arange(6.0)
    assert digest("a", array) == digest("a", array.copy())
    assert len({digest("a", array), digest("b", array), digest("a", array + 1), digest("a")}) == 4


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "folder")
    with pytest.raises(LrfError, match="is not a folder"):
        check_folder(tmp_path / "file" / "folder")
