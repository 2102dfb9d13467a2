"""Signatures that name every keyword of a function which takes them as a TypedDict.

Type checkers read the TypedDict; `inspect.signature`, `help` and editors read the signature that is made here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from textwrap import fill
from typing import Any, TypeVar, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])
LINE = 100
"""Letters of a line of a docstring."""


def names_keywords(
    keywords: type, defaults: Mapping[str, object], texts: Mapping[str, str] | None = None
) -> Callable[[Function], Function]:
    """Give a function with `**settings: Unpack[keywords]` the signature that has each of them with its default.

    `texts`: keyword -> what it is, which its docstring then lists. Raises KeyError for a keyword without a default.
    """
    hints = get_type_hints(keywords)

    def decorate(function: Function) -> Function:
        own = inspect.signature(function, eval_str=True)
        fixed = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        named = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=hint)
            for name, hint in hints.items()
            if name not in own.parameters
        ]
        function.__signature__ = own.replace(parameters=[*fixed, *named])  # type: ignore[attr-defined]
        if texts and function.__doc__:  # there is none under `python -OO`
            function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\nKeywords:\n\n{listed(hints, texts)}\n"
        return function

    return decorate


def listed(names: Mapping[str, object], texts: Mapping[str, str]) -> str:
    """A list of names with what each of them is."""
    rows = (f"- `{name}`: {texts[name]}" for name in names if name in texts)
    return "\n".join(fill(row, LINE, subsequent_indent="  ") for row in rows)
