"""The result of a run, as result.json has it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lrf_optuna.errors import LrfError
from lrf_optuna.plans.plan import Candidate, Plan

EARLIER_NAMES = {"val_accuracy": "val_metric", "test_accuracy": "test_metric"}
"""Names of earlier versions -> those of today."""
STATES = ("original", "built", "calibrated", "tuned")
"""The networks of a result, in the order in which they are made."""
NO_EPOCHS = ("epochs", None)
"""The entry of a network that was not tuned."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A network's size (absolute counts), its metric, and its file size (bytes; 0 where there is no file).

    `further`: other figures on test images; `by_output`: the metric of each of several outputs on test images;
    `never_predicted`: output -> classes that the original predicts and this network never does. `macs` are those that
    are counted: the result names the layers whose MACs are not known.
    """

    params: int
    macs: int
    val_metric: float
    test_metric: float
    file_bytes: int = 0
    epochs: int | None = None
    further: dict[str, float] = field(default_factory=dict)
    by_output: dict[str, float] = field(default_factory=dict)
    never_predicted: dict[str, list[int]] = field(default_factory=dict)
    recalls: dict[str, dict[str, float]] = field(default_factory=dict)
    """Output -> class -> the share of its test images that is classified correctly."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """Runtime -> milliseconds of a call, of the original and of the last network; empty where none were measured."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a fine-tune did. `rate`: the largest learning rate of its schedule.

    `val_metric`: the metric on validation images before the fine-tune and after each epoch. `kept_epoch`: the epoch
    whose weights the model has; 0 is the network from before. `distil_by`: logits or probabilities, whichever the
    distillation compares, or outputs where these are numbers; empty without a distillation.
    """

    rate: float
    val_metric: tuple[float, ...]
    kept_epoch: int
    distil_by: str = ""

    def __str__(self) -> str:
        epochs = len(self.val_metric) - 1
        distills = f", {self.distil_by} distilled" if self.distil_by else ""
        kept = (
            f"the weights after epoch {self.kept_epoch}" if self.kept_epoch else "the weights from before the fine-tune"
        )
        return f"{epochs} epoch{'s' * (epochs != 1)}, learning rate {self.rate:g}{distills}; {kept} are kept"


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer with weights or MACs before and after a plan; parameters count the bias, MACs are for one image.

    MACs are None where they are not known.
    """

    name: str
    kind: str
    method: str
    ranks: tuple[int, ...]
    params_before: int
    params_after: int
    macs_before: int | None
    macs_after: int | None
    reason: str = ""
    """Why the layer cannot be factorized, where it cannot."""


@dataclass(slots=True)
class Export:
    """A file for another runtime, as it was compared with the Keras model on the same inputs.

    `batch`: images of a call, or any; `difference`: the largest one of all outputs, beside the `largest_output`;
    `metric` and `keras_metric` on `images` test images, None without labels; milliseconds are of one image on one
    thread, None where none were measured. `problem`: why there is no file, or why its runtime cannot run it.
    """

    format: str
    precision: str
    file: str
    batch: str
    file_bytes: int = 0
    difference: float | None = None
    largest_output: float | None = None
    images: int = 0
    real_images: bool = True
    metric: float | None = None
    keras_metric: float | None = None
    milliseconds: float | None = None
    keras_milliseconds: float | None = None
    runtime: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A drop in points of the metric that is predicted, and an interval that holds 80 % of the outcomes."""

    drop: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.drop:.2f} ({self.low:.2f} to {self.high:.2f} with 80 %)"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A point of the front with a name: safe, balanced or small, for whoever has no number in mind.

    `metric`: on validation images, in the last `state` that was measured: as scored, as built, calibrated or tuned.
    `predicted`: the metric after the fine-tune or calibration that comes, and the ends of its interval; else None.
    `milliseconds`: of a call; None where they are not known, and `timed` where they were measured and not predicted.
    """

    name: str
    trial: int
    costs: dict[str, float]
    metric: float
    state: str
    predicted: tuple[float, float, float] | None = None
    milliseconds: float | None = None
    timed: bool = False
    command: str = ""
    """What makes the model of the point, or makes it model.keras again."""


