"""One study from its specification to its files: search, choose, build, tune. A finished step is not repeated."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import Images, Values, count_of, map_inputs
from lrf_optuna.data.dataset import Data
from lrf_optuna.data.tasks import metric_name
from lrf_optuna.models.custom_objects import what_loading_needs
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.inventory import Inventory, find_sites, plan_counts
from lrf_optuna.models.model_files import load_like
from lrf_optuna.pipeline.build import build, layer_results
from lrf_optuna.pipeline.evaluate import evaluation_of
from lrf_optuna.pipeline.identity import model_digest, request_digest, study_identity
from lrf_optuna.pipeline.load_inputs import GivenData, load_inputs, loss_functions
from lrf_optuna.pipeline.run_folder import ExistingStudy, Reasoned, RunFolder
from lrf_optuna.pipeline.setup_checks import check_reach, lost_classes, setup_warnings, strange_gain
from lrf_optuna.plans.front import hypervolume_history, pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.disk_cache import cache_folder
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.scoring.space_limits import SpaceLimits
from lrf_optuna.search.initial_plans import initial_plans
from lrf_optuna.search.loop import SearchOptions, is_flat, search_front
from lrf_optuna.selection.choose import choose_point, loss_within_drop
from lrf_optuna.selection.plan_refits import PlanRefits, refits_on_validation
from lrf_optuna.selection.validation import Validation, validation_of
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.calibrate import DEFAULT as CALIBRATION
from lrf_optuna.training.calibrate import calibrate
from lrf_optuna.training.checkpoint import Checkpoint
from lrf_optuna.training.finetune import Tuned, check_trainable, finetune

log = logging.getLogger(__name__)
PHASES = ("load", "prepare", "search", "pick", "build", "calibrate", "measure", "tune", "report")
"""The phases of a run, in order, by the names that result.json has for their seconds."""
PROXY_KEYS = {"methods", "objectives", "similarity"}
"""Fields of `SearchSpec` that are arguments of `Proxy`."""
SEARCH_KEYS = {option.name for option in fields(SearchOptions)} - {"targets"}
"""Fields of `SearchSpec` that are arguments of `search_front`."""
MEASURED = ("original", "built")
"""Networks whose validation metric may be known from the choice among points."""
PLANS_OF_DROP = 24
"""Initial plans among which a tolerated drop is located by bisection: about five of them are refitted."""


@dataclass
class Run:
    """One study with its model, data and folder, and its steps; what the steps need is computed on first use."""

    spec: StudySpec
    folder: RunFolder
    model: Any
    data: Data
    progress: Progress = SILENT
    force: bool = False
    """Whether an untuned model may replace a tuned one."""
    final_model: Any = None
    """The model that `finish` built or tuned; None where the folder had it already."""
    warnings: list[str] = field(default_factory=list)
    """What cannot be right about the set-up."""
    original_outputs: dict[str, Values] = field(default_factory=dict)
    """Output -> what the original gives for the test images, once it was evaluated."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Phase -> seconds that it took; their sum is about the time of the whole run."""

    @classmethod
    def open(
        cls, spec: StudySpec, folder: Path, *, model: Any = None, data: GivenData = None, progress: Progress = SILENT
    ) -> Run:
        """The run of `spec` in `folder`; model and data are loaded where they are not given.

        Raises LrfError for what does not exist or does not fit, before anything is written.
        """
        started = time.perf_counter()
        place = RunFolder(folder)
        model, data = load_inputs(spec, folder, spec.search.storage or place.url, model, data, progress)
        run = cls(spec, place, model, data, progress)
        run.seconds["load"] = time.perf_counter() - started
        return run

    @classmethod
    def resume(
        cls, found: ExistingStudy, spec: StudySpec, progress: Progress, *, model: Any = None, data: GivenData = None
    ) -> Run:
        """The run of a study that is there, with `spec` for now: the study keeps the one that it was searched with.

        Raises LrfError where its model or data are no longer what they were.
        """
        run = cls.open(spec, found.folder.path, model=model, data=data, progress=progress)
        StudyStore.check(found.record.url, found.record.name, run.identity)
        run.record = found.record
        return run

    @cached_property
    def inventory(self) -> Inventory:
        """Every layer of the model, within the limits of the study."""
        shapes = map_inputs(self.data.train.pixels, lambda array: tuple(array.shape[1:]))
        return SpaceLimits.of(self.spec).apply(find_sites(self.model, shapes))

    @cached_property
    def calibration(self) -> Images:
        """Raw calibration images: of the training part, by seed."""
        return self.data.calibration(self.spec.search.calibration, self.spec.search.seed).pixels

    @cached_property
    def identity(self) -> dict[str, str]:
        """What the study is about: a study of the same name with another identity is refused."""
        return study_identity(self.spec, self.data, self.model, self.inventory)

    @cached_property
    def record(self) -> StudyStore:
        """The study on disk, new or resumed."""
        return StudyStore.open(
            self.spec.search.storage or self.folder.url,
            self.spec.name,
            objectives=self.spec.search.objectives,
            identity=self.identity,
            spec=self.spec.model_dump_json(exclude={"search": {"storage"}}),
        )

    @cached_property
    def proxy(self) -> Proxy:
        """The proxy, fitted to the calibration images."""
        images, cache = self.data.preprocess(self.calibration), cache_folder(self.spec.search.cache)
        options = self.spec.search.model_dump(include=PROXY_KEYS)
        with self.timed("prepare"):
            options |= {"inventory": self.inventory, "tasks": self.data.tasks, "cache": cache}
            return Proxy(self.model, images, progress=self.progress, **options)

    @cached_property
    def table(self) -> OptionTable:
        """The options of every layer."""
        proxy = self.proxy
        with self.timed("prepare"):
            return proxy.table(self.spec.search.keep, self.progress)

    @cached_property
    def unscored(self) -> Images:
        """The raw calibration images that layers are fitted to."""
        return map_inputs(self.calibration, lambda array: array[len(self.proxy.scored) :])

    @cached_property
    def validation(self) -> Validation:
        """The metric of plans on validation images, as they were scored."""
        return validation_of(self.proxy, self.data, self.unscored, self.spec.search.seed, self.progress)

    @cached_property
    def refits(self) -> PlanRefits:
        """The metric and the kernels of plans as they would be built."""
        return refits_on_validation(self.validation, self.unscored, self.progress)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's seconds to a phase; the seconds of a phase inside the block count for that phase alone."""
        start, before = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - before
            self.seconds[phase] += time.perf_counter() - start - inside

    def search(self) -> list[Candidate]:
        """Every candidate, after as many further trials as the specification asks for.

        Raises LrfError, before anything is fitted or written, for a target that no plan can meet, and for a model that
        cannot be tuned.
        """
        self.check_replaceable()
        check_reach(self.spec.search, self.inventory, self.progress)
        search = self.spec.search
        with self.timed("load"):
            done = self.record.candidates()
        flat = search.stop_when_flat and is_flat(hypervolume_history(done), search.population)
        if flat or len(done) >= search.trials:
            return done
        if done:
            self.progress.say(f"{len(done)} of {search.trials} trials are there: going on")
        self.check_setup()
        table, limits = self.table, search.wanted | self.loss_limit()
        options = search.model_dump(include=SEARCH_KEYS) | {"targets": limits}
        with self.timed("search"):
            return search_front(self.proxy, table, **options, store=self.record, progress=self.progress)

    def check_setup(self) -> None:
        """Measure the original on validation images, and say what cannot be right about the set-up."""
        with self.timed("prepare"):
            original = self.validation.original(len(self.validation.images)).metric
            self.progress.say(f"the original's validation {metric_name(self.data.tasks)} is {original:.2%}")
            self.warn(setup_warnings(self.model, self.data, self.validation))

    def warn(self, warnings: Iterable[str]) -> None:
        """Say warnings, and keep them for result.json and the report."""
        for warning in warnings:
            self.warnings.append(warning)
            log.warning("%s", warning)
            self.progress.say(f"Warning: {warning}.")

    def loss_limit(self) -> dict[str, float]:
        """The loss that goes with the tolerated drop of the metric, as a limit for the search; empty without a drop."""
        drop = self.spec.search.max_drop
        if drop is None or "loss" not in self.spec.search.objectives:
            return {}
        plans = enumerate(initial_plans(self.table, PLANS_OF_DROP, {}))
        most = loss_within_drop([Candidate(i, p, self.proxy.costs(p)) for i, p in plans], drop, self.refits)
        self.progress.say(f"a drop of {drop:g} points goes with a loss of about {most:.4f}")
        return {"loss": most}

    def choose(self, points: Sequence[Candidate]) -> Reasoned:
        """One point off the front, and why, as the specification asks."""
        search = self.spec.search
        metric = None if search.by == "loss" and search.max_drop is None else self.refits
        wanted, drop = search.wanted, search.max_drop
        return choose_point(points, targets=wanted, max_drop=drop, metric=metric, progress=self.progress)

    def finish(self, candidates: Sequence[Candidate], choice: Reasoned | None = None) -> Result:
        """Build and tune the given choice, or else the one that the specification asks for, and write all files.

        Where the folder has just that model already, nothing is built again. Raises LrfError where an untuned model
        would replace a tuned one.
        """
        self.check_replaceable()
        points, request = pareto_front(candidates), request_digest(self.spec, self.data, self.identity, len(candidates))
        with self.timed("pick"):
            chosen, why = choice or self.folder.choice_for(request, points) or self.choose(points)
        self.progress.say(f"trial {chosen.trial}: {why}")
        self.folder.write_choice(self.spec.name, (chosen, why), "" if choice else request)
        digest_of_model = model_digest(
            self.spec, self.data, self.identity, chosen.plan, tuned=bool(self.spec.tune.epochs)
        )
        existing = self.folder.result_for(digest_of_model)
        if existing and existing.trials == len(candidates):
            self.progress.say("nothing to do: the model of this point is there")
            return existing
        result = Result(
            study=self.spec.name,
            trials=len(candidates),
            distinct=len({candidate.plan for candidate in candidates}),
            calibration=count_of(self.calibration),
            metric=metric_name(self.data.tasks),
            seconds=self.seconds,  # the report has the seconds until then
            original=self.evaluate("original", self.model, Plan(())),
            chosen=chosen,
            why=why,
            layers=layer_results(self.inventory, chosen.plan),
            warnings=self.warnings,
            uncounted_macs=list(self.inventory.uncounted),
            model_digest=digest_of_model,
        )
        self.build_and_tune(result)
        self.warn(lost_classes(result.final.never_predicted))
        self.warn(strange_gain(result.original.test_metric, result.final.test_metric, result.metric))
        with self.timed("report"):
            self.folder.write_report(self.record, candidates, result, self.progress)
        result.seconds = dict(self.seconds)
        self.folder.write_result(result)
        return result

    def build_and_tune(self, result: Result) -> None:
        """Build the chosen point, tune it where the specification asks for that, and write the last of the two."""
        plan, epochs = result.chosen.plan, self.spec.tune.epochs
        untuned_digest = model_digest(self.spec, self.data, self.identity, plan, tuned=False)
        untuned = self.folder.untuned_for(untuned_digest)
        built = untuned or self.folder.untuned_for(self.built_digest(plan))
        if built:
            known, file = built
            model = load_like(file, self.model)
            result.built, result.calibrated = known.built, known.calibrated
        else:
            with self.timed("build"):
                model = build(self.model, plan, self.proxy, self.refits.result(plan))
            result.built = self.evaluate("built", model, plan, final=not epochs)
        if not untuned:
            result.calibrated = self.calibrate(model, plan)
            if epochs:
                self.folder.write_untuned(model, result, untuned_digest)
        if epochs:
            with self.timed("tune"):
                tuned = self.tune(model, Checkpoint(self.folder.checkpoint, self.folder.tuning, result.model_digest))
            log.info("fine-tuned at the rate %g: validation metric %s", tuned.rate, tuned.val_metric)
            if max(tuned.val_metric) <= tuned.val_metric[0]:
                self.progress.say("the fine-tune did not help: the weights from before it are kept")
            result.tuned = self.evaluate("tuned", model, plan, True, epochs=len(tuned.val_metric) - 1)
        self.final_model = model
        if needs := what_loading_needs(self.folder.model, model):
            self.progress.say(needs)

    def built_digest(self, plan: Plan) -> str:
        """The digest of the built model of a plan, which was not calibrated."""
        tune = self.spec.tune.model_copy(update={"calibrate": "never"})
        plain = self.spec.model_copy(update={"tune": tune})
        return model_digest(plain, self.data, self.identity, plan, tuned=False)

    def calibrate(self, model: Any, plan: Plan) -> Evaluation | None:
        """The evaluation of a built model after its calibration; None where none is asked for, or it does not help."""
        if not self.spec.tune.calibrates or not plan.changed or not model.trainable_variables:
            return None
        with self.timed("calibrate"):
            given, settings = (model, self.model, self.data), CALIBRATION.within(self.inventory.macs)
            found = calibrate(*given, settings=settings, seed=self.spec.search.seed, progress=self.progress)
        if not found.better:
            self.progress.say("calibration brings the outputs no closer to the original's: the built weights stay")
            return None
        return self.evaluate("calibrated", model, plan, final=not self.spec.tune.epochs)

    def tune(self, model: Any, checkpoint: Checkpoint) -> Tuned:
        """Fine-tune a model. An interrupt leaves its best weights so far in a file, and says how to go on."""
        given = model, self.model, self.data, self.spec.tune
        losses, seed = loss_functions(self.spec, self.model), self.spec.search.seed
        try:
            return finetune(*given, losses=losses, seed=seed, progress=self.progress, checkpoint=checkpoint)
        except KeyboardInterrupt:
            if checkpoint.path.exists():
                self.folder.write_best(model)
                self.progress.say(f"the best model so far is {self.folder.best}; the same command goes on from there")
            raise

    def evaluate(self, name: str, model: Any, plan: Plan, final: bool = False, epochs: int | None = None) -> Evaluation:
        """The size and the metrics of the network `name` of a plan; a `final` one is written as model.keras.

        The validation metric of networks that are `MEASURED` is not measured again where points are compared on all
        validation images alone, and the original runs in the pass that plans were measured in. `epochs`: that it was
        tuned for.
        """
        val = self.refits(plan) if name in MEASURED and self.validation.whole else None
        is_original, test = model is self.model, self.data.test.pixels
        with self.timed("measure"), self.progress.task(f"{metric_name(self.data.tasks)}, {name}", 2) as step:
            file_bytes = self.folder.save_model(model, final)
            evaluator = Evaluator(model, self.data.preprocess)
            val = evaluator.metric(self.data, self.data.val) if val is None else val
            step(1)
            outputs = self.validation.outputs({}, test) if is_original else evaluator.outputs(test)
            step(1)
        if is_original:
            self.original_outputs = outputs
        measured = {"val_metric": val, "file_bytes": file_bytes, "epochs": epochs}
        macs = plan_counts(self.inventory, plan)[1]
        return evaluation_of(model, self.data, outputs, self.original_outputs, macs=macs, **measured)

    def check_replaceable(self) -> None:
        """Raises LrfError where this run would replace a tuned model by an untuned one, and is not forced to.

        A model without anything to train is refused where it is to be tuned.
        """
        if self.spec.tune.epochs:
            check_trainable(self.model)
        elif not self.force:
            self.folder.check_untuned()
