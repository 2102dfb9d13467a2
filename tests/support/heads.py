"""The head of one output of a model."""

from __future__ import annotations

from typing import Any

from lrf_optuna.models.outputs import OutputHead, output_heads


def head_at(model: Any, index: int = 0) -> OutputHead:
    """The head of the output at a place; of the first one by default."""
    return list(output_heads(model).values())[index]
