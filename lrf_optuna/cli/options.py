"""The options of the commands: those of a study's settings are made from its model, and their text becomes values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer

from lrf_optuna.config import BUDGETS, MODEL_FORMS, OPTIONS, CommandOption, Flag
from lrf_optuna.errors import LrfError

SECTION_PANELS = {"": "Options", "model": "Options", "data": "Data", "search": "Search", "tune": "Fine-tuning"}
"""Section of a study -> the panel of `--help` that has its settings."""
LONG = 8
"""Numbers of a default that `--help` shows one by one, at most: a line of help has room for about eight."""


def option(help: str, *names: str, default: str = "", unit: str | None = None, panel: str | None = None) -> Any:
    """An option with its help, the default that help shows, the unit of its value and its panel."""
    return typer.Option(*names, help=help, show_default=default or False, metavar=unit, rich_help_panel=panel)


Name = Annotated[str, typer.Argument(help="The study: its name under runs/, or its run folder.")]
Study = Annotated[
    str | None, typer.Argument(help="A study file (.toml), or the name of an embedded study.", show_default="digits")
]
Model = Annotated[str, typer.Argument(help=f"{MODEL_FORMS}.")]
Out = Annotated[Path | None, option("The run folder.", default="runs/NAME", unit="FOLDER")]
Knee = Annotated[
    bool, option("Choose the knee of the front, as without a target and a drop.", "--knee", panel="Choice")
]
Force = Annotated[bool, option("Let an untuned model replace a fine-tuned one.", "--force")]
AsJson = Annotated[bool, option("Print JSON.", "--json")]
AsCsv = Annotated[bool, option("Print CSV.", "--csv")]
Budgets = Annotated[
    str | None,
    option("Shares of the cost that may be left.", default=",".join(map(str, BUDGETS)), unit="SHARES"),
]
Cost = Annotated[str | None, option("The cost that the budgets limit: params or macs.", default="params", unit="NAME")]
Test = Annotated[
    bool, option("Measure ours and the best baselines on test images as well. Nothing is chosen by them.", "--test")
]
Size = Annotated[str | None, option("Image size where the model leaves it open: 224,224,3.", unit="H,W,C")]
AllMethods = Annotated[bool, option("List what every method makes of every layer.", "--all-methods")]
Keeps = Annotated[
    str | None,
    option("With --all-methods: shares of a layer's parameters to keep.", default="0.2,0.4,0.6", unit="SHARES"),
]
SurveyData = Annotated[
    str | None,
    option("With --all-methods: images to fit to, as for run. Errors are then errors of outputs.", unit="DATA"),
]
CacheFolder = Annotated[
    str | None,
    option("Another cache than the user's.", "--cache", default="$LRF_OPTUNA_CACHE, or the user's", unit="FOLDER"),
]
Clear = Annotated[bool, option("Remove all that is kept there.", "--clear")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]


class Source(NamedTuple):
    """A parameter of a command, and the setting that it gives: by its text, or as a flag by the flag's value."""

    key: str
    flag: Flag | None
    parameter: inspect.Parameter


def with_settings(*keys: str, default: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of these settings, or of all.

    The command takes the argument `settings`: key -> value of the settings that are given. `default`: what help shows
    in the place of the defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        sources = [source for key in keys or OPTIONS for source in sources_of(key, default)]
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]

        def run(**given: Any) -> None:
            texts = [(source, given.pop(source.parameter.name)) for source in sources]
            command(settings=values(texts), **given)

        signature = inspect.Signature([*own, *(source.parameter for source in sources)])
        run.__name__, run.__doc__, run.__signature__ = command.__name__, command.__doc__, signature  # type: ignore[attr-defined]
        return run

    return decorate


