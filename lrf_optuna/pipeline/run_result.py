"""The result of a run in Python: with its front, its figures and its files, another point of it, and other runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrf_optuna.errors import LrfError, lookup
from lrf_optuna.models.model_files import load_like
from lrf_optuna.pipeline.export import export
from lrf_optuna.pipeline.front_facts import FrontFacts
from lrf_optuna.pipeline.keywords import epochs_of
from lrf_optuna.pipeline.point_choice import point_of
from lrf_optuna.pipeline.python_words import in_python, python_words
from lrf_optuna.pipeline.run import Run
from lrf_optuna.pipeline.stopwatch import Stopwatch
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Export, Result
from lrf_optuna.report.figures import run_figures
from lrf_optuna.report.result_html import result_html
from lrf_optuna.sections import TuneSpec


class RunResult(Result):
    """A `Result` that knows its run: what `compress` gives beside the model.

    `model` is the smaller Keras model, and `run` has the model, the data and the study that it was made from.
    """

    run: Run
    model: Any

    @classmethod
    def of(cls, result: Result, run: Run, model: Any) -> RunResult:
        """The result of a run and its model, with warnings in the words of Python."""
        found = cls(**{field.name: getattr(result, field.name) for field in fields(Result)})
        found.warnings = list(map(in_python, result.warnings))
        found.run, found.model = run, model
        return found

    @property
    def folder(self) -> Path:
        """The folder that all files of the run are in."""
        return self.run.folder.path

    @property
    def report(self) -> Path:
        """The report: one HTML page that needs no network."""
        return self.run.folder.report

    @property
    def points(self) -> list[Candidate]:
        """The front as candidates, from the smallest network to the largest."""
        return pareto_front(self.run.record.candidates())

    @property
    def front(self) -> list[dict[str, Any]]:
        """The front as rows for `pandas.DataFrame`, from the smallest network to the largest.

        A row has the `trial`, its `metric` on validation images in the last `state` that was measured (as scored, as
        built, calibrated or tuned), the costs (`loss`, and shares of the original's `params`, `macs` and perhaps
        `latency`), the `milliseconds` of a call, a `name` such as "safe", and whether it is `chosen`; None: not known.
        """
        facts = FrontFacts.of(self.run.record, self.run.folder, self.original.milliseconds)
        names = {one.trial: one.name for one in self.alternatives}
        found = {point.trial: facts.metric(point.trial) or (None, None) for point in self.points}
        return [
            {
                "trial": point.trial,
                "metric": found[point.trial][0],
                "state": found[point.trial][1],
                **point.costs,
                "milliseconds": facts.milliseconds(point)[0],
                "name": names.get(point.trial),
                "chosen": point.trial == self.chosen.trial,
            }
            for point in self.points
        ]

    @property
    def figures(self) -> dict[str, Any]:
        """The Plotly figures of the report by name, such as "front-2d"; `.show()` shows one."""
        record = self.run.record
        return dict(run_figures(self.run.folder.report_content(record, record.candidates(), self)))

    def choose(
        self,
        point: int | str | None = None,
        *,
        target: Mapping[str, float] | None = None,
        max_drop: float | None = None,
        after_tuning: bool = False,
        knee: bool = False,
        tune: int | bool | None = False,
        force: bool = False,
    ) -> tuple[Any, RunResult]:
        """Another point of the front: its model, built and perhaps tuned, and its result. Nothing is searched again.

        `point`: a trial's number, or a name: safe, balanced or small. Without it `target`, `max_drop`, `after_tuning`
        and `knee` choose as in `compress`; by default the smallest point that is predicted to lose at most one point of
        the metric. `tune`: passes; True for as many as the run had, False for none: then a tuned model of the point is
        taken where there is one, unless `force` is given. The model.keras and the report of the run are those of this
        point from then on; the models of all points stay in the folder models. Raises LrfError where no point
        qualifies, and for a point together with a way to choose.
        """
        with python_words():
            way = {"targets": dict(target or {}), "max_drop": max_drop, "after_tuning": after_tuning, "knee": knee}
            if point is not None and any(value not in ({}, None, False) for value in way.values()):
                raise LrfError(f"{point=} is a point already: leave out target, max_drop and knee")
            run = self.other_run(way, tune)
            run.force = force
            candidates = run.record.candidates()
            choice = None if point is None else point_of(candidates, self.trial_of(point))
            result = run.finish(candidates, choice)
            model = run.final_model or load_like(run.folder.model, run.model)
            return model, RunResult.of(result, run, model)

    def trial_of(self, point: int | str) -> int:
        """The trial of a point that is given by its number or its name. Raises LrfError for an unknown name."""
        names = {one.name: one.trial for one in self.alternatives}
        return lookup(names, point, "point") if isinstance(point, str) else point

    def other_run(self, way: Mapping[str, Any], tune: int | bool | None) -> Run:
        """The run with another way to choose, key of [search] -> value; all that it has computed is shared."""
        run, spec = copy(self.run), self.run.spec
        epochs = epochs_of(tune) if tune is not True else spec.tune.epochs or TuneSpec().epochs
        options = {f"search.{key}": value for key, value in way.items()} | {"tune.epochs": epochs}
        run.spec = spec.without_choice().override(options)
        run.stopwatch, run.expected, run.final_model, run.warnings = Stopwatch(), {}, None, []
        return run

    def export(
        self,
        path: str | Path,
        *,
        precision: str = "fp32",
        batch: int | str | None = None,
        with_preprocessing: bool = False,
    ) -> Export:
        """Write the smaller model for another runtime, and compare the file with it on the run's own test images.

        `path`: FILE.tflite, FILE.onnx, or a folder for a SavedModel; the others as in `lrf_optuna.export`. Raises
        LrfError where the model cannot be converted.
        """
        settings: dict[str, Any] = {"precision": precision, "batch": batch, "with_preprocessing": with_preprocessing}
        return export(self.model, path, data=self.run.data, **settings)

    def _repr_html_(self) -> str:
        """The result for a notebook."""
        return result_html(self, self.run.folder.model, self.report)
