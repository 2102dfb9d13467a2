"""The notebook in studies/ runs in a real kernel without an error or a warning, and its outputs are fit to be read."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

from benchmarks.pages.notebook import NOTEBOOK, executed, is_greeting

LARGEST = 200_000
"""Bytes of the notebook with its outputs, at most."""
CALLS = ("compress", "front", "figures", "report", "choose", "export")


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def run_again(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
        return executed(NOTEBOOK, folder), folder


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebook_is_small_and_says_nothing_of_a_machine_or_a_person(notebook: Any) -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) <= LARGEST
    assert not re.search(r"/(?:home|root|tmp|usr|Users)/", text)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)


def test_every_cell_was_run_in_order_and_none_failed(notebook: Any) -> None:
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("call", CALLS)
def test_the_notebook_shows_what_python_offers(notebook: Any, call: str) -> None:
    assert any(f".{call}" in cell.source for cell in code_of(notebook))


def test_the_notebook_runs_in_a_kernel_without_an_error_or_a_warning(run_again: Any) -> None:
    found, folder = run_again
    assert not [o for cell in code_of(found) for o in cell.outputs if o.get("name") == "stderr" and not is_greeting(o)]
    assert (folder / "digits.tflite").exists()
    (run,) = (folder / "runs").iterdir()
    assert (run / "report.html").exists()


def test_progress_and_the_result_are_outputs_of_their_own_cells(run_again: Any) -> None:
    found, _ = run_again
    compress = next(cell for cell in code_of(found) if ".compress(" in cell.source)
    (shown,) = compress.outputs
    assert "trial" in shown.data["text/html"]
    choose = next(cell for cell in code_of(found) if ".choose(" in cell.source)
    assert [output.output_type for output in choose.outputs] == ["display_data", "execute_result"]
    assert "<table" in choose.outputs[1].data["text/html"]


def test_only_what_tensorflow_says_of_itself_is_a_greeting() -> None:
    def of(name: str, text: str) -> bool:
        return is_greeting(nbformat.v4.new_output("stream", name=name, text=text))

    assert of("stderr", "I0000 00:00 port.cc:153] oneDNN custom operations are on.\n")
    assert not of("stderr", "I0000 00:00 port.cc:153]\nUserWarning: something else\n")
    assert not of("stdout", "I0000\n")
    assert not is_greeting(nbformat.v4.new_output("execute_result", data={"text/plain": "1"}))