def sources_of(key: str, default: str) -> Iterator[Source]:
    """The parameters that give a setting: its option, and its flag where no command has another `default`."""
    shown, name = OPTIONS[key], key.replace(".", "_")
    panel, types = shown.panel or SECTION_PANELS[key.rpartition(".")[0]], types_in(shown.field.annotation)
    if shown.help:
        words, unit = default or shown.shown or in_words(shown.field.default), shown.unit or unit_of(types)
        info = option(shown.help, shown.name, default=words, unit=unit, panel=panel)
        yield Source(key, None, parameter(name, list[str] | None if dict in types else str | None, None, info))
    for number, flag in enumerate(shown.flag.name.split() if shown.flag and not default else ()):
        info = typer.Option(flag, help=shown.flag and shown.flag.help, rich_help_panel=panel, hidden=number > 0)
        yield Source(key, shown.flag, parameter(f"{name}_flag{number}", bool, False, info))


def parameter(name: str, kind: Any, default: Any, info: Any) -> inspect.Parameter:
    """A parameter with an option as typer reads it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def values(texts: list[tuple[Source, Any]]) -> dict[str, Any]:
    """Key -> value of the settings that are given. Raises LrfError for an option together with its flag."""
    found: dict[str, Any] = {}
    for (key, flag, _), text in texts:
        if text in (None, False, []):
            continue
        if flag and key in found:
            raise LrfError(f"{flag.name.split()[0]} goes with no {OPTIONS[key].name}: give one of them")
        found[key] = flag.value if flag else value_of(OPTIONS[key], text)
    return found


def value_of(shown: CommandOption, text: Any) -> Any:
    """The text of an option as a value of its setting, as far as it is one: the settings' model refuses the rest."""
    types = types_in(shown.field.annotation)
    if dict in types:
        return target_shares(text)
    if tuple in types:
        return tuple(number(part.strip(), types) for part in text.split(",") if part.strip())
    return number(text, types)


def number(text: str, types: list[Any]) -> int | float | str:
    """The text as a number, where one of the types is one and the text is one too."""
    for kind in (int, float):
        with suppress(ValueError):
            if kind in types:
                return kind(text)
    return text


def target_shares(texts: list[str]) -> dict[str, float]:
    """Cost -> share, of texts such as params=0.4. Raises LrfError for other text."""
    found = {}
    for text in texts:
        cost, _, share = text.partition("=")
        try:
            found[cost.strip()] = float(share)
        except ValueError:
            raise LrfError(f"--target should be COST=SHARE such as params=0.4, but got {text!r}") from None
    return found


def numbers(name: str, text: str | None, example: str) -> tuple[float, ...] | None:
    """The numbers of the option `name`. Raises LrfError for other text, and shows the `example`."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LrfError(f"{name} should be numbers separated by commas, as in {example}, but got {text!r}") from None


def share_list(name: str, text: str | None, example: str) -> tuple[float, ...]:
    """The shares of the option `name`, each once and ascending. Raises LrfError for other text and other numbers."""
    found = numbers(name, text, example) or ()
    if not all(0 < share < 1 for share in found):
        raise LrfError(f"{name} should be shares between 0 and 1, as in {example}, but got {text!r}")
    return tuple(sorted(set(found)))


def types_in(annotation: Any) -> list[Any]:
    """All types in an annotation: of `tuple[float, ...] | None` tuple, float and None."""
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [get_origin(annotation) or annotation, *(kind for part in parts for kind in types_in(part))]


def unit_of(types: list[Any]) -> str:
    """The placeholder of a value in help."""
    unit = "NUMBER" if int in types or float in types else "NAME" if str in types or Literal in types else "TEXT"
    return f"{unit}S" if tuple in types else unit


def in_words(default: Any) -> str:
    """A default as help shows it: a long list of numbers by its ends, None and flags as nothing."""
    if isinstance(default, tuple) and len(default) > LONG:
        return f"{len(default)} from {min(default):g} to {max(default):g}"
    if isinstance(default, tuple):
        return ",".join(map(in_words, default))
    if isinstance(default, int | float) and not isinstance(default, bool):
        return f"{default:g}"
    return default if isinstance(default, str) else ""
