"""The settings of a study: one model that study files, command line options and stored studies are checked against.

The command line makes an option of every field (`cli/options.py`). Names of methods, objectives, similarities and
samplers are not checked here, because the tables that list them are in other folders.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import Field, ValidationError, field_validator

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.input_sections import DataSpec, ModelSpec, OutputSpec
from lrf_optuna.sections import LatencySpec, LayerSpec, SearchSpec, TuneSpec
from lrf_optuna.setting_fields import GENERAL, CommandOption, Section, is_file_name, setting

PLAIN_NAMES = {"best", "checkpoint", "cnn", "final", "model", "net", "network", "original", "trained", "weights"}
"""Names of model files that do not say which network it is."""
EMPTY = "should not be empty"
MESSAGES = {"missing": "is missing", "model_type": "should be a section", "too_short": EMPTY, "string_too_short": EMPTY}
"""What is said in the place of pydantic's messages of these types."""
Sections = TypeVar("Sections", bound="LayerSections")


class LayerSections(Section):
    """The sections [layers."PATTERN"] of a study, in their order."""

    layers: dict[str, LayerSpec] = Field(default_factory=dict)

    @classmethod
    def of(cls, layers: Mapping[str, object]) -> dict[str, LayerSpec]:
        """Pattern -> limits, which may be mappings. Raises LrfError for other keys or values."""
        return _checked(partial(cls.model_validate, {"layers": dict(layers)}, strict=False)).layers


