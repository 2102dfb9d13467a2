"""What options mean: their help where several commands have them, and their text as values of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from lrf_optuna.errors import LrfError

if TYPE_CHECKING:
    from lrf_optuna.config import StudySpec


def option(text: str, default: str | None = None, panel: str | None = None, *names: str) -> Any:
    """An option with its help, the default that help shows, and its panel."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=default or False)


Text: TypeAlias = str | None
Whole: TypeAlias = int | None
Real: TypeAlias = float | None
ALL, DATA, SEARCH, CHOICE, TUNE = None, "Data", "Search", "Choice", "Fine-tuning"

Name = Annotated[str, typer.Argument(help="The study: its name under runs/, or its run folder.")]
Study = Annotated[Text, typer.Argument(help="A study file (.toml), or an embedded one's name.", show_default="digits")]
Network = Annotated[Text, option("FILE.keras, FILE.h5, keras:NAME, zoo:NAME or package.module:function.")]
Source = Annotated[Text, option("FILE.npz, a FOLDER of class folders, keras:NAME or digits.")]
StudyName = Annotated[Text, option("The study's name.", "the study file's, or the model's")]
Out = Annotated[Path | None, option("The run folder.", "runs/NAME")]
Storage = Annotated[Text, option("Database URL of the study.", "SQLite in the run folder")]
AsJson = Annotated[bool, option("Print JSON.", None, ALL, "--json")]
AsCsv = Annotated[bool, option("Print CSV.", None, ALL, "--csv")]

Target = Annotated[
    list[str] | None, typer.Option(help="Most that may be left, params=0.4 or macs=0.5.", rich_help_panel=CHOICE)
]
MaxDrop = Annotated[Real, option("Most points of validation accuracy to lose before tuning.", None, CHOICE)]
By = Annotated[
    Text, option("What a point is picked by: accuracy (at least a dozen are measured) or loss.", "accuracy", CHOICE)
]
Knee = Annotated[bool, option("The knee of the front: the default.", None, CHOICE, "--knee")]

Trials = Annotated[Whole, option("Trials in all: those that are there count.", "300", SEARCH)]
Seed = Annotated[Whole, option("Seed of everything random.", "0", SEARCH)]
Calibration = Annotated[Whole, option("Training images to fit layers to and score plans on.", "1024", SEARCH)]
Population = Annotated[Whole, option("NSGA-II's population.", "50", SEARCH)]
Methods = Annotated[Text, option("Decompositions to choose from, with commas.", "all", SEARCH)]
Objectives = Annotated[Text, option("Costs to minimise, with commas.", "loss,params,macs", SEARCH)]
Similarity = Annotated[Text, option("Of feature maps: cosine, cka, explained or agreement.", "cosine", SEARCH)]
Maps = Annotated[Text, option("Compared are logits, or deep: the last maps as well.", "logits", SEARCH)]
Sampler = Annotated[Text, option("surrogate, or Optuna's plain nsga2, nsga3, tpe, gp or random.", "surrogate", SEARCH)]
NoInitialPlans = Annotated[
    bool, option("Begin with random plans instead of good ones.", None, SEARCH, "--no-initial-plans")
]
StopWhenFlat = Annotated[bool, option("End where the hypervolume hardly rises.", None, SEARCH, "--stop-when-flat")]
Workers = Annotated[Whole, option("Processes that search on the study together.", "1", SEARCH)]
Keep = Annotated[Text, option("The shares that a layer may keep, with commas.", "24 from 0.01 to 0.92", SEARCH)]

CacheAt = Annotated[
    Path | None,
    option("Where fits are kept for the next run.", "$LRF_OPTUNA_CACHE, or the user's cache", SEARCH, "--cache"),
]
NoCache = Annotated[bool, option("Keep no fits, and use none that are kept.", None, SEARCH, "--no-cache")]

Budgets = Annotated[Text, option("Shares of the cost that may be left, with commas.", "0.7,0.5,0.4,0.3,0.2,0.1")]
Cost = Annotated[Text, option("What the budgets are of: params or macs.", "params")]
Test = Annotated[
    bool,
    option("Measure the test images too, of ours and the best baselines; they are only reported.", None, ALL, "--test"),
]

AllMethods = Annotated[bool, option("What every method makes of every layer.", None, ALL, "--all-methods")]
Keeps = Annotated[Text, option("With --all-methods: the shares to keep, with commas.", "0.2,0.4,0.6", ALL, "--keeps")]
Fitted = Annotated[Text, option("With --all-methods: images to fit to, as of run. Errors are then of outputs.")]
Images = Annotated[Whole, option("Training images to fit layers to.", "1024", DATA, "--calibration")]

