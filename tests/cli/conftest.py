"""Folders in which the commands of these tests work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.command_line import FAST, done

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, digits_net: Any, digits: Data) -> Path:
    """net.keras and net.npz, which no test changes."""
    folder = tmp_path_factory.mktemp("files")
    digits_net.save(folder / "net.keras")
    parts = {"train": digits.train, "val": digits.val, "test": digits.test}
    images, labels = {f"x_{n}": p.pixels for n, p in parts.items()}, {f"y_{n}": p.labels for n, p in parts.items()}
    np.savez(folder / "net.npz", **images, **labels)
    return folder


@pytest.fixture
def desk(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with net.keras and net.npz in it."""
    folder = tmp_path / "desk"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def studied(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a study of 16 trials was run without tuning; no test changes it."""
    folder = tmp_path_factory.mktemp("studied")
    shutil.copytree(files, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("run", *FAST, "--trials", "16", "--seed", "3")
    return folder


@pytest.fixture
def study(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as the current folder."""
    folder = tmp_path / "study"
    shutil.copytree(studied, folder)
    monkeypatch.chdir(folder)
    return folder
