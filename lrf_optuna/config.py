"""The question a study asks: a TOML file (or options) -> `StudySpec`, checked once, here.

Names of methods, objectives and similarities are not checked here: the tables that know them stand elsewhere.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lrf_optuna.errors import LrfError, lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

KEEP = (
    *(0.01, 0.02, 0.03, 0.04, 0.055, 0.07, 0.085, 0.1, 0.125, 0.15, 0.175, 0.2, 0.23),
    *(0.26, 0.295, 0.33, 0.37, 0.42, 0.48, 0.55, 0.63, 0.72, 0.82, 0.92),
)
"""Shares of its parameters that a layer may keep: fine steps, so that networks of few layers can fill a budget.

The smallest are for layers that hold much of a network (`contenders.grid`).
"""
BUDGETS = (0.7, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of a cost that a search makes a seed for, and that `compare` compares at, where nothing else is asked."""
Augment = Literal["none", "flip", "crop", "flip-crop"]

T = TypeVar("T")
Several = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]  # a list in TOML, a tuple here
Share = Annotated[float, Field(gt=0, lt=1)]
Target = Annotated[float, Field(gt=0, le=1)]

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # package.module:function, zoo:NAME and keras:NAME
PLAINLY = {"missing": "is missing", "too_short": "should not be empty", "string_too_short": "should not be empty"}
NAMELESS = {"best", "checkpoint", "cnn", "final", "model", "net", "network", "original", "trained", "weights"}


class Section(BaseModel):
    """What every section has in common: frozen, no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSpec(Section):
    """Where the trained network comes from: a .keras file, zoo:NAME, keras:NAME or package.module:function."""

    path: str = Field(min_length=1)


class DataSpec(Section):
    """Where the images come from and what the network expects of a pixel: (x / divide - mean) / std."""

    path: str = Field(min_length=1)
    divide: float = Field(default=1.0, gt=0)
    mean: Several[float] = (0.0,)
    std: Several[Annotated[float, Field(gt=0)]] = (1.0,)
    augment: Augment = "none"
    validation: Share = 0.1

    @field_validator("std")
    @classmethod
    def _as_long_as_the_mean(cls, std: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        mean = info.data.get("mean", std)
        if len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ValueError(f"should have as many numbers as mean ({len(mean)})")
        return std


RETIRED_KEYS = {"racing"}
"""Keys of [search] that earlier versions had: they are ignored."""
RENAMED_KEYS = {"seeded": "initial_plans"}
"""Keys of [search] under their names of earlier versions."""


class SearchSpec(Section):
    """How the front is searched, and which point is taken off it."""

    trials: int = Field(default=300, ge=1)
    calibration: int = Field(default=1024, ge=16)
    population: int = Field(default=50, ge=2)
    seed: int = Field(default=0, ge=0)
    methods: Several[str] | None = None
    objectives: Several[str] = ("loss", "params", "macs")
    similarity: str = "cosine"
    maps: Literal["logits", "deep"] = "logits"
    keep: Several[Share] = KEEP
    storage: str | None = None
    cache: Annotated[str, Field(min_length=1)] | bool = True
    targets: dict[Literal["params", "macs"], Target] = Field(default_factory=dict)
    max_drop: float | None = Field(default=None, ge=0)
    by: Literal["accuracy", "loss"] = "accuracy"
    sampler: str = "surrogate"
    initial_plans: bool = True
    stop_when_flat: bool = False
    workers: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _without_retired_keys(cls, keys: Any) -> Any:
        """Studies of earlier versions have keys and values that are gone."""
        if not isinstance(keys, dict):
            return keys
        renamed = {RENAMED_KEYS.get(key, key): value for key, value in keys.items() if key not in RETIRED_KEYS}
        return renamed | ({"sampler": "surrogate"} if renamed.get("sampler") == "bred" else {})

    @field_validator("workers")
    @classmethod
    def _with_a_cache(cls, workers: int, info: ValidationInfo) -> int:
        if workers > 1 and info.data.get("cache") is False:
            raise ValueError("should be 1 without a cache: several share fits through it")
        return workers

    @field_validator("keep")
    @classmethod
    def _ascending(cls, keep: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(keep)))

    @field_validator("methods", "objectives")
    @classmethod
    def _each_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return names and tuple(dict.fromkeys(names))

    @property
    def wanted(self) -> dict[str, float]:
        """The targets by the names of their objectives."""
        return {str(cost): share for cost, share in self.targets.items()}


class TuneSpec(Section):
    """How the chosen network is fine-tuned; `epochs = 0` leaves it as it is."""

    epochs: int = Field(default=5, ge=0)
    rate: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    batch: int = Field(default=128, ge=1)
    distil: float = Field(default=5.0, ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"


class StudySpec(Section):
    """One study: everything that a run needs to know, from a TOML file or from options."""

    name: str
    model: ModelSpec
    data: DataSpec
    search: SearchSpec = SearchSpec()
    tune: TuneSpec = TuneSpec()

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not PLAIN_NAME.fullmatch(name):
            raise ValueError("should be a plain folder name of letters, digits, '.', '_' and '-'")
        return name

    @classmethod
    def from_toml(cls, path: Path) -> StudySpec:
        """The study of a TOML file; its relative file names are taken from the file's folder.

        Raises an LrfError that names the file, the key and the value.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LrfError(f"cannot read the study file {path}: {error.strerror}") from error
        except ValueError as error:  # bad TOML (the message says the line) or not UTF-8
            raise LrfError(f"{path} is not a TOML file: {error}") from error
        spec = _checked(document, str(path))
        return spec._with_paths_from(path.resolve().parent)

    @classmethod
    def default(cls) -> StudySpec:
        """The study that needs no file and no network: the digits of scikit-learn."""
        return cls.from_toml(embedded_study("digits"))

    @classmethod
    def from_json(cls, text: str) -> StudySpec:
        """The study that `to_json` wrote. Raises LrfError where the text is no such study."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise LrfError(f"the stored study cannot be read: {_complaint(error, options=False)}") from error

    def to_json(self) -> str:
        """This study as JSON text."""
        return self.model_dump_json()

    def override(self, options: Mapping[str, object]) -> StudySpec:
        """This study with other values: {"search.trials": 50}; None means "as it is".

        File names are taken from the current directory. Raises an LrfError that names the option (`--trials`).
        """
        document: dict[str, Any] = self.model_dump()
        for name, value in options.items():
            if value is None:
                continue
            *sections, field = name.split(".")
            table = document
            for section in sections:
                table = table.setdefault(section, {})
            table[field] = os.fspath(value) if isinstance(value, os.PathLike) else value
        spec = _checked(document, None)
        return spec._with_paths_from(Path.cwd())

    def choosing(self, targets: Mapping[str, float], max_drop: float | None) -> StudySpec:
        """This study with another way to choose a point; without targets and drop it is the knee."""
        search = self.search.model_copy(update={"targets": dict(targets), "max_drop": max_drop})
        return self.model_copy(update={"search": search})

    def _with_paths_from(self, folder: Path) -> StudySpec:
        model = self.model.model_copy(update={"path": _absolute(self.model.path, folder)})
        data = self.data.model_copy(update={"path": _absolute(self.data.path, folder)})
        cache = self.search.cache
        kept = str(folder / Path(cache).expanduser()) if isinstance(cache, str) else cache
        search = self.search.model_copy(update={"cache": kept})
        return self.model_copy(update={"model": model, "data": data, "search": search})


def name_for(model_path: str, data_path: str) -> str:
    """A study's name where none was given: the model's own, with the data's before it if it says nothing.

    "nets/lenet5.keras" -> "lenet5", "keras:ResNet50" -> "ResNet50", "model.keras" and "cifar10.npz" -> "cifar10-model".
    """
    name = _stem(model_path)
    return f"{_stem(data_path)}-{name}" if name.lower() in NAMELESS else name


def embedded_study(name: str) -> Path:
    """The file of a study that travels with the package. Raises an LrfError that lists them."""
    return lookup(_embedded_studies(), name, "embedded study")


def find_study(text: str) -> Path:
    """The study file that `text` means: a path, else an embedded study's name. Raises LrfError."""
    if Path(text).is_file():
        return Path(text)
    embedded = _embedded_studies()
    if text not in embedded:
        raise LrfError(f"no such study file: {text}; embedded studies: {', '.join(sorted(embedded))}")
    return embedded[text]


