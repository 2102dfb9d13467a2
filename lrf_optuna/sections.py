"""The sections of a study on search, layers, milliseconds and fine-tune: defaults, limits, what `--help` shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from lrf_optuna.errors import LrfError
from lrf_optuna.setting_fields import (
    CHOICE,
    COMMAS,
    GENERAL,
    LATENCY,
    LAYERS,
    FileName,
    Flag,
    FolderName,
    Keeps,
    Limit,
    Names,
    Patterns,
    Section,
    setting,
)

KEEP = (
    *(0.01, 0.02, 0.03, 0.04, 0.055, 0.07, 0.085, 0.1, 0.125, 0.15, 0.175, 0.2, 0.23),
    *(0.26, 0.295, 0.33, 0.37, 0.42, 0.48, 0.55, 0.63, 0.72, 0.82, 0.92),
)
"""Shares of its parameters that a layer may keep. Steps are fine, so that networks of few layers can fill a budget.

Shares below 0.03 are for layers that hold a large part of a network (`scoring/screening.py`).
"""
BUDGETS = (0.7, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of a cost: initial plans are made for each of these, and `compare` compares at each, by default.

The steps cover the range from little to strong compression that papers on factorization report.
"""
EARLIER_KEYS = {"seeded": "initial_plans", "racing": "", "workers": "", "maps": ""}
"""Keys of [search] in earlier versions -> their names today. Keys without a name today are dropped."""
EARLIER_VALUES = {("sampler", "bred"): "surrogate", ("by", "accuracy"): "metric"}
"""(Key of [search], its value in earlier versions) -> the value's name today."""
OBJECTIVES = ("loss", "params", "macs")
"""Costs that a search minimizes by default."""
PATTERNS = "names, where * stands for any letters, separated by commas"


class SearchSpec(Section):
    """How the front is searched, and how one point of it is chosen."""

    trials: int = setting(300, "Trials in all. Trials that the study has already count.", ge=1)
    calibration: int = setting(1024, "Training images to fit layers to and to score plans on.", unit="IMAGES", ge=16)
    population: int = setting(50, "Candidates in a generation of NSGA-II.", ge=2)
    seed: int = setting(0, "Seed of everything that is random.", ge=0)
    methods: Names | None = setting(None, "Decompositions to choose from, separated by commas.", shown="all")
    objectives: Names = setting(
        OBJECTIVES, "Costs to minimize, separated by commas: loss, params, macs, latency, or your own."
    )
    similarity: str = setting("auto", "How outputs are compared: auto (by task), cosine, cka, explained or agreement.")
    keep: Keeps | None = setting(
        None, "Shares of parameters that layers may keep.", shown="24 shares, 12 for many layers", hint=COMMAS
    )
    exclude: Patterns = setting(
        (), f"Layers to leave as they are: {PATTERNS}.", unit="PATTERNS", panel=LAYERS, shown="none", repeated=True
    )
    only: Patterns = setting(
        (), f"The only layers to factorize: {PATTERNS}.", unit="PATTERNS", panel=LAYERS, shown="all", repeated=True
    )
    rank_multiple: Annotated[int, Field(ge=1)] | Literal["auto"] = setting(
        "auto",
        "Ranks are multiples of this number where they can be; auto: of what the runtime computes at once.",
        panel=LAYERS,
        unit="NUMBER",
        shown="auto, 1 without the objective latency",
    )
    storage: str | None = setting(
        None, "Database URL of the study.", unit="URL", panel=GENERAL, shown="SQLite in the run folder"
    )
    cache: FolderName | bool = setting(
        True,
        "Folder where fitted kernels are kept for the next run.",
        unit="FOLDER",
        shown="$LRF_OPTUNA_CACHE, or the user's cache",
        flag=Flag("--no-cache", False, "Keep no fitted kernels, and use none that are kept."),
    )
    targets: dict[Literal["params", "macs", "latency"], Annotated[float, Field(gt=0, le=1)]] = setting(
        {},
        "Largest share of a cost that may be left: params=0.4, macs=0.5, latency=0.5. May be given for several.",
        name="--target",
        unit="COST=SHARE",
        hint="give COST=SHARE, as in params=0.4",
        panel=CHOICE,
    )
    max_drop: float | None = setting(
        None, "Most points of the validation metric to lose before fine-tuning.", unit="POINTS", panel=CHOICE, ge=0
    )
    after_tuning: bool = setting(
        False,
        "Limit the drop that is predicted after fine-tuning, in the place of the one before.",
        panel=CHOICE,
        flag=Flag("--after-tuning", True),
    )
    knee: bool = setting(
        False,
        "Choose the knee of the front. Default: the smallest network that is predicted to lose at most one point.",
        panel=CHOICE,
        flag=Flag("--knee", True),
    )
    by: Literal["metric", "loss"] = setting("metric", "What decides among points: metric or loss.", panel=CHOICE)
    sampler: str = setting("surrogate", "Sampler: surrogate, nsga2, nsga3, tpe, gp (needs torch) or random.")
    initial_plans: bool = setting(
        True, "Begin with random plans instead of good ones.", flag=Flag("--no-initial-plans --no-seeds", False)
    )
    stop_when_flat: bool = setting(False, "End when the hypervolume hardly rises.", flag=Flag("--stop-when-flat", True))

    @model_validator(mode="before")
    @classmethod
    def _as_named_today(cls, keys: Any) -> Any:
        if not isinstance(keys, dict):
            return keys
        if keys.get("maps", "logits") != "logits":
            raise LrfError(f"maps = {keys['maps']!r} is gone, plans are compared by logits: start a new study")
        found = {name: value for key, value in keys.items() if (name := EARLIER_KEYS.get(key, key))}
        found |= {key: today for (key, was), today in EARLIER_VALUES.items() if found.get(key) == was}
        return cls._with_latency(found)

    @classmethod
    def _with_latency(cls, keys: dict[str, Any]) -> dict[str, Any]:
        """The keys with latency as an objective, where a target asks for it and no objectives are given."""
        targets = dict(keys.get("targets") or {})
        if keys.get("objectives") or "latency" not in targets:
            return keys
        return {**keys, "objectives": [*OBJECTIVES[: 3 if "macs" in targets else 2], "latency"]}

    @field_validator("targets")
    @classmethod
    def _among_the_objectives(cls, targets: dict[str, float], info: Any) -> dict[str, float]:
        objectives = info.data.get("objectives", targets)
        for target in targets.keys() - objectives:
            raise ValueError(f"for {target!r} needs it among the objectives ({', '.join(objectives)})")
        return targets

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> SearchSpec:
        if self.knee and (self.targets or self.max_drop is not None):
            raise LrfError("--knee goes with neither --target nor --max-drop: give one way to choose")
        if self.after_tuning and self.max_drop is None:
            raise LrfError("--after-tuning says which drop --max-drop limits: give --max-drop POINTS as well")
        return self

    @property
    def measures(self) -> bool:
        """Whether points are measured for a choice, or the loss alone decides."""
        return self.by == "metric" or self.max_drop is not None

    @property
    def wanted(self) -> dict[str, float]:
        """The targets by the names of their objectives."""
        return {str(cost): share for cost, share in self.targets.items()}


