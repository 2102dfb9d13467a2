"""What a setting of a study is: its types and limits, and what the command line shows of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

FUNCTION_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""package.module:function; zoo:NAME and keras:NAME look the same."""


def is_file_name(path: str) -> bool:
    """Whether a model's or data's `path` is a file or folder: not digits, zoo:NAME, keras:NAME or a function."""
    return not (path == "digits" or FUNCTION_PATH.fullmatch(path) or path.startswith(("zoo:", "keras:")))


def _absolute(path: str, info: Any) -> str:
    """The path in the folder that a validation has as its context; without a folder as it is."""
    return str(info.context / Path(path).expanduser()) if info.context else path


def _for_every_output(given: Any) -> Any:
    """A single value as {"": value}; so is what the command line makes of one, {value: ""}."""
    if isinstance(given, dict):
        return {("" if value == "" else name): (name if value == "" else value) for name, value in given.items()}
    return {"": given}


GENERAL, CHOICE, OUTPUTS, LAYERS, LATENCY = "study", "choice", "outputs", "layers", "latency"
"""Panels of `--help` for settings that do not stand in the panel of their section."""
COMMAS = "commas separate numbers, as in 0.1,0.2,0.4"
Item = TypeVar("Item")
Several = Annotated[tuple[Item, ...], Field(strict=False, min_length=1)]  # a list in TOML, a tuple here
Names = Annotated[Several[str], AfterValidator(lambda names: tuple(dict.fromkeys(names)))]  # each once
FolderName = Annotated[str, Field(min_length=1), AfterValidator(_absolute)]
FileName = Annotated[str, Field(min_length=1), AfterValidator(lambda p, i: _absolute(p, i) if is_file_name(p) else p)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
ByOutput = Annotated[dict[str, Item], BeforeValidator(_for_every_output), Field(strict=False)]
"""Output -> value; the empty name stands for every output. A single value is for every output, too."""
Keeps = Annotated[Several[Share], AfterValidator(lambda keeps: tuple(sorted(set(keeps))))]  # each once, ascending
Patterns = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda text: text.split(",") if isinstance(text, str) else text),
    AfterValidator(lambda names: tuple(dict.fromkeys(names))),
    Field(strict=False),
]
Limit = Annotated[float, Field(ge=0, le=1)]


class Flag(NamedTuple):
    """An option without a value, which gives a setting this `value`: --no-tune stands for epochs = 0.

    Further names of the option, after a space, are not shown in help.
    """

    name: str
    value: object
    help: str = ""


@dataclass(frozen=True)
class CommandOption:
    """What the command line shows of a setting.

    `name`: by default the field's; `unit`: of the value; `panel`: by default its section's; `shown`: the default in
    words; `hint`: ends the error about a wrong value; `flag`: a second option, or the only one of a bool, with the same
    help; `repeated`: whether it may be given several times; `field`: pydantic's, with default and type.
    """

    help: str
    name: str = ""
    unit: str = ""
    panel: str = ""
    shown: str = ""
    hint: str = ""
    flag: Flag | None = None
    repeated: bool = False
    field: Any = None

    @property
    def typed(self) -> str:
        """What is typed for the setting: its option, or a flag that is its only option."""
        alone = self.flag and not self.flag.help and self.field.annotation is bool
        return self.flag.name.split()[0] if self.flag and alone else self.name


def setting(default: Any, help: str, **more: Any) -> Any:
    """A field with what the command line shows of it (`CommandOption`), and limits as in pydantic's `Field`."""
    shown = {part.name: more.pop(part.name) for part in fields(CommandOption) if part.name in more}
    return Field(default, json_schema_extra={"option": CommandOption(help, **shown)}, **more)  # type: ignore[dict-item]


class Section(BaseModel):
    """What every section has in common: frozen, no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
