"""Run studies/compress.ipynb in a kernel of its own and write it again with its outputs: `make notebook`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "studies" / "compress.ipynb"
SECONDS = 900
"""Seconds that a cell may take; the longest takes about 30 on an idle core."""


def executed(path: Path, folder: Path) -> Any:
    """The notebook with the outputs of a run of all its cells in `folder`, and nothing about the machine."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_greeting(output)]
    name = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": name, "language_info": {"name": "python"}}
    return notebook


def is_greeting(output: Any) -> bool:
    """Whether an output is only what TensorFlow says of itself and of the processor when Keras is imported."""
    lines = output.get("text", "").strip().splitlines()
    is_theirs = (line.startswith("I0000 ") or "absl::InitializeLog" in line for line in lines)
    return output.get("name") == "stderr" and all(is_theirs)


def main() -> None:
    """Write the notebook with its outputs."""
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(NOTEBOOK, Path(folder)), NOTEBOOK)


if __name__ == "__main__":
    main()
