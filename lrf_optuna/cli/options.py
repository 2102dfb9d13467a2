"""The options of the commands: those of a study's settings are made from its model, and their text becomes values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lrf_optuna.config import OPTIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.sections import MODEL_FORMS

if TYPE_CHECKING:
    from lrf_optuna.pipeline.run_folder import ExistingStudy

SECTION_PANELS = {
    "": "Options",
    "model": "Options",
    "data": "Data",
    "search": "Search",
    "latency": "Latency",
    "tune": "Fine-tuning",
}
"""Section of a study -> the panel of `--help` that has its settings."""


def option(help: str, *names: str, default: str = "", unit: str | None = None, **more: Any) -> Any:
    """An option with its help, the default that help shows and the unit of its value; more as in `typer.Option`."""
    return typer.Option(*names, help=help, show_default=default or False, metavar=unit, **more)


Found: TypeAlias = "ExistingStudy"
StudyName = Annotated[str, typer.Argument(help="The study: its name under runs/, or its run folder.")]
Study = Annotated[str | None, typer.Argument(help="A study file (.toml) or an embedded study.", show_default="digits")]
Model = Annotated[str, typer.Argument(help=f"{MODEL_FORMS}.")]
Out = Annotated[Path | None, option("The run folder.", default="runs/NAME", unit="FOLDER")]
Knee = Annotated[bool, option("Choose the knee of the front.", "--knee", rich_help_panel="Choice")]
Force = Annotated[bool, option("Let an untuned model replace a fine-tuned one.", "--force")]
AsJson = Annotated[bool, option("Print JSON.", "--json")]
AsCsv = Annotated[bool, option("Print CSV.", "--csv")]
Budgets = Annotated[str, typer.Option(help="Shares of the cost that may be left.", metavar="SHARES")]
Cost = Annotated[str, typer.Option(help="The cost that the budgets limit: params or macs.", metavar="NAME")]
Test = Annotated[bool, option("Measure ours and the best baselines on test images as well.", "--test")]
Size = Annotated[str | None, option("Image size where the model leaves it open: 224,224,3.", unit="H,W,C")]
CacheFolder = Annotated[
    str | None,
    option("Another cache than the user's.", "--cache", default="$LRF_OPTUNA_CACHE, or the user's", unit="FOLDER"),
]
Clear = Annotated[bool, option("Remove all that is kept there.", "--clear")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)]


def with_settings(*keys: str, default: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options of these settings, or of all, as its argument `settings`: key -> value of those given.

    A command with an argument `found` gets the study that its argument NAME and the options --out and --storage mean.
    `default`: what help shows in the place of the defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        wanted = (*keys, "search.storage") if "found" in own else keys or OPTIONS
        sources = {key: list(parameters_of(key, default)) for key in wanted}
        shown = [p for name, p in own.items() if name not in ("settings", "found")]
        if "found" in own:
            shown += [parameter("name", StudyName), parameter("out", Out, None)]

        def run(**given: Any) -> None:
            found = {key: value_of(key, [given.pop(p.name) for p in of_key]) for key, of_key in sources.items()}
            settings = {key: value for key, value in found.items() if value is not None}
            if "found" in own:
                from lrf_optuna.pipeline.run_folder import locate

                given["found"] = locate(given.pop("name"), settings.pop("search.storage", None), given.pop("out"))
            command(**given, **({"settings": settings} if "settings" in own else {}))

        signature = inspect.Signature([*shown, *(p for of_key in sources.values() for p in of_key)])
        run.__name__, run.__doc__, run.__signature__ = command.__name__, command.__doc__, signature  # type: ignore[attr-defined]
        return run

    return decorate


def parameters_of(key: str, default: str) -> Iterator[inspect.Parameter]:
    """The parameters that give a setting: its option, and its flag where no command has another `default`."""
    shown, name = OPTIONS[key], key.replace(".", "_")
    panel, usual = shown.panel or SECTION_PANELS[key.rpartition(".")[0]], shown.field.default
    if not shown.flag or shown.flag.help:
        words = default or shown.shown or in_words(usual)
        kind = list[str] if isinstance(usual, dict) or shown.repeated else str
        kinds = str(shown.field.annotation)
        unit = shown.unit or ("NUMBER" if re.search(r"\b(int|float)\b", kinds) else "NAME") + "S" * ("tuple" in kinds)
        info = option(shown.help, shown.name, default=words, unit=unit, rich_help_panel=panel)
        yield parameter(name, Annotated[kind | None, info], None)
    if shown.flag and not default:
        for number, flag in enumerate(shown.flag.name.split()):
            info = option(shown.flag.help or shown.help, flag, rich_help_panel=panel, hidden=number > 0)
            yield parameter(f"{name}_flag{number}", Annotated[bool, info], False)


def parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A parameter of a command as typer reads it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def value_of(key: str, given: list[Any]) -> Any:
    """What an option and its flags give a setting: the flag's value, a text or parts of it; None where all are absent.

    Numbers stay texts, which the settings' model reads. Raises LrfError for an option together with its flag.
    """
    shown, text = OPTIONS[key], next((text for text in given if not isinstance(text, bool)), None)
    if shown.flag and True in given:
        if text is not None:
            raise LrfError(f"{shown.flag.name.split()[0]} and {shown.name} exclude each other: give one of them")
        return shown.flag.value
    if isinstance(shown.field.default, dict):
        return {cost.strip(): share.strip() for cost, _, share in (part.partition("=") for part in text or ())} or None
    if text is None or "tuple" not in str(shown.field.annotation):
        return text
    texts = text if shown.repeated else [text]
    return [part.strip() for one in texts for part in one.split(",") if part.strip()]


def numbers(name: str, text: str | None, example: str) -> tuple[float, ...]:
    """The numbers of the option `name`, if it is given. Raises LrfError for other text, and shows the `example`."""
    try:
        return () if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LrfError(f"{name} should be numbers separated by commas, as in {example}, but got {text!r}") from None


def in_words(default: Any) -> str:
    """A default as help shows it; None as nothing."""
    if isinstance(default, tuple):
        return ",".join(map(in_words, default))
    return f"{default:g}" if isinstance(default, int | float) else default if isinstance(default, str) else ""
