"""One study from its specification to its files: search, choose, build, tune. A finished step is not repeated."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrf_optuna.files import digest
from lrf_optuna.models.evaluation import Evaluator
from lrf_optuna.models.inventory import plan_counts
from lrf_optuna.models.load import load_like
from lrf_optuna.pipeline.build import build, parts_of
from lrf_optuna.pipeline.prepared import PreparedStudy
from lrf_optuna.pipeline.run_folder import Reasoned
from lrf_optuna.plans.front import hypervolume_history, pareto_front
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.plans.result import Evaluation, Result
from lrf_optuna.search.allocation import evenly_spaced
from lrf_optuna.search.loop import is_flat, search_front
from lrf_optuna.selection.choose import choose_point, loss_within_drop
from lrf_optuna.training.finetune import finetune

log = logging.getLogger(__name__)
LADDER = 24
"""Plans of the Lagrangian sweep among which a tolerated drop is located: each step is about 4 % of the sizes."""
SEARCH_KEYS = {"trials", "population", "seed", "sampler", "initial_plans", "stop_when_flat"}
"""Fields of `SearchSpec` that are arguments of `search_front`."""


@dataclass
class Run(PreparedStudy):
    """The steps of one study: search, choose, build, tune."""

    final_model: Any = None
    """The model that `finish` built or tuned; None where the folder had it already."""

    def search(self) -> list[Candidate]:
        """Every candidate, after as many further trials as the specification asks for."""
        self.check_replaceable()
        search = self.spec.search
        with self.timed("load"):
            done = self.record.candidates()
        flat = search.stop_when_flat and is_flat(hypervolume_history(done), search.population)
        if flat or len(done) >= search.trials:
            return done
        if done:
            self.progress.say(f"{len(done)} of {search.trials} trials are there: going on")
        table, limits = self.table, search.wanted | self.loss_limit()
        options = search.model_dump(include=SEARCH_KEYS) | {"targets": limits}
        with self.timed("search"):
            return search_front(self.proxy, table, **options, store=self.record, progress=self.progress)

    def loss_limit(self) -> dict[str, float]:
        """The loss that goes with the tolerated drop of accuracy, as a limit for the search; empty without a drop."""
        drop = self.spec.search.max_drop
        if drop is None or "loss" not in self.spec.search.objectives:
            return {}
        plans = enumerate(evenly_spaced(self.table, LADDER))
        most = loss_within_drop([Candidate(i, p, self.proxy.costs(p)) for i, p in plans], drop, self.refits)
        self.progress.say(f"a drop of {drop:g} points goes with a loss of about {most:.4f}")
        return {"loss": most}

    def choose(self, points: Sequence[Candidate]) -> Reasoned:
        """One point off the front, and why, as the specification asks."""
        search = self.spec.search
        if search.by == "loss" and search.max_drop is None:
            return choose_point(points, targets=search.wanted, progress=self.progress)
        return self.choose_by_accuracy(points, search.wanted, search.max_drop)

    def choose_by_accuracy(
        self, points: Sequence[Candidate], targets: Mapping[str, float], max_drop: float | None = None
    ) -> Reasoned:
        """One point off the front by its measured accuracy, and why."""
        return choose_point(points, targets=targets, max_drop=max_drop, accuracy=self.refits, progress=self.progress)

    def finish(self, candidates: Sequence[Candidate], choice: Reasoned | None = None) -> Result:
        """Build and tune the given choice, or else the one that the specification asks for, and write all files.

        Where the folder has just that model already, nothing is built again. Raises LrfError where an untuned model
        would replace a tuned one.
        """
        self.check_replaceable()
        points, request = pareto_front(candidates), self.request_digest(len(candidates))
        with self.timed("pick"):
            chosen = choice or self.folder.choice_for(request, points) or self.choose(points)
        self.progress.say(f"trial {chosen[0].trial}: {chosen[1]}")
        self.folder.write_choice(self.spec.name, chosen, "" if choice else request)
        existing = self.folder.result_for(self.model_digest(chosen[0], tuned=bool(self.spec.tune.epochs)))
        if existing and existing.trials == len(candidates):
            self.progress.say("nothing to do: the model of this point is there")
            return existing
        result = self.new_result(candidates, *chosen)
        self.build_and_tune(result)
        with self.timed("report"):
            self.folder.write_report(self.record, candidates, result, self.progress)
        result.seconds = dict(self.seconds)
        self.folder.write_result(result)
        return result

    def build_and_tune(self, result: Result) -> None:
        """Build the chosen point, tune it where the specification asks for that, and write the last of the two."""
        plan, epochs = result.chosen.plan, self.spec.tune.epochs
        macs = plan_counts(self.inventory, plan)[1]
        untuned = self.folder.result_for(self.model_digest(result.chosen, tuned=False))
        if untuned:
            model, result.built = load_like(self.folder.model, self.model), untuned.built
        else:
            with self.timed("build"):
                model = build(self.model, self.proxy, plan, self.refits.of(plan))
            measured = self.measured_in_choice(plan)
            result.built = self.evaluate("built", model, macs, final=not epochs, measured=measured)
        if epochs:
            with self.timed("tune"):
                seed = self.spec.search.seed
                tuned = finetune(model, self.model, self.data, self.spec.tune, seed=seed, progress=self.progress)
            log.info("fine-tuned at the rate %g: validation accuracy %s", tuned.rate, tuned.val_accuracy)
            result.tuned = self.evaluate("tuned", model, macs, True, epochs)
        self.final_model, result.seconds = model, dict(self.seconds)

    def evaluate(
        self,
        name: str,
        model: Any,
        macs: int,
        final: bool = False,
        epochs: int | None = None,
        measured: float | None = None,
    ) -> Evaluation:
        """The size and the accuracies of the network `name`; a `final` one is written as model.keras.

        `measured`: its validation accuracy, where that is known.
        """
        with self.timed("measure"), self.progress.task(f"accuracy, {name}", 2) as step:
            file_bytes = self.folder.save_model(model, final)
            evaluator = Evaluator.of(model, self.data.preprocess)
            val = evaluator.accuracy(self.data.val) if measured is None else measured
            step(1)
            test = evaluator.accuracy(self.data.test)
            step(1)
        return Evaluation(int(model.count_params()), macs, val, test, file_bytes, epochs)

    def measured_in_choice(self, plan: Plan) -> float | None:
        """The validation accuracy of a plan as built, where points are compared on all validation images alone."""
        return self.refits(plan) if self.accuracy.whole else None

    def new_result(self, candidates: Sequence[Candidate], chosen: Candidate, why: str) -> Result:
        """The result before anything is built."""
        return Result(
            self.spec.name,
            len(candidates),
            len({candidate.plan for candidate in candidates}),
            len(self.calibration),
            dict(self.seconds),
            self.evaluate("original", self.model, self.inventory.macs, measured=self.measured_in_choice(Plan(()))),
            chosen,
            why,
            layers=parts_of(self.inventory, chosen.plan),
            model_digest=self.model_digest(chosen, tuned=bool(self.spec.tune.epochs)),
        )

    def check_replaceable(self) -> None:
        """Raises LrfError where this run would replace a tuned model by an untuned one, and is not forced to."""
        if not self.spec.tune.epochs and not self.force:
            self.folder.check_untuned()

    def model_digest(self, chosen: Candidate, tuned: bool) -> str:
        """A digest of all that decides the content of model.keras, tuned or only built."""
        labels = [part.labels for part in (self.data.train, self.data.val, self.data.test)]
        recipe = self.spec.tune.model_dump_json() if tuned else ""
        return digest(chosen.plan.to_json(), str(self.identity), self.data.augment, recipe, *labels)

    def request_digest(self, trials: int) -> str:
        """A digest of all that decides which point of a number of trials is chosen."""
        search = self.spec.search
        way = str((trials, search.wanted, search.max_drop, search.by))
        return digest(self.spec.name, way, str(self.identity), self.data.augment, self.data.val.labels)
