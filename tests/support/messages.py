"""The literal texts of the messages that users read, from the syntax trees of the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import lrf_optuna

SAYING = {"LrfError", "ValueError", "say", "warning", "error", "MetricOddity"}
"""Names of the calls whose first argument a user reads."""
WARNINGS = ("setup_checks.py", "result_checks.py")
"""Modules whose functions give warnings as texts."""
UNKNOWN = "X"
"""What stands for a part that is known only when the message is made: it counts as one word."""


def text_of(node: ast.AST) -> str:
    """The text of a literal, with `UNKNOWN` for its parts in braces; empty for what is no literal."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else UNKNOWN for part in node.values)
    if isinstance(node, ast.BinOp) and (text_of(node.left) or text_of(node.right)):
        return (text_of(node.left) or UNKNOWN) + (text_of(node.right) or UNKNOWN)
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """Place in the package, and text, of every literal message."""
    root = Path(lrf_optuna.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said = isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in SAYING
            given = node.args[:1] if said and isinstance(node, ast.Call) else []
            if isinstance(node, ast.Yield | ast.Return) and node.value and path.name in WARNINGS:
                given = [node.value]
            yield from ((f"{path.relative_to(root)}:{one.lineno}", text) for one in given if (text := text_of(one)))
