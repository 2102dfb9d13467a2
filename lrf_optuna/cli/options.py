"""The options of the commands: those of a study's settings are made from its model, and their text becomes values."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lrf_optuna.cli.output import Output
from lrf_optuna.cli.studies import check_settings, check_study, embedded_studies
from lrf_optuna.config import OPTIONS
from lrf_optuna.errors import LrfError
from lrf_optuna.input_sections import MODEL_FORMS
from lrf_optuna.sections import BUDGETS

if TYPE_CHECKING:
    from lrf_optuna.pipeline.run_folder import ExistingStudy

OFTEN, ALWAYS = "Often used", "In every command"
"""Panels of `--help`: options that most calls need, and those that every command has."""
RARELY = "Rarely used: "
"""Begin of the names of the other panels."""
OFTEN_USED = (
    *("model.path", "data.path", "data.divide", "data.mean", "data.std", "data.preprocess"),
    *(
        "search.targets",
        "search.max_drop",
        "search.after_tuning",
        "search.knee",
        "search.trials",
        "tune.epochs",
        "name",
    ),
)
"""Settings that most calls need, in the order in which `--help` shows them first."""
SECTION_PANELS = {"": "study", "model": "study", "data": "data", "search": "search", "tune": "fine-tuning"}
"""Section of a study -> the panel of `--help` that has its settings, where they do not name another one."""
OF_THE_STUDY = "the study's"
"""What help shows as the default of a setting that is kept with a study."""
SHARES = ",".join(map(str, BUDGETS))
"""The budgets of `compare` as its option has them."""


def option(help: str, *names: str, default: str = "", unit: str | None = None, **more: Any) -> Any:
    """An option with its help, the default that help shows and the unit of its value; more as in `typer.Option`."""
    return typer.Option(
        *names, help=help, show_default=default or False, metavar=unit, **{"rich_help_panel": OFTEN, **more}
    )


def known_names(incomplete: str) -> list[str]:
    """The run folders in runs/ that begin with a text, for the completion of a shell."""
    return sorted(path.parent.name for path in Path("runs").glob(f"{incomplete}*/study.db"))


def known_studies(incomplete: str) -> list[str]:
    """The embedded studies and the study files that begin with a text, for the completion of a shell."""
    return sorted(
        name for name in [*embedded_studies(), *map(str, Path().glob("*.toml"))] if name.startswith(incomplete)
    )


Found: TypeAlias = "ExistingStudy"
StudyName = Annotated[
    str,
    typer.Argument(
        help="The study: its name under runs/, or its run folder.", metavar="NAME", autocompletion=known_names
    ),
]
Study = Annotated[
    str | None,
    typer.Argument(
        help="A study file (.toml) or an embedded study.",
        metavar="STUDY",
        show_default="digits",
        autocompletion=known_studies,
    ),
]
Model = Annotated[str, typer.Argument(help=f"{MODEL_FORMS}.", metavar="MODEL")]
Out = Annotated[Path | None, option("The run folder.", default="runs/NAME", unit="FOLDER")]
RareOut = Annotated[
    Path | None, option("The run folder.", default="runs/NAME", unit="FOLDER", rich_help_panel=f"{RARELY}study")
]
Force = Annotated[
    bool, option("Build an untuned model where the point has a fine-tuned one, which is kept.", "--force")
]
Every = Annotated[bool, option("List every point of the front, with its methods.", "--all")]
Trial = Annotated[int | None, option("Take the point of this trial.", "--trial", unit="NUMBER", min=0)]
DryRun = Annotated[bool, option("Say what would be done and about how long it takes. Write nothing.", "--dry-run")]
AsJson = Annotated[
    bool, option("Write one JSON document to stdout, and all else to stderr.", "--json", rich_help_panel=ALWAYS)
]
Quietly = Annotated[bool, option("Write only results and errors.", "--quiet", "-q", rich_help_panel=ALWAYS)]
AsCsv = Annotated[bool, option("Print CSV.", "--csv")]
Budgets = Annotated[str, option("Shares of the cost that may be left.", default=SHARES, unit="SHARES")]
Cost = Annotated[str, option("The cost that the budgets limit: params or macs.", default="params", unit="NAME")]
Test = Annotated[bool, option("Measure ours and the best baselines on test images as well.", "--test")]
Size = Annotated[str | None, option("Image size where the model leaves it open: 224,224,3.", unit="H,W,C")]
CacheFolder = Annotated[
    str | None,
    option("Another cache than the user's.", "--cache", default="$LRF_OPTUNA_CACHE, or the user's", unit="FOLDER"),
]
Clear = Annotated[bool, option("Remove all that is kept there.", "--clear")]
Host = Annotated[str, option("Address to listen on.", default="127.0.0.1", unit="ADDRESS")]
Port = Annotated[int, option("Port to listen on.", default="8080", unit="NUMBER", min=1, max=65535)]


def with_output(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --json and --quiet, as its argument `output`."""
    own = inspect.signature(command, eval_str=True).parameters
    flags = [parameter("as_json", AsJson, False), parameter("quiet", Quietly, False)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        output = Output(given.pop("as_json"), given.pop("quiet"))
        command(**given, output=output)

    shown = [keyword(p) for name, p in own.items() if name != "output"]
    run.__signature__ = inspect.Signature([*shown, *flags])  # type: ignore[attr-defined]
    return run


def with_settings(*keys: str, default: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options of these settings, or of all, as its argument `settings`: key -> value of those given.

    A command with an argument `found` gets the study that its argument NAME and the options --out and --storage mean.
    `default`: what help shows in the place of the defaults.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        wanted = sorted((*keys, "search.storage") if "found" in own else keys or OPTIONS, key=place_in_help)
        sources = {key: list(parameters_of(key, default)) for key in wanted}

        def run(**given: Any) -> None:
            values = {key: value_of(key, [given.pop(p.name) for p in of_key]) for key, of_key in sources.items()}
            settings = {key: value for key, value in values.items() if value is not None}
            if "found" in own:
                where = given.pop("name"), settings.pop("search.storage", None), given.pop("out")
                given["found"] = found_study(where, settings)
            command(**given, **({"settings": settings} if "settings" in own else {}))

        shown = [keyword(p) for name, p in own.items() if name not in ("settings", "found")]
        if "found" in own:
            shown = [parameter("name", StudyName), *shown, parameter("out", RareOut, None)]
        often = [p for key in wanted if key in OFTEN_USED for p in sources[key]]
        rarely = [p for key in wanted if key not in OFTEN_USED for p in sources[key]]
        signature = inspect.Signature([*often, *shown, *rarely])
        run.__name__, run.__doc__, run.__signature__ = command.__name__, command.__doc__, signature  # type: ignore[attr-defined]
        return run

    return decorate


def place_in_help(key: str) -> int:
    """The place of a setting in help: those that are often used come first, the others stay in their order."""
    return OFTEN_USED.index(key) if key in OFTEN_USED else len(OFTEN_USED)


def found_study(where: tuple[str, str | None, Path | None], settings: Mapping[str, object]) -> ExistingStudy:
    """The study of a name, a storage and a run folder. Raises LrfError where there is none, and for wrong settings.

    Both are checked before Optuna is loaded.
    """
    check_settings(settings)
    check_study(*where)
    from lrf_optuna.pipeline.run_folder import locate

    return locate(*where)


def parameters_of(key: str, default: str) -> Iterator[inspect.Parameter]:
    """The parameters that give a setting: its option, and its flag where no command has another `default`."""
    shown, name, usual = OPTIONS[key], key.replace(".", "_"), OPTIONS[key].field.default
    panel = OFTEN if key in OFTEN_USED else RARELY + (shown.panel or SECTION_PANELS[key.rpartition(".")[0]])
    if not shown.flag or shown.flag.help:
        words = default or default_in_words(key)
        kind = list[str] if isinstance(usual, dict) or shown.repeated else str
        kinds = str(shown.field.annotation)
        unit = shown.unit or ("NUMBER" if re.search(r"\b(int|float)\b", kinds) else "NAME") + "S" * ("tuple" in kinds)
        info = option(shown.help, shown.name, default=words, unit=unit, rich_help_panel=panel)
        yield parameter(name, Annotated[kind | None, info], None)
    if shown.flag and not (default and shown.flag.help):  # a flag that is the only option of a setting stays
        for number, flag in enumerate(shown.flag.name.split()):
            info = option(shown.flag.help or shown.help, flag, rich_help_panel=panel, hidden=number > 0)
            yield parameter(f"{name}_flag{number}", Annotated[bool, info], False)


def parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """A parameter of a command as typer reads it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def keyword(given: inspect.Parameter) -> inspect.Parameter:
    """A parameter that is given by its name alone, so that any order will do."""
    return given.replace(kind=inspect.Parameter.KEYWORD_ONLY)


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


def default_in_words(key: str) -> str:
    """The default of a setting as help shows it: a study file may have another one, but for model, data and name."""
    shown = OPTIONS[key]
    usual = shown.shown or in_words(shown.field.default)
    return f"{OF_THE_STUDY}, or {usual}" if usual and key not in ("name", "search.storage") else usual


def in_words(default: Any) -> str:
    """A default as help shows it; None as nothing."""
    if isinstance(default, tuple):
        return ",".join(map(in_words, default))
    return f"{default:g}" if isinstance(default, int | float) else default if isinstance(default, str) else ""
