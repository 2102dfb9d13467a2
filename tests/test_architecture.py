"""A folder imports only from the folders above it, and heavy libraries stay where the design has them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lrf_optuna

ROOT = Path(lrf_optuna.__file__).parent
FOLDERS = (
    "",  # errors, setting_fields, sections, config, progress, progress_bars, files, processes
    "chains",
    "plans",
    "decompositions",
    "data",
    "fitting",
    "models",
    "scoring",
    "storage",
    "search",
    "selection",
    "training",
    "runtimes",
    "baselines",
    "report",
    "pipeline",
    "cli",
)
"""The house in the order in which data flows."""
HEAVY = {
    "tensorflow": {"models", "training", "runtimes"},
    "keras": {"models", "training", "runtimes"},
    "optuna": {"storage", "search"},
    "plotly": {"report"},
    "sklearn": set(),
    "tensorly": set(),
    "optuna_dashboard": set(),
    "onnxruntime": set(),
    "tf2onnx": set(),
    "ai_edge_litert": set(),
}
"""Library -> the folders that import it when they are imported; the others do so where they use it, or never."""


def modules() -> dict[str, ast.Module]:
    """Module name without the package -> its syntax tree; `__init__` and `__main__` of the package are left out."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "__main__"):
            found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(tree: ast.AST, inside_functions: bool) -> Iterator[str]:
    """Full names of what is imported at run time: `package.module` for `from package import module` too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("lrf_optuna.") in MODULES else str(node.module)
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, inside_functions)


def own_imports(name: str) -> set[str]:
    """The modules of the package that a module imports anywhere."""
    return {i.removeprefix("lrf_optuna.") for i in imports(MODULES[name], True) if i.startswith("lrf_optuna.")}


def folder_of(module: str) -> str:
    """The folder of a module; empty for those of the package's root."""
    return module.split(".")[0] if "." in module or (ROOT / module).is_dir() else ""


def test_the_list_has_every_folder() -> None:
    assert {folder_of(name) for name in MODULES} == set(FOLDERS)


@pytest.mark.parametrize("name", MODULES)
def test_a_folder_imports_only_from_those_above_it(name: str) -> None:
    place = FOLDERS.index(folder_of(name))
    low = {other for other in own_imports(name) if FOLDERS.index(folder_of(other)) > place}
    assert not low


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_has_a_circle(folder: str) -> None:
    graph = {
        name: {i for i in own_imports(name) if folder_of(i) == folder} for name in MODULES if folder_of(name) == folder
    }
    assert list(TopologicalSorter(graph).static_order())


def test_nobody_imports_from_the_package_itself() -> None:
    """`lrf_optuna.X` is the front door for others; inside, the module is named."""
    assert not [name for name, tree in MODULES.items() if "lrf_optuna" in set(imports(tree, True))]


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_where_the_design_says(library: str) -> None:
    found = {
        folder_of(name)
        for name, tree in MODULES.items()
        if any(i.split(".")[0] == library for i in imports(tree, False))
    }
    assert found == HEAVY[library]


@pytest.mark.parametrize(
    "module", ["lrf_optuna", "lrf_optuna.cli.app", "lrf_optuna.decompositions.registry", "lrf_optuna.config"]
)
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module.split(".")[0] in loaded
    assert not set(loaded) & set(HEAVY)


def test_every_public_name_is_there_and_is_listed() -> None:
    assert all(hasattr(lrf_optuna, name) for name in lrf_optuna.__all__)
    assert set(lrf_optuna.__all__) <= set(dir(lrf_optuna))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lrf_optuna.nothing


def test_no_public_name_is_a_folder() -> None:
    assert not set(lrf_optuna.__all__) & set(FOLDERS)
