"""The network of the chosen point in its states, built, calibrated and tuned: each is made, measured and written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import Values
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import metric_name
from lrf_optuna.models.custom_objects import what_loading_needs
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.inventory import Inventory, plan_counts
from lrf_optuna.models.model_files import load_like
from lrf_optuna.pipeline.build import build
from lrf_optuna.pipeline.evaluate import evaluation_of
from lrf_optuna.pipeline.identity import model_digest
from lrf_optuna.pipeline.load_inputs import loss_functions
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.pipeline.stopwatch import Stopwatch
from lrf_optuna.plans.plan import Plan
from lrf_optuna.plans.result import Evaluation, Result, Tuned
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.selection.contest import BUILT
from lrf_optuna.selection.forecast import FORECASTS
from lrf_optuna.selection.plan_refits import PlanRefits
from lrf_optuna.training.calibrate import DEFAULT as CALIBRATION
from lrf_optuna.training.calibrate import calibrate, enough_images
from lrf_optuna.training.checkpoint import Checkpoint
from lrf_optuna.training.finetune import finetune

log = logging.getLogger(__name__)
KNOWN_FROM_CHOICE = ("original", "built")
"""Networks whose validation metric may be known from the choice among points."""


@dataclass
class ChosenNetwork:
    """The network of a plan, made of the `original` of a study and measured beside it.

    `identity`: of the study; `refits`: gives the kernels and the metric of the plan as it is built.
    """

    spec: StudySpec
    folder: RunFolder
    original: Any
    data: Data
    identity: Mapping[str, str]
    refits: PlanRefits
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    progress: Progress = SILENT
    callbacks: Sequence[Any] = ()
    """Keras callbacks of the fine-tune."""
    original_outputs: dict[str, Values] = field(default_factory=dict)
    """Output -> what the original gives for the test images, once it was evaluated."""
    last_outputs: dict[str, Values] = field(default_factory=dict)
    """Output -> what the network that was evaluated last gives for the test images."""
    needs: str = ""
    """What loading the written model needs beside Keras, in words."""

    @property
    def inventory(self) -> Inventory:
        """Every layer of the original."""
        return self.refits.validation.proxy.inventory

    def build_and_tune(self, result: Result) -> Any:
        """The last network of the chosen point: built, and tuned where the specification asks for that.

        The network is written, and all states are in `result`, which has the original already.
        """
        point, plan, epochs = result.chosen, result.chosen.plan, self.spec.tune.epochs
        last = None if epochs else point.trial
        untuned_digest = model_digest(self.spec, self.data, self.identity, plan, tuned=False)
        untuned = self.folder.untuned_for(point, untuned_digest)
        built = untuned or self.folder.untuned_for(point, self.built_digest(plan))
        if built:
            known, file = built
            model = load_like(file, self.original)
            result.built, result.calibrated = known.built, known.calibrated
            result.predicted_drop, result.predicted_interval = known.predicted_drop, known.predicted_interval
        else:
            with self.stopwatch.timed("build"):
                model = build(self.original, plan, self.refits.validation.proxy, self.refits.result(plan))
            result.built = self.evaluate("built", model, plan, last)
            images, drop = self.refits.validation.own_images, self.drop_as_compared(plan)
            predicted = FORECASTS["tuned"].on(images).after(drop)
            result.predicted_drop, result.predicted_interval = predicted.drop, (predicted.low, predicted.high)
        if not untuned:
            result.calibrated = self.calibrate(model, plan, last)
            if epochs:
                self.folder.write_untuned(model, result, untuned_digest)
        if epochs:
            result.tuned = self.tune(model, result)
            result.tuned_drop = 100 * (result.original.val_metric - result.tuned.val_metric)
        if not (result.tuned and self.leaves_earlier(result)):
            self.needs = what_loading_needs(self.folder.models.model(point.trial), model)
        if self.needs:
            self.progress.say(self.needs)
        return model

    def leaves_earlier(self, result: Result) -> bool:
        """Whether the fine-tune of a result did not help, and the point has a model that an earlier one helped."""
        return not (result.fine_tune and result.fine_tune.kept_epoch) and bool(self.folder.stays(result.chosen))

    def drop_as_compared(self, plan: Plan) -> float:
        """Points of the metric that a plan loses as built, on the images that points are compared on."""
        original, built = (self.refits.measurement(one, BUILT).metric for one in (Plan(()), plan))
        return 100 * (original - built)

    def built_digest(self, plan: Plan) -> str:
        """The digest of the built model of a plan, which was not calibrated."""
        tune = self.spec.tune.model_copy(update={"calibrate": "never"})
        uncalibrated = self.spec.model_copy(update={"tune": tune})
        return model_digest(uncalibrated, self.data, self.identity, plan, tuned=False)

    def calibrate(self, model: Any, plan: Plan, trial: int | None = None) -> Evaluation | None:
        """The evaluation of a built model after its calibration; None where none is asked for, or it does not help."""
        if not self.spec.tune.calibrates or not plan.changed or not model.trainable_variables:
            return None
        if not enough_images(self.data):
            few = f"{len(self.data.train)} training images are too few to calibrate on"
            self.progress.say(f"{few}: the built weights stay; give {CALIBRATION.fewest_images} or more")
            return None
        with self.stopwatch.timed("calibrate"):
            given, settings = (model, self.original, self.data), CALIBRATION.within(self.inventory.macs)
            found = calibrate(*given, settings=settings, seed=self.spec.search.seed, progress=self.progress)
        if not found.better:
            self.progress.say("calibration brings the outputs no closer to the original's: the built weights stay")
            return None
        return self.evaluate("calibrated", model, plan, trial)

    def tune(self, model: Any, result: Result) -> Evaluation:
        """The evaluation of an untuned model after its fine-tune, which goes on from an earlier checkpoint."""
        with self.stopwatch.timed("tune"):
            tuned = self.finetune(model, Checkpoint(self.folder.checkpoint, self.folder.tuning, result.model_digest))
        log.info("fine-tuned at the rate %g: validation metric %s", tuned.rate, tuned.val_metric)
        result.fine_tune = tuned
        self.say_what_is_forgotten(tuned, result.metric)
        epochs, before = len(tuned.val_metric) - 1, result.calibrated or result.built
        if before and self.leaves_earlier(result):
            return replace(before, epochs=epochs)
        if not tuned.kept_epoch:
            self.progress.say("the fine-tune did not help: the weights from before it are kept")
        return self.evaluate("tuned", model, result.chosen.plan, result.chosen.trial, epochs=epochs)

    def say_what_is_forgotten(self, tuned: Tuned, metric: str) -> None:
        """Say why a network is kept that is a little worse on validation images than the one before the fine-tune."""
        less = 100 * (tuned.val_metric[0] - tuned.val_metric[tuned.kept_epoch])
        if less > 0:
            known = "the original was probably trained on these, and a fine-tune forgets what it knows by heart"
            reason = known if "val" in self.data.split_off else "so few images do not tell that apart"
            self.progress.say(f"the fine-tune leaves {less:.2f} points less of validation {metric}: {reason}")

    def finetune(self, model: Any, checkpoint: Checkpoint) -> Tuned:
        """Fine-tune a model. An interrupt leaves its best weights so far in a file, and says how to go on."""
        given = model, self.original, self.data, self.spec.tune
        losses, seed = loss_functions(self.spec, self.original), self.spec.search.seed
        if epochs := checkpoint.epochs_of_another():
            self.progress.say(f"another fine-tune, which was interrupted after epoch {epochs}, is given up")
        try:
            kept: dict[str, Any] = {"losses": losses, "seed": seed, "checkpoint": checkpoint}
            return finetune(*given, **kept, progress=self.progress, callbacks=self.callbacks)
        except KeyboardInterrupt:
            if checkpoint.path.exists():
                self.folder.write_best(model)
                self.progress.say(f"the model so far is {self.folder.best}; the same command goes on from there")
            raise

    def label(self, name: str) -> str:
        """What the evaluation of the network `name` is called beside its bar."""
        return f"{metric_name(self.data.tasks)} of the {name}{'' if name == 'original' else ' network'}"

    def evaluate(
        self, name: str, model: Any, plan: Plan, trial: int | None = None, epochs: int | None = None
    ) -> Evaluation:
        """The size and the metrics of the network `name` of a plan, which is written as the model of a `trial`, if any.

        The validation metric of networks `KNOWN_FROM_CHOICE` is not measured again where points are compared on all
        validation images alone, and the original runs in the pass that plans were measured in. `epochs`: that it was
        tuned for.
        """
        validation = self.refits.validation
        val = self.refits(plan) if name in KNOWN_FROM_CHOICE and validation.whole else None
        is_original, test = model is self.original, self.data.test.pixels
        with self.stopwatch.timed("measure"), self.progress.task(self.label(name), 2) as step:
            file_bytes = self.folder.weigh(model) if trial is None else self.folder.models.write_model(trial, model)
            evaluator = Evaluator(model, self.data.preprocess)
            val = evaluator.metric(self.data, self.data.val) if val is None else val
            step(1)
            outputs = validation.outputs({}, test) if is_original else evaluator.outputs(test)
            step(1)
        if is_original:
            self.original_outputs = outputs
        else:
            self.last_outputs = outputs
        measured = {"val_metric": val, "file_bytes": file_bytes, "epochs": epochs}
        macs = plan_counts(self.inventory, plan)[1]
        return evaluation_of(model, self.data, outputs, self.original_outputs, macs=macs, **measured)