Divide = Annotated[Real, option("The network takes (pixel / divide - mean) / std.", "1", DATA)]
Mean = Annotated[Text, option("One number, or one a channel, with commas.", "0", DATA)]
Std = Annotated[Text, option("One number, or one a channel, with commas.", "1", DATA)]
Augment = Annotated[Text, option("As in the network's training: none, flip, crop, flip-crop.", "none", DATA)]
Validation = Annotated[Real, option("Share of the training images to split off without x_val.", "0.1", DATA)]

Epochs = Annotated[Whole, option("Passes of the one fine-tune.", "5", TUNE)]
NoTune = Annotated[bool, option("Leave the built model as it is.", None, TUNE, "--no-tune")]
Force = Annotated[bool, option("Let an untuned model replace a tuned one.", None, TUNE, "--force")]
Rate = Annotated[Text, option("Learning rate, or auto to find it from the data.", "auto", TUNE)]
Batch = Annotated[Whole, option("Images a step.", "128", TUNE)]
Distil = Annotated[Real, option("Weight of the distillation from the original.", "5", TUNE)]
Optimizer = Annotated[Text, option("adamw or sgd.", "adamw", TUNE)]


def asked(study: str | None, options: Mapping[str, object]) -> StudySpec:
    """The study file's specification, or the digits', or one of options alone, with the options over it."""
    from lrf_optuna.config import DataSpec, ModelSpec, StudySpec, find_study, name_for

    model, data = options["model.path"], options["data.path"]
    if study is None and (model or data):
        if not (model and data):
            given, missing = ("--model", "--data") if model else ("--data", "--model")
            raise LrfError(f"{given} without {missing}: give both, or a study file that has the other")
        plain = StudySpec(name="study", model=ModelSpec(path=str(model)), data=DataSpec(path=str(data)))
        return plain.override(
            {"name": name_for(str(model), str(data))} | {k: v for k, v in options.items() if v is not None}
        )
    spec = StudySpec.from_toml(find_study(study)) if study else StudySpec.default()
    return spec.override(options)


def check_survey(all_methods: bool, keeps: str | None, data: str | None, on_images: Mapping[str, object]) -> None:
    """Raises LrfError for options of `layers` that say nothing without another one that is not there."""
    given = [f"--{name.partition('.')[2]}" for name, value in on_images.items() if value is not None]
    if given and not data:
        raise LrfError(f"{given[0]} is for the images of --data: give both")
    if not all_methods and (keeps or data):
        raise LrfError(f"{'--keeps' if keeps else '--data'} goes with --all-methods: give both")


def choosing(
    spec: StudySpec, target: list[str] | None, max_drop: float | None, knee: bool, by: str | None
) -> StudySpec:
    """The specification with the way to choose that the options ask for, in the place of the study's own."""
    if knee and (target or max_drop is not None):
        raise LrfError("--knee goes with neither --target nor --max-drop: give one way to choose")
    if knee or target or max_drop is not None:
        spec = spec.choosing({}, None)
    return spec.override({"search.targets": shares(target), "search.max_drop": max_drop, "search.by": by})


def cached(place: Path | None, off: bool) -> Path | bool | None:
    """What --cache and --no-cache mean for a study. Raises LrfError for both, and for a folder that cannot be."""
    if place and off:
        raise LrfError("--no-cache goes with no --cache: give one of them")
    if place:
        from lrf_optuna.files import check_folder

        check_folder(place.expanduser())
    return False if off else place


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas. Raises LrfError for other text."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LrfError(f"{option} should be numbers with commas, but got {text!r}") from None


def words(text: str | None) -> tuple[str, ...] | None:
    """Names with commas."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def shares(texts: list[str] | None) -> dict[str, float] | None:
    """Targets of the form cost=share. Raises LrfError for other text."""
    if not texts:
        return None
    found = {}
    for text in texts:
        cost, _, share = text.partition("=")
        try:
            found[cost.strip()] = float(share)
        except ValueError:
            raise LrfError(f"--target should be COST=SHARE such as params=0.4, but got {text!r}") from None
    return found


def rate_of(text: str | None) -> float | str | None:
    """A learning rate: a number, or the word auto."""
    if text in (None, "auto"):
        return text
    (number,) = numbers("--rate", text) or (0.0,)
    return number