@dataclass(slots=True, repr=False)
class Result:
    """The result of a run. `seconds`: phase -> seconds. `tuned` is None where nothing was tuned.

    `calibrated` is None where a calibration was not asked for, or brought the outputs no closer to the original's.

    `uncounted_macs`: the layers whose MACs are not known, and are in no total.
    """

    study: str
    trials: int
    distinct: int
    calibration: int
    seconds: dict[str, float]
    original: Evaluation
    chosen: Candidate
    why: str = ""
    built: Evaluation | None = None
    calibrated: Evaluation | None = None
    tuned: Evaluation | None = None
    fine_tune: Tuned | None = None
    """How `tuned` came about; None without a fine-tune, and in results of earlier versions."""
    layers: list[LayerResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What cannot be right about the set-up, and classes that are no longer predicted."""
    metric: str = "accuracy"
    """The name of the metric of all evaluations; 1 is perfect, and a hundredth is a point."""
    uncounted_macs: list[str] = field(default_factory=list)
    model_digest: str = ""
    """A digest of all that decides what model.keras is: equal digests need no second build."""
    exports: list[Export] = field(default_factory=list)
    """Files of the model for other runtimes."""
    predicted_drop: float | None = None
    """Points of the validation metric that the chosen network was predicted to lose after a fine-tune."""
    predicted_interval: tuple[float, float] | None = None
    """The points between which eight of ten outcomes of such a prediction are."""
    tuned_drop: float | None = None
    """Points of the validation metric that the fine-tuned network loses; below 0 where it gains."""
    place: str = ""
    """Threads and images of a call of the milliseconds, the versions of the runtimes, and the machine."""
    alternatives: list[Alternative] = field(default_factory=list)
    """The named points of the front, as far as their metrics are known."""

    @property
    def slower_in(self) -> list[str]:
        """The runtimes in which the last network takes at least as long as the original."""
        own = self.final.milliseconds
        return [name for name, time in self.original.milliseconds.items() if own.get(name, 0.0) >= time]

    @property
    def outcome(self) -> str:
        """The drop after the fine-tune beside the predicted one, as a sentence; empty where there is none of both."""
        if self.tuned_drop is None or self.predicted_drop is None:
            return ""
        low, high = self.predicted_interval or (self.predicted_drop,) * 2
        where = "inside" if low <= self.tuned_drop <= high else "outside"
        verb = "loses" if self.tuned_drop >= 0 else "gains"
        return (
            f"the last network {verb} {abs(self.tuned_drop):.2f} points of validation {self.metric}, "
            f"{where} the interval of the prediction: {Prediction(self.predicted_drop, low, high)}"
        )

    @property
    def summary(self) -> str:
        """The last network beside the original, in one line."""
        whole, last = self.original, self.final
        if last is whole:
            return f"{self.study}: no network was built yet, the original has {whole.params:,} parameters"
        macs = f", {last.macs / whole.macs:.1%} of the MACs" if whole.macs else ""
        metrics = f"test {self.metric} {last.test_metric:.2%} (original {whole.test_metric:.2%})"
        sizes = f"{last.params / whole.params:.1%} of the parameters{macs}"
        return f"{self.study}, {self.final_state}: {sizes}, {metrics}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary}>"

    @property
    def helped(self) -> bool:
        """Whether a fine-tune was made, and gave better weights than those from before it."""
        return self.tuned is not None and (self.fine_tune is None or self.fine_tune.kept_epoch > 0)

    @property
    def final_state(self) -> str:
        """The name of the last network that was made."""
        return next(name for name in reversed(STATES) if getattr(self, name))

    @property
    def final(self) -> Evaluation:
        """The last network that was made."""
        return self.tuned or self.calibrated or self.built or self.original

    def to_dict(self) -> dict[str, Any]:
        """The content of result.json; an evaluation without epochs has no such key."""
        table = asdict(
            self, dict_factory=lambda pairs: {key: value for key, value in pairs if (key, value) != NO_EPOCHS}
        )
        plan, why = self.chosen.plan.to_dict(), table.pop("why")
        table["chosen"] = {"trial": self.chosen.trial, **self.chosen.costs, "plan": plan, "why": why}
        table["seconds"] = {step: round(value, 2) for step, value in self.seconds.items()}
        return table

    def to_json(self) -> str:
        """result.json as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> Result:
        """The result in a file. Raises LrfError where there is no file, or its content is no result."""
        try:
            table = json.loads(path.read_text())
            chosen = table.pop("chosen")
            why, plan, trial = chosen.pop("why"), Plan.from_dict(chosen.pop("plan")), chosen.pop("trial")
            for name in STATES:
                table[name] = read_evaluation(table[name]) if table.get(name) else None
            layers = [LayerResult(**{**row, "ranks": tuple(row["ranks"])}) for row in table.pop("layers")]
            if tuned := table.get("fine_tune"):
                table["fine_tune"] = Tuned(**{**tuned, "val_metric": tuple(tuned["val_metric"])})
            if table.get("predicted_interval"):
                table["predicted_interval"] = tuple(table["predicted_interval"])
            table["exports"] = [Export(**row) for row in table.get("exports", ())]
            table["alternatives"] = [read_alternative(row) for row in table.get("alternatives", ())]
            return cls(**table, chosen=Candidate(trial, plan, chosen), why=why, layers=layers)
        except FileNotFoundError:
            raise LrfError(f"no result in {path.parent}: run it first") from None
        except (KeyError, TypeError, ValueError, AttributeError) as reason:
            raise LrfError(f"{path} is not a result of lrf_optuna ({reason!r})") from None


def read_evaluation(table: dict[str, Any]) -> Evaluation:
    """The evaluation of a part of result.json, also of one of earlier versions, which measured accuracies alone."""
    return Evaluation(**{EARLIER_NAMES.get(key, key): value for key, value in table.items()})


def read_alternative(row: dict[str, Any]) -> Alternative:
    """A named point of a part of result.json."""
    predicted = row.get("predicted")
    return Alternative(**{**row, "predicted": predicted and tuple(predicted)})