class StudySpec(LayerSections):
    """One study: everything that a run needs to know, from a study file or from options."""

    name: str = setting(..., "The study's name.", panel=GENERAL, shown="the study file's, or the model file's")
    model: ModelSpec
    data: DataSpec
    output: OutputSpec = OutputSpec()
    search: SearchSpec = SearchSpec()
    latency: LatencySpec = LatencySpec()
    tune: TuneSpec = TuneSpec()

    @property
    def judged_state(self) -> str:
        """The state of the smaller network whose drop of the metric chooses a point: built, calibrated or tuned.

        A fine-tune and a calibration come after the choice, so that their drops are predicted.
        """
        search, tune = self.search, self.tune
        if search.max_drop is not None or search.targets or search.knee:
            return "tuned" if search.after_tuning else "built"
        return "tuned" if tune.epochs else "calibrated" if tune.calibrates else "built"

    def without_choice(self) -> StudySpec:
        """This study without its way to choose a point."""
        plain: dict[str, object] = {"targets": {}, "max_drop": None, "after_tuning": False, "knee": False}
        return self.model_copy(update={"search": self.search.model_copy(update=plain)})

    def check_after_tuning(self) -> None:
        """Raises LrfError where a drop after a fine-tune is limited, but none comes."""
        if self.search.after_tuning and not self.tune.epochs:
            raise LrfError(
                "--after-tuning needs a fine-tune, but there are no epochs: give --epochs, or leave --after-tuning out"
            )

    def check_fine_tune(self, given: Collection[str]) -> None:
        """Raises LrfError where settings of a fine-tune (`tune.rate`) are `given`, but none comes."""
        unused = [OPTIONS[key].typed for key in given if key in OF_THE_FINE_TUNE]
        if unused and not self.tune.epochs:
            raise LrfError(
                f"{unused[0]} needs a fine-tune, but there are no epochs: "
                f"give --epochs in the place of --no-tune, or leave {unused[0]} out"
            )
        if "tune.distil_by" in given and not self.tune.distil:
            raise LrfError("--distil-by needs a distillation, but --distil is 0: leave one of them out")

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            raise ValueError("should be a plain folder name of letters, digits, '.', '_' and '-'")
        return name

    @classmethod
    def from_toml(cls, path: Path) -> StudySpec:
        """The study of a TOML file. Relative file names are taken from the file's folder.

        Raises an LrfError that names the file, the key and the value.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LrfError(f"cannot read the study file {path}: {error.strerror}") from error
        except ValueError as error:  # bad TOML (the message says the line) or not UTF-8
            raise LrfError(f"{path} is not a TOML file: {error}") from error
        return _checked(partial(cls.model_validate, document, context=path.resolve().parent), f"{path}: ")

    @classmethod
    def from_json(cls, text: str) -> StudySpec:
        """The study of a JSON text that `model_dump_json` wrote. Raises LrfError where the text is not a study."""
        return _checked(partial(cls.model_validate_json, text), "the stored study cannot be read: ")

    def override(self, options: Mapping[str, object]) -> StudySpec:
        """This study with other values: {"search.trials": 50}. None leaves a value as it is.

        Numbers may be texts. File names are taken from the current directory. Raises an LrfError that names the option
        (`--trials`).
        """
        document: dict[str, Any] = self.model_dump(exclude_unset=True)  # a target changes unset objectives
        for name, value in options.items():
            section, _, key = name.rpartition(".")
            if value is not None:
                table = document.setdefault(section, {}) if section else document
                table[key] = os.fspath(value) if isinstance(value, os.PathLike) else value
        return _checked(partial(StudySpec.model_validate, document, strict=False, context=Path.cwd()))


SECTIONS: dict[str, type[Section]]
SECTIONS = {
    "": StudySpec,
    "model": ModelSpec,
    "data": DataSpec,
    "output": OutputSpec,
    "search": SearchSpec,
    "latency": LatencySpec,
    "tune": TuneSpec,
}
"""Name of a section -> its model; the empty name is the whole study."""
OPTIONS = {
    f"{section}.{key}".lstrip("."): replace(option, name=option.name or f"--{key.replace('_', '-')}", field=field)
    for section, model in SECTIONS.items()
    for key, field in model.model_fields.items()
    if isinstance(option := cast("dict[str, Any]", field.json_schema_extra or {}).get("option"), CommandOption)
}
"""Key of a setting ("search.trials") -> what the command line shows of it."""


OF_THE_FINE_TUNE = {f"tune.{key}" for key in TuneSpec.model_fields} - {"tune.epochs", "tune.calibrate"}
"""Settings that nothing but a fine-tune reads."""


def name_for(model_path: str, data_path: str) -> str:
    """A study's name where none is given: the model's, with the data's before it if the model's says nothing.

    "nets/lenet5.keras" -> "lenet5", "keras:ResNet50" -> "ResNet50", "model.keras" and "cifar10.npz" -> "cifar10-model".
    """
    lasts = [Path(path).stem if is_file_name(path) else path.rpartition(":")[2] for path in (model_path, data_path)]
    model, data = (re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".-") or "study" for last in lasts)
    return f"{data}-{model}" if model.lower() in PLAIN_NAMES else model


def _checked(validate: Callable[[], Sections], source: str = "") -> Sections:
    """The sections that `validate` gives, which came from the `source`, else from options. Raises LrfError."""
    try:
        return validate()
    except ValidationError as error:
        raise LrfError(source + _complaint(error, options=not source)) from error


def _complaint(error: ValidationError, options: bool) -> str:
    """One line about the first key that is wrong."""
    errors = error.errors(include_url=False)
    first = errors[0]
    where = tuple(str(part) for part in first["loc"][:2])
    if where[:1] == ("layers",) and len(first["loc"]) > 2:
        where = f'layers."{where[1]}"', str(first["loc"][2])
    option = OPTIONS.get(".".join(where)) if options else None
    key = option.name if option else " ".join([f"[{section}]" for section in where[:-1]] + [*where[-1:]])
    if first["type"] == "extra_forbidden":
        return _unknown(where)
    same = [e for e in errors if e["loc"][:2] == first["loc"][:2] and e["input"] is first["input"]]
    messages = [re.sub("^(Input|Value error,) |, unable.*", "", MESSAGES.get(e["type"], e["msg"])) for e in same]
    got = "" if first["type"] == "missing" else f", but got {first['input']!r}"
    hint = f"; {option.hint}" if option and option.hint else ""
    return f"{key} {' or '.join(dict.fromkeys(messages))}{got}{hint}".lstrip()


def _unknown(where: tuple[str, ...]) -> str:
    """One line about a key that its section does not have: the keys that there are, the section where it belongs."""
    section, key = "".join(where[:-1]), where[-1]
    homes = [f"; it belongs in [{name}]" for name, kind in SECTIONS.items() if name and key in kind.model_fields]
    try:
        return str(
            lookup(SECTIONS.get(section, LayerSpec).model_fields, key, f"key in [{section}]:" if section else "key")
        )
    except LrfError as error:
        return f"{error}{''.join(homes)}"
