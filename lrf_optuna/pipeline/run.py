"""One study from its specification to its files: search, choose, build, tune. A finished step is not repeated."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lrf_optuna.config import StudySpec
from lrf_optuna.data.arrays import count_of
from lrf_optuna.data.tasks import metric_name
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.pipeline.build import layer_results
from lrf_optuna.pipeline.chosen_network import ChosenNetwork
from lrf_optuna.pipeline.existing_model import existing_model, renewed
from lrf_optuna.pipeline.expected_time import expected_seconds, pass_seconds, seconds_after
from lrf_optuna.pipeline.identity import model_digest, request_digest
from lrf_optuna.pipeline.latencies import time_at_end
from lrf_optuna.pipeline.load_inputs import GivenData, check_augmentation, check_training, load_inputs
from lrf_optuna.pipeline.point_metrics import keep_metrics
from lrf_optuna.pipeline.point_models import metric_text
from lrf_optuna.pipeline.report_facts import write_facts
from lrf_optuna.pipeline.result_checks import missed_latency, result_warnings
from lrf_optuna.pipeline.result_files import ResultFiles
from lrf_optuna.pipeline.run_folder import ExistingStudy, Reasoned, RunFolder
from lrf_optuna.pipeline.setup_checks import setup_warnings
from lrf_optuna.pipeline.study_parts import StudyParts
from lrf_optuna.plans.front import hypervolume_history, pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.option_table import COUNTED
from lrf_optuna.scoring.reach import check_targets, least_shares, reach_text
from lrf_optuna.scoring.screening import LARGE_LAYER, default_keeps
from lrf_optuna.search.initial_plans import initial_plans
from lrf_optuna.search.loop import SearchOptions, is_flat, search_front
from lrf_optuna.selection.choose import best_of_each_method, choose_point, loss_within_drop
from lrf_optuna.selection.contest import Contest
from lrf_optuna.selection.forecast import forecast_of
from lrf_optuna.storage.study import StudyStore
from lrf_optuna.training.calibrate import enough_images

log = logging.getLogger(__name__)
SEARCH_KEYS = {option.name for option in fields(SearchOptions)} - {"targets"}
"""Fields of `SearchSpec` that are arguments of `search_front`."""
PLANS_OF_DROP = 24
"""Initial plans among which a tolerated drop is located by bisection: about five of them are refitted."""


@dataclass
class Run(StudyParts):
    """One study with its model, data and folder, and its steps."""

    force: bool = False
    """Whether an untuned model may replace a tuned one."""
    final_model: Any = None
    """The model that `finish` built or tuned; None where the folder had it already."""
    warnings: list[str] = field(default_factory=list)
    """What cannot be right about the set-up."""
    expected: dict[str, float] = field(default_factory=dict)
    """Phase -> about how many seconds it takes; empty until they are known."""
    callbacks: Sequence[Any] = ()
    """Keras callbacks of the fine-tune."""

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
        run.stopwatch.seconds["load"] = time.perf_counter() - started
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

    def search(self) -> list[Candidate]:
        """Every candidate, after as many further trials as the specification asks for.

        Raises LrfError, before anything is fitted or written, for a target of parameters or MACs that no plan can meet,
        and for a model that cannot be tuned; for a target of milliseconds once layers are timed.
        """
        self.spec.check_after_tuning()
        check_augmentation(self.data)
        self.check_training()
        self.check_reach()
        search = self.spec.search
        with self.stopwatch.timed("load"):
            done = self.record.candidates()
        flat = search.stop_when_flat and is_flat(hypervolume_history(done), search.population)
        if flat or len(done) >= search.trials:
            return done
        if done:
            self.progress.say(f"{len(done)} of {search.trials} trials are there: going on")
        self.check_setup()
        table, limits = self.table, search.wanted | self.loss_limit()
        options = search.model_dump(include=SEARCH_KEYS) | {"targets": limits}
        self.expect_phases(search.trials - len(done))
        with self.stopwatch.timed("search"):
            return search_front(self.proxy, table, **options, store=self.record, progress=self.progress)

    def expect_phases(self, trials: int) -> None:
        """Measure a pass of the original, so that `seconds_after` knows about how long the rest of the run takes."""
        with self.stopwatch.timed("prepare"):
            one_pass = pass_seconds(self.proxy)
            self.expected = expected_seconds(self.spec, self.data, self.proxy, one_pass, trials)
        log.info("a pass of %d images takes %.4f s, expected: %s", len(self.proxy.scored), one_pass, self.expected)

    def seconds_after(self) -> float | None:
        """About how many seconds the phases after the present one take; None where nothing was measured yet."""
        return seconds_after(self.expected, self.stopwatch.seconds, self.stopwatch.current) if self.expected else None

    def check_reach(self) -> None:
        """Say what share of a limited cost plans can reach. Raises LrfError for a target below it."""
        search, inventory = self.spec.search, self.inventory
        if not search.wanted.keys() & set(COUNTED):
            return
        keeps = search.keep or default_keeps(len(inventory.sites))
        least = least_shares(inventory, search.methods or tuple(DECOMPOSITIONS), keeps)
        check_targets(search.wanted, least)
        self.progress.say(reach_text(search.wanted, least, inventory.uncounted))

    def check_setup(self) -> None:
        """Measure the original on validation images, and say what cannot be right about the set-up."""
        with self.stopwatch.timed("prepare"):
            original = self.validation.original(len(self.validation.images)).metric
            figure = self.data.compared_metric(metric_name(self.data.tasks))
            self.progress.say(f"the original's {figure} is {original:.2%}")
            warnings = list(setup_warnings(self.model, self.data, self.validation))
        self.warn(warnings)
        self.record.keep_warnings(warnings)

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
        most = loss_within_drop([Candidate(i, p, self.proxy.costs(p)) for i, p in plans], drop, self.contest)
        later = f" after {self.contest.forecast.step}" if self.contest.forecast else ""
        self.progress.say(
            f"plans are looked for up to a loss of {most:.4f}, about that of a drop of {drop:g} points{later}"
        )
        return {"loss": most}

    @property
    def contest(self) -> Contest:
        """What measures points against each other, and predicts what a step after the build leaves of a drop."""
        state = self.spec.judged_state
        state = "built" if state == "calibrated" and not enough_images(self.data) else state
        forecast = forecast_of(state, self.validation.own_images)
        return Contest(self.refits, progress=self.progress, forecast=forecast)

    def choose(self, candidates: Sequence[Candidate]) -> Reasoned:
        """One point off the front, and why, as the specification asks; within targets perhaps one behind the front."""
        search, whole, points = self.spec.search, max(1, self.inventory.params), pareto_front(candidates)
        wanted, drop, contest = search.wanted, search.max_drop, self.contest if search.measures else None
        large = [site.name for site in self.inventory.sites if site.op.params > LARGE_LAYER * whole]
        others = best_of_each_method(candidates, large, wanted) if wanted and contest else []
        found = choose_point(points, targets=wanted, max_drop=drop, knee=search.knee, contest=contest, others=others)
        if contest:
            self.point_metrics.keep([*points, *others])
        return found

    def finish(self, candidates: Sequence[Candidate], choice: Reasoned | None = None) -> Result:
        """Build and tune the given choice, or else the one that the specification asks for, and write all files.

        Where the folder has the model of this point already, nothing is built again: it becomes model.keras. A tuned
        model of the point stands for an untuned one, too, unless the run is forced to build that.
        """
        self.check_training()
        self.folder.keep_earlier()
        points, request = pareto_front(candidates), request_digest(self.spec, self.data, self.identity, len(candidates))
        with self.stopwatch.timed("pick"):
            chosen, why = choice or self.folder.choice_for(request, candidates) or self.choose(candidates)
            news = keep_metrics(self, points)
        self.progress.say(f"trial {chosen.trial}: {why}")
        self.folder.write_choice(self.spec.name, (chosen, why), "" if choice else request)
        if found := existing_model(self, chosen):
            self.folder.clear_unfinished(found[0].model_digest)
            return renewed(self, found, candidates, why, news)
        if not self.warnings:  # those of an earlier search
            self.warn(self.record.warnings)
        result = self.build_and_measure(candidates, (chosen, why))
        self.point_metrics.keep([*points, chosen])
        if stays := self.stays(result):
            return self.as_it_was(result, stays, candidates)
        self.warn(filter(None, [self.folder.keep_model(result)]))
        for text in self.folder.models.said_of_replaced():
            self.progress.say(text)
        self.files.write(result, self.folder.models.model(chosen.trial), candidates)
        self.folder.clear_unfinished(result.model_digest)
        result.seconds = dict(self.stopwatch.seconds)
        return result

    def stays(self, result: Result) -> tuple[Result, Path] | None:
        """Result and file of the earlier fine-tuned model of a point, where the fine-tune of a result did not help."""
        return self.folder.stays(result.chosen) if result.tuned and not result.helped else None

    def as_it_was(self, result: Result, stays: tuple[Result, Path], candidates: Sequence[Candidate]) -> Result:
        """The result of the model that stays, with a warning that the fine-tune of a result did not help."""
        known, file = stays
        text = f"the fine-tune did not help: trial {known.chosen.trial} keeps its model, {metric_text(known)}"
        self.warn([text])
        self.final_model = None
        self.folder.models.note_tried(result)
        self.folder.put_companions(file)
        kept = renewed(self, stays, candidates, result.why, has_news=True)
        self.folder.clear_unfinished(result.model_digest)
        return replace(kept, warnings=[*kept.warnings, text])

    @property
    def files(self) -> ResultFiles:
        """What writes results."""
        metrics = vars(self).get("point_metrics")
        return ResultFiles(self.folder, self.record, self.progress, self.stopwatch, metrics)

    def digest_of_model(self, point: Candidate) -> str:
        """The digest of the model of a point that the specification asks for, tuned or not."""
        return model_digest(self.spec, self.data, self.identity, point.plan, tuned=bool(self.spec.tune.epochs))

    def build_and_measure(self, candidates: Sequence[Candidate], choice: Reasoned) -> Result:
        """The result of a choice, whose model is built, tuned where that is asked for, measured and written."""
        chosen, why = choice
        given = self.spec, self.folder, self.model, self.data, self.identity, self.refits
        network = ChosenNetwork(*given, self.stopwatch, self.progress, self.callbacks)
        result = Result(
            study=self.spec.name,
            trials=len(candidates),
            distinct=len({candidate.plan for candidate in candidates}),
            calibration=count_of(self.calibration),
            metric=metric_name(self.data.tasks),
            seconds=self.stopwatch.seconds,  # the report has the seconds until then
            original=network.evaluate("original", self.model, Plan(())),
            chosen=chosen,
            why=why,
            layers=layer_results(self.inventory, chosen.plan),
            warnings=self.warnings,
            uncounted_macs=list(self.inventory.uncounted),
            model_digest=self.digest_of_model(chosen),
        )
        self.final_model = network.build_and_tune(result)
        if self.stays(result):  # nothing more is said of a network that is not kept
            return result
        if result.outcome:
            self.progress.say(result.outcome)
        self.warn(result_warnings(result, len(self.data.val)))
        if self.spec.latency.time_at_end:
            networks = self.model, self.final_model
            with self.stopwatch.timed("latency"):
                problem = time_at_end(result, networks, self.spec, self.data, self.progress)
            self.warn([problem] if problem else [])
            self.warn(missed_latency(result, self.spec.search.wanted, self.spec.latency.runtime))
        write_facts(self, network, result)
        return result

    def check_training(self) -> None:
        """Raises LrfError where the calibration or the fine-tune that is asked for cannot be done."""
        check_training(self.spec, self.model, self.data)
