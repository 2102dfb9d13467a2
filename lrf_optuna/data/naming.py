"""Which array belongs to which part, input and output: `x_train`, `x_train.NAME`, `x_train_0`, or a dict of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrf_optuna.data.sources import PARTS
from lrf_optuna.errors import LrfError

NAMES = tuple(f"{kind}_{part}" for part in PARTS for kind in "xy")
"""The names of the arrays of a data set."""


def group_arrays(arrays: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    """`x_train` and the like -> an array, or a dict of arrays by the names of several inputs or outputs.

    `x_train.NAME` and `x_train_0` are arrays of the input NAME and of the first one; a dict has names, a list or tuple
    the model's order. Raises LrfError for an unknown name, and where the training images or an input are missing.
    """
    found: dict[str, Any] = {}
    for key, array in arrays.items():
        if array is None:
            continue
        name, own = split_key(str(key), inputs, outputs)
        names = inputs if name[0] == "x" else outputs
        if own is None:
            found[name] = keyed_by_name(name, array, names)
        else:
            found.setdefault(name, {})[own] = array
    if "x_train" not in found:
        raise LrfError(f"the data lack x_train; they hold: {', '.join(map(str, arrays)) or 'nothing'}")
    for name, array in found.items():
        check_complete(name, array, inputs if name[0] == "x" else outputs)
    return {name: plain_if_only(array, inputs if name[0] == "x" else outputs) for name, array in found.items()}


def plain_if_only(array: Any, names: Sequence[str]) -> Any:
    """The array of the only input or output; one of several keeps its name."""
    return next(iter(array.values())) if isinstance(array, Mapping) and len(names) == len(array) == 1 else array


def split_key(key: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[str, str | None]:
    """(`x_train`, name of the input) of a key; None as the name where the key has none. Raises LrfError."""
    for name in NAMES:
        names = inputs if name[0] == "x" else outputs
        rest = key.removeprefix(name)
        if key == name:
            return name, None
        if key.startswith(name) and rest[0] in "._/" and rest[1:] in names:
            return name, rest[1:]
        if key.startswith(name) and rest[0] in "._/" and rest[1:].isdigit() and int(rest[1:]) < len(names):
            return name, names[int(rest[1:])]
    known = f"inputs: {', '.join(inputs)}; outputs: {', '.join(outputs)}"
    raise LrfError(f"the data have the unknown name {key!r}: give {', '.join(NAMES[:4])} (.NAME of {known})")


def keyed_by_name(name: str, array: Any, names: Sequence[str]) -> Any:
    """A list or tuple of arrays by the names of the model's inputs or outputs; anything else as it is."""
    if isinstance(array, tuple) or (isinstance(array, list) and len(names) > 1 and len(array) == len(names)):
        if len(array) != len(names):
            raise LrfError(f"{name} has {len(array)} arrays for {len(names)}: {', '.join(names)}")
        return dict(zip(names, array, strict=True))
    return array


def check_complete(name: str, array: Any, names: Sequence[str]) -> None:
    """Raises LrfError where arrays are missing or unknown for a model of several inputs, or of one."""
    kind = "inputs" if name[0] == "x" else "outputs"
    if isinstance(array, Mapping):
        unknown, missing = sorted(map(str, array.keys() - set(names))), [n for n in names if n not in array]
        if unknown or (missing and kind == "inputs"):
            given = f"has the unknown {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
            raise LrfError(f"{name} {given}; the model's {kind}: {', '.join(names)}")
    elif len(names) > 1:
        raise LrfError(f"the model has several {kind}: give {name}.NAME for {', '.join(names)}")