class LatencySpec(Section):
    """Where milliseconds are measured: in the objective `latency`, and at the end of every run.

    `threads`: of the runtime, 0 or "all" for all processors. `latency_table`: a file of another device's milliseconds.
    """

    runtime: Literal["litert", "onnx", "keras"] = setting(
        "litert", "Runtime whose milliseconds count: litert, onnx or keras.", panel=LATENCY
    )
    threads: Annotated[int, BeforeValidator(lambda given: 0 if given == "all" else given), Field(ge=0)] = setting(
        1, "Threads of the runtime: a number, or all.", panel=LATENCY, unit="NUMBER"
    )
    runtime_batch: int = setting(1, "Images of a call.", panel=LATENCY, ge=1)
    latency_table: FileName | None = setting(
        None, "Milliseconds of layers on another device, as latency.csv has them.", unit="FILE.csv", panel=LATENCY
    )
    time_at_end: bool = setting(
        True,
        "Measure no milliseconds of the original and the smaller network at the end.",
        panel=LATENCY,
        flag=Flag("--no-timing", False),
    )


class TuneSpec(Section):
    """How the built network is calibrated and fine-tuned. With `epochs = 0` it is not fine-tuned."""

    calibrate: Literal["auto", "always", "never"] = setting(
        "auto",
        "Bring the built network closer to the original without labels: auto (before a fine-tune), always or never.",
        flag=Flag("--no-calibrate", "never", "Do not calibrate the built network."),
    )
    epochs: int = setting(5, "Passes over the training images.", flag=Flag("--no-tune", 0, "Do not fine-tune."), ge=0)
    rate: Annotated[float, Field(gt=0, le=1e3)] | Literal["auto"] = setting(
        "auto", "Learning rate, or auto to find it from the data."
    )
    batch: int = setting(128, "Images in a training step.", unit="IMAGES", ge=1)
    distil: float = setting(1.0, "Weight of the distillation from the original.", ge=0, le=1e6)
    distil_by: Literal["auto", "logits", "probabilities"] = setting(
        "auto", "What is distilled: logits, probabilities, or auto to find it from the data."
    )
    cutmix: bool = setting(
        True,
        "Paste no rectangles of other images into augmented ones in the fine-tune.",
        flag=Flag("--no-cutmix", False),
    )
    optimizer: Literal["muon", "adamw", "sgd"] = setting("muon", "Optimizer: muon, adamw or sgd.")

    @field_validator("calibrate", mode="before")
    @classmethod
    def _yes_or_no(cls, calibrate: Any) -> Any:
        return {True: "always", False: "never"}[calibrate] if isinstance(calibrate, bool) else calibrate

    @property
    def calibrates(self) -> bool:
        """Whether the built network is calibrated."""
        return self.calibrate == "always" or (self.calibrate == "auto" and self.epochs > 0)


class LayerSpec(Section):
    """What the choices of the layers with one pattern of names are limited to: a section [layers."conv*"].

    `keep`: the least and the largest share of its parameters that a layer may keep; an intact layer keeps 1.
    """

    keep: Annotated[tuple[Limit, Limit], Field(strict=False)] | None = None
    methods: Names | None = None

    @field_validator("keep")
    @classmethod
    def _from_least_to_most(cls, keep: tuple[float, float] | None) -> tuple[float, float] | None:
        if keep and not (keep[0] <= keep[1] and keep[1] > 0):
            raise ValueError("should be the least and the largest share, as in [0.5, 1.0]")
        return keep
