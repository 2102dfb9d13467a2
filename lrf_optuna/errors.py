"""The one error that users see, and the look-up that lists what there is."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Value = TypeVar("Value")


class LrfError(Exception):
    """A user's mistake, in one line: what was wrong, what was given, what to do. The command line exits with 2."""


def lookup(table: Mapping[str, Value], name: str, what: str) -> Value:
    """`table[name]`, or an `LrfError` that lists the names there are and the one that was probably meant."""
    if name in table:
        return table[name]
    near = get_close_matches(name, table, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise LrfError(f"unknown {what} {name!r}{guess}; there is: {', '.join(sorted(table))}")
