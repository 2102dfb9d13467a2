"""The files of a result, written when a model was made, and again when a model that is there becomes the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lrf_optuna.pipeline.front_facts import FrontFacts
from lrf_optuna.pipeline.run_folder import RunFolder
from lrf_optuna.pipeline.stopwatch import Stopwatch
from lrf_optuna.plans.front import pareto_front
from lrf_optuna.plans.plan import Candidate
from lrf_optuna.plans.result import Result
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.storage.study import CALIBRATED, TUNED, StudyStore

if TYPE_CHECKING:
    from lrf_optuna.pipeline.point_metrics import PointMetrics

MEASURED_AGAIN = 3
"""Times at most that named points are measured, and then named again by what was found."""


@dataclass
class ResultFiles:
    """What writes a result into a run folder and into the study.

    `metrics`: measures named points whose metrics are not known; without it they are estimated.
    """

    folder: RunFolder
    store: StudyStore
    progress: Progress = SILENT
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    metrics: PointMetrics | None = None

    def write(self, result: Result, file: Path, candidates: Sequence[Candidate]) -> None:
        """Make `file` the model of the folder, and write the metrics, the report and result.json that go with it."""
        self.keep_metrics(result)
        self.name_points(result, pareto_front(candidates))
        for stale in self.folder.put_model(result, file):
            self.progress.say(stale)
        with self.stopwatch.timed("report"):
            self.folder.write_report(self.store, candidates, result, self.progress)
        self.folder.write_result(result)

    def keep_metrics(self, result: Result) -> None:
        """Keep the metrics of the last networks of a result with the trial, where the study lacks them."""
        networks = {CALIBRATED: result.calibrated, TUNED: result.tuned}
        found = {name: network.val_metric for name, network in networks.items() if network}
        if found.items() - self.store.metrics().get(result.chosen.trial, {}).items():
            self.store.keep_metrics(result.chosen.trial, found)

    def name_points(self, result: Result, points: Sequence[Candidate]) -> None:
        """Give a result the named points of a front, measured as they were scored as far as that is possible."""
        time = result.original.milliseconds
        for _ in range(MEASURED_AGAIN):
            facts = FrontFacts.of(self.store, self.folder, time)
            unknown = [one.point for one in facts.named(points).values() if not one.measured]
            if not unknown or self.metrics is None:
                break
            self.metrics.measure(unknown)
        result.alternatives = FrontFacts.of(self.store, self.folder, time).alternatives(points)

    def now(self, known: Result, candidates: Sequence[Candidate], why: str) -> tuple[Result, bool]:
        """The result of a model that was made before, as of the study with some candidates; whether it is written so.

        Files for other runtimes are those of the model that the folder has.
        """
        current = self.folder.read_result()
        if current and (current.chosen, current.model_digest) == (known.chosen, known.model_digest):
            known = current
        else:
            current, known = None, replace(known, exports=[])
            self.progress.say(f"the {known.final_state} model of this point is there: it becomes {self.folder.model}")
        distinct = len({candidate.plan for candidate in candidates})
        now = replace(known, trials=len(candidates), distinct=distinct, why=why)
        return now, current is not None and current.trials == now.trials
