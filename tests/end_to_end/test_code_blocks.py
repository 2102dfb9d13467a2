"""The code blocks of the README and of the page on studies run, on small data and with few trials."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.pages import PAGES, README, STUDIES, section

import lrf_optuna

if TYPE_CHECKING:
    from lrf_optuna.data.dataset import Data

FEW: dict[str, Any] = {
    "trials": 6,
    "population": 6,
    "calibration": 64,
    "methods": ("svd", "tucker2"),
    "keep": (0.2, 0.4, 0.7),
    "time_at_end": False,
    "tune": False,
    "progress": None,
}
FEW_WORDS = {
    "run": "--trials 6 --population 6 --calibration 64 --methods svd,tucker2 --keep 0.2,0.4,0.7 --no-timing --epochs 1",
    "tune": "--epochs 1",
    "select": "--max-drop 100",
}
"""Command -> options of a small run, which come last and so win over those of the page."""
SLOW = ("--target latency", "lrf-optuna latency", "export fast")
"""What times layers for minutes: tests/end_to_end/test_latency_objective.py has the same on a smaller network."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture(scope="module")
def arrays(digits: Data) -> dict[str, Any]:
    """Digits as pixels of 0..255, which `digits_net` takes divided by 255 and multiplied by 1."""
    parts = {"train": digits.train, "test": digits.test}
    pixels = {f"x_{name}": (part.pixels * (255 / 16)).astype(np.float32) for name, part in parts.items()}
    return pixels | {f"y_{name}": part.labels for name, part in parts.items()}


@pytest.fixture
def small_compress(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`compress` with few trials, as the attribute that the pages call; settings of a page win."""
    found = lrf_optuna.compress

    def call(*args: Any, **settings: Any) -> Any:
        return found(*args, **{**settings, **FEW})

    monkeypatch.setitem(vars(lrf_optuna), "compress", call)
    return call


def test_the_python_of_the_readme_runs(
    digits_net: Any, arrays: dict[str, Any], small_compress: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(PAGES[README], "python")
    assert len([line for line in code.splitlines() if line]) <= 6
    code = code.replace("max_drop=3", "max_drop=100")  # six trials have no good point
    names = {"model": digits_net, "x": arrays["x_train"], "y": arrays["y_train"]}
    exec(code, names | {"x_test": arrays["x_test"], "y_test": arrays["y_test"]})
    assert {"small.keras", "small.tflite", "runs"} <= {path.name for path in tmp_path.iterdir()}


def test_the_parts_of_compress_run_as_the_page_on_studies_says(digits_net: Any, arrays: dict[str, Any]) -> None:
    code = next(block for block in blocks(section(PAGES[STUDIES], "From Python"), "python") if "Proxy" in block)
    search = partial(lrf_optuna.search_front, population=6)
    names: dict[str, Any] = {"model": digits_net, "images": arrays["x_train"][:96] / 255, "data": arrays}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(lrf_optuna), "search_front", lambda proxy, trials: search(proxy, trials=8))
        exec(code, names | {"lrf_optuna": lrf_optuna})


def commands(page: str) -> list[str]:
    """The command lines of the blocks, but those that install something or take minutes."""
    lines = [line.partition("#")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("lrf-optuna") and not any(slow in line for slow in SLOW)]


def test_the_commands_of_the_readme_run_one_after_the_other(
    digits_net: Any, arrays: dict[str, Any], tmp_path: Path
) -> None:
    digits_net.save(tmp_path / "mynet.keras")
    np.savez(tmp_path / "mydata.npz", **arrays)
    lines = commands(PAGES[README])
    assert [line.split()[1] for line in lines] == ["layers", "run", "front", "select", "tune"]
    for line in lines:
        words = [*shlex.split(line)[1:], *shlex.split(FEW_WORDS.get(line.split()[1], ""))]
        found = subprocess.run(
            [sys.executable, "-m", "lrf_optuna", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, (line, found.stderr)
    assert (tmp_path / "runs" / "mynet" / "model.keras").exists()
    assert (tmp_path / "runs" / "mynet" / "report.html").exists()


@pytest.mark.parametrize("name", PAGES)
def test_python_on_a_page_is_python_and_names_what_a_result_has(name: str) -> None:
    named = set()
    for code in blocks(PAGES[name], "python"):
        compile(code, name, "exec")
        named |= set(re.findall(r"\bresult\.(\w+)", code))
    assert all(hasattr(lrf_optuna.RunResult, attribute) for attribute in named)