def _embedded_studies() -> dict[str, Path]:
    """Name -> file: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "studies"
    folder = inside if inside.is_dir() else package.parent / "studies"
    return {path.stem: path for path in folder.glob("*.toml")}


def _absolute(path: str, folder: Path) -> str:
    """`path` from `folder`, if it is a file name at all."""
    if path == "digits" or FUNCTION.fullmatch(path) or path.startswith(("zoo:", "keras:")):
        return path
    return str(folder / Path(path).expanduser())


def _stem(path: str) -> str:
    last = path.rpartition(":")[2] if FUNCTION.fullmatch(path) else Path(path).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last).lstrip(".-") or "study"


def _checked(document: Mapping[str, object], source: str | None) -> StudySpec:
    """The study in `document`, which came from the file `source`, or from options."""
    try:
        return StudySpec.model_validate(document)
    except ValidationError as error:
        complaint = _complaint(error, options=source is None)
        raise LrfError(complaint if source is None else f"{source}: {complaint}") from error


def _complaint(error: ValidationError, options: bool) -> str:
    """One line about the first key that is wrong."""
    errors = error.errors(include_url=False)
    first = errors[0]
    if not first["loc"]:
        return f"this is no JSON of a study: {first['msg']}"
    where = tuple(str(part) for part in first["loc"][:2])
    key = _option(where) if options else _key(where)
    if first["type"] == "extra_forbidden":
        return _unknown(where)
    if first["type"] in PLAINLY:
        return f"{key} {PLAINLY[first['type']]}"
    if first["type"] == "model_type":
        return f"{key} should be a section of its own, [{key}], but got {first['input']!r}"
    same = [e["msg"] for e in errors if e["loc"][:2] == where and e["type"] not in PLAINLY]
    words = [message.removeprefix("Input ").removeprefix("Value error, ") for message in same]
    return f"{key} {' or '.join(dict.fromkeys(words))}, but got {first['input']!r}"


def _unknown(where: tuple[str, ...]) -> str:
    """One line about a key that its section has not: the keys there are, the one probably meant, its right section."""
    *section, key = where
    known = SECTIONS[section[0]].model_fields if section else StudySpec.model_fields
    homes = [f"; it belongs in [{name}]" for name, kind in SECTIONS.items() if key in kind.model_fields]
    try:
        lookup(known, key, f"key in [{section[0]}]:" if section else "key")
    except LrfError as error:
        return f"{error}{''.join(homes)}"
    return f"unknown key {key!r}"


def _key(where: tuple[str, ...]) -> str:
    return f"[{where[0]}] {where[1]}" if len(where) > 1 else where[0]


def _option(where: tuple[str, ...]) -> str:
    name = where[0] if where[1:] == ("path",) else where[-1]
    return "--" + ONE_OF.get(name, name).replace("_", "-")


ONE_OF = {"targets": "target"}
"""Keys of several values -> the option that gives one of them at a time."""
SECTIONS: dict[str, type[Section]] = {"model": ModelSpec, "data": DataSpec, "search": SearchSpec, "tune": TuneSpec}
