"""A module imports only from lower floors, and heavy libraries only where the design says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lrf_optuna

ROOT = Path(lrf_optuna.__file__).parent
FLOORS = {
    "errors": 0,
    "progress": 0,
    "interrupts": 0,
    "fingerprint": 0,
    "processors": 0,
    "stages": 1,
    "plan": 1,
    "config": 1,
    "decompositions.budget": 1,
    "linear": 2,
    "similarity": 2,
    "pareto": 2,
    "attainment": 2,
    "interest": 2,
    "samplers": 2,
    "objectives": 2,
    "result": 2,
    "comparison": 2,
    "sources": 1,
    "data": 2,
    "cache": 2,
    "decompositions.laws": 2,
    "decompositions.intact": 2,
    "decompositions.singular": 2,
    "decompositions.svd": 3,
    "decompositions.qr": 4,
    "decompositions.tt_matrix": 3,
    "decompositions.tucker": 2,
    "decompositions.cp": 3,
    "decompositions.tt": 4,
    "convolutions": 2,
    "einsum": 2,
    "network": 3,
    "following": 4,
    "zoo": 3,
    "schema": 1,
    "database": 1,
    "rows": 2,
    "calls": 3,
    "storage": 4,
    "recorder": 5,
    "decompositions": 5,
    "moments": 3,
    "projection": 4,
    "vbmf": 3,
    "allocate": 4,
    "surrogate": 5,
    "scored": 5,
    "seeding": 5,
    "breeding": 6,
    "choosing": 4,
    "study": 5,
    "refit": 6,
    "fits": 7,
    "contenders": 6,
    "crew": 7,
    "weighing": 8,
    "writing": 3,
    "layers": 6,
    "separable": 7,
    "question": 7,
    "proxy": 9,
    "surgery": 7,
    "finetune": 7,
    "racing": 10,
    "hunt": 10,
    "line": 11,
    "search": 12,
    "workers": 11,
    "worker": 16,
    "accuracy": 10,
    "survey": 10,
    "asymmetric": 10,
    "corrections": 11,
    "bench": 10,
    "baselines": 11,
    "pruning": 11,
    "build": 12,
    "judging": 13,
    "asking": 12,
    "markup": 2,
    "against": 3,
    "figures": 7,
    "curves": 9,
    "report": 10,
    "console": 9,
    "printing": 10,
    "leaving": 11,
    "run": 14,
    "compress": 15,
    "compare": 15,
    "options": 14,
    "terminal": 15,
    "showing": 16,
    "cli": 17,
    "__main__": 18,
}
"""Module -> floor. `decompositions` is its table; the package's own `__init__` only names what the others have."""
HEAVY = {
    "tensorflow": {"network", "following", "finetune"},
    "keras": {"network", "following", "layers", "writing", "surgery", "build", "finetune", "separable"},
    "optuna": {"schema", "database", "rows", "calls", "storage", "hunt", "line", "search", "samplers"},
    "plotly": {"figures", "curves", "report"},
    "sklearn": set(),
    "tensorly": set(),
    "optuna_dashboard": set(),
}
"""Library -> the modules that import it when they are imported; the others do where they use it, or never."""


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, inside_functions: bool) -> Iterator[str]:
    """Full names of what is imported: `package.module` for `from package import module` too."""
    for node in ast.iter_child_nodes(tree):
        if for_types_only(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("lrf_optuna.") in FLOORS else str(node.module)
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, inside_functions)


def test_every_module_has_its_floor_and_every_floor_its_module() -> None:
    assert set(FLOORS) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_lower_floors(name: str) -> None:
    anywhere = name not in ("cli", "showing", "terminal")  # these put off what is slow, and stand on top
    own = [i.removeprefix("lrf_optuna.") for i in imports(MODULES[name], anywhere) if i.startswith("lrf_optuna.")]
    high = {other: FLOORS[other] for other in own if FLOORS[other] >= FLOORS[name]}
    assert not high, f"{name} stands on floor {FLOORS[name]}"


def test_nobody_imports_from_the_package_itself() -> None:
    """`lrf_optuna.X` may be anything's front door; inside, the module is named."""
    for name, tree in MODULES.items():
        assert "lrf_optuna" not in set(imports(tree, True)), name


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_where_the_design_says(library: str) -> None:
    found = {name for name, tree in MODULES.items() if any(i.split(".")[0] == library for i in imports(tree, False))}
    assert found == HEAVY[library]


@pytest.mark.parametrize("module", ["lrf_optuna", "lrf_optuna.cli", "lrf_optuna.decompositions", "lrf_optuna.config"])
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert module.split(".")[0] in loaded
    assert not set(loaded) & set(HEAVY)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(lrf_optuna, name) for name in lrf_optuna.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = lrf_optuna.nothing
