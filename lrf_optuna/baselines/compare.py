"""Our front against other rules for ranks and filter pruning: the same images, the same budgets, nothing tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from lrf_optuna.baselines.budget import Costs, RuleContext
from lrf_optuna.baselines.filter_pruning import PrunedNetwork, prune_filters
from lrf_optuna.baselines.rules import baselines_of
from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import Data
from lrf_optuna.errors import LrfError
from lrf_optuna.plans.comparison import AS_BUILT, FILTERS, KERNEL_KINDS, OURS, BudgetRows, Row, Score
from lrf_optuna.plans.front import cost_matrix
from lrf_optuna.plans.plan import Candidate, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.fitted_kernels import FittedKernels
from lrf_optuna.scoring.latency import LATENCY
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.selection.choose import choose_point
from lrf_optuna.selection.contest import Contest
from lrf_optuna.selection.plan_refits import PlanRefits, composed

GREEDY_IMAGES = 500
"""Validation images at most for the greedy rule, which measures several plans a layer."""
COST_ROUNDING = 1e-6
"""Least difference of a cost by which a row dominates a point: the same plan measured twice differs by less."""
DATA_FREE_BYTES = 2**27
"""Bytes of data-free kernels in memory at most: a quarter of the kernels that a proxy has in memory."""
ComparedNetwork = Plan | PrunedNetwork
SOURCE = "L1-norm filter pruning (Li et al., ICLR 2017)"


@dataclass
class BaselineComparison:
    """Computes the rows of a comparison, budget by budget.

    `points`: the front of a study; `refits`: the metric and the kernels of plans as they would be built. With `test`
    the test images are measured as well, for the rows that a reader looks at.
    """

    points: Sequence[Candidate]
    table: OptionTable
    data: Data
    refits: PlanRefits
    test: bool = False
    progress: Progress = SILENT
    dominated_points: set[int] = field(default_factory=set)
    """Numbers of the points that some row dominates."""
    scores: dict[tuple[Plan, str], Score] = field(default_factory=dict)
    """Scores by plan and kind of kernels: rules often agree on a plan."""
    networks: dict[str, ComparedNetwork] = field(default_factory=dict)
    """Name of a row of the current block -> its network."""

    def __post_init__(self) -> None:
        self.validation = self.refits.validation
        self.proxy = self.validation.proxy
        self.data_free = FittedKernels(self.proxy.sites, self.proxy.kernels.originals, None, DATA_FREE_BYTES)

    @cached_property
    def context(self) -> RuleContext:
        """The context of the rules: their metric is of few validation images, without new BatchNorm statistics."""

        @cache
        def metric_of(plan: Plan) -> float:
            logits = self.validation.logits(self.proxy.dense_kernels(plan), GREEDY_IMAGES)
            return self.validation.measured(logits).metric

        return RuleContext(self.proxy, self.table, metric_of)

    def block(self, cost: str, share: float) -> BudgetRows:
        """The rows for a budget, with the metrics of the best rows as built and on test images."""
        block = BudgetRows(share, tuple(self.rows({cost: share})))
        best = {kind: row.name for kind in KERNEL_KINDS if (row := block.best(kind))}
        rows = [self.built(row) if row.name in (OURS, best.get("fitted")) else row for row in block.rows]
        return BudgetRows(share, tuple(self.tested(row, best) if self.test else row for row in rows))

    def built(self, row: Row) -> Row:
        """A row with the metric of the network that `run` would build for its plan, where it has one."""
        plan = self.networks.get(row.name)
        return replace(row, built=Score(self.refits(plan))) if isinstance(plan, Plan) else row

    def tested(self, row: Row, best: Mapping[str, str]) -> Row:
        """A row with its test metrics, where it is ours, filter pruning, as built, or the best of its kind."""
        scores: dict[str, Any] = {kind: score for kind in (*KERNEL_KINDS, AS_BUILT) if (score := getattr(row, kind))}
        wanted = {kind for kind in scores if kind == AS_BUILT or row.name in (OURS, FILTERS, best.get(kind))}
        tests = {kind: self.on_test(self.kernels(self.networks[row.name], kind)) for kind in wanted}
        return replace(row, **{kind: replace(scores[kind], test=share) for kind, share in tests.items()})

    def rows(self, budget: Costs) -> Iterator[Row]:
        """The rows for a budget: ours, every baseline, filter pruning."""
        self.networks.clear()
        yield self.row_of_ours(budget)
        others: list[tuple[str, str, Callable[[], ComparedNetwork]]] = [
            (rule.name, rule.source, partial(rule.plan, self.context, budget))
            for rule in baselines_of(self.proxy).values()
        ]
        others.append((FILTERS, SOURCE, partial(prune_filters, self.proxy, budget)))
        ((cost, share),) = budget.items()
        with self.progress.task(f"baselines, {cost} <= {share:g}", len(others)) as step:
            for name, source, rule in others:
                step(0, note=name)
                yield self.row_or_reason(name, source, rule)
                step(1)

    def row_of_ours(self, budget: Costs) -> Row:
        """The point that is chosen off the front, or the reason why there is none."""
        try:
            contest = Contest(self.refits, progress=self.progress)
            chosen, why = choose_point(self.points, targets=budget, contest=contest)
        except LrfError as reason:
            return Row(OURS, "the front", str(reason))
        return replace(self.row(OURS, why, chosen.plan), trial=chosen.trial)

    def row_or_reason(self, name: str, source: str, rule: Callable[[], ComparedNetwork]) -> Row:
        """The row of the network that a rule gives, or the reason why there is none."""
        try:
            return self.row(name, source, rule())
        except LrfError as reason:
            return Row(name, source, str(reason))

    def row(self, name: str, source: str, network: ComparedNetwork) -> Row:
        """The row of a network: a plan has fitted and data-free kernels, filter pruning has nothing to fit."""
        self.networks[name] = network
        if isinstance(network, Plan):
            measured = self.proxy.measure(network)
            row = Row(name, source, fitted=self.score(network, "fitted"), plain=self.score(network, "plain"))
        else:
            measured = network.measured
            row = Row(name, source, plain=Score(self.validation.of(network.kernels)))
        dominated, loss = 0 if name == OURS else self.count_dominated(measured), OBJECTIVES["loss"](measured)
        return replace(row, params=measured.params_share, macs=measured.macs_share, loss=loss, dominated=dominated)

    def score(self, plan: Plan, kind: str) -> Score:
        """The validation metric of a plan; BatchNorm statistics are re-estimated where that helps."""
        if (plan, kind) not in self.scores:
            self.scores[plan, kind] = Score(self.validation.of(self.kernels(plan, kind)))
        return self.scores[plan, kind]

    def kernels(self, network: ComparedNetwork, kind: str) -> Mapping[str, Array]:
        """Site -> kernel as Keras lays it out, for the sites that a network changes."""
        if isinstance(network, PrunedNetwork):
            return network.kernels
        if kind == AS_BUILT:
            return composed(self.proxy, network, self.refits.result(network).stages)
        if kind == "fitted":
            return self.proxy.dense_kernels(network)
        plain = {site: self.data_free.dense(site, choice) for site, choice in network.changed.items()}
        return {site: self.proxy.to_keras_layout(site, kernel) for site, kernel in plain.items()}

    def count_dominated(self, measured: Measured) -> int:
        """The number of points on the front that a measured network dominates in the study's costs."""
        unknown = {LATENCY} if measured.latency_share is None else set()  # of pruned networks
        costs = np.array([np.inf if name in unknown else of(measured) for name, of in self.proxy.objectives.items()])
        front = cost_matrix(self.points)
        dominated = np.all(costs <= front, axis=1) & np.any(costs < front - COST_ROUNDING, axis=1)
        self.dominated_points |= set(np.flatnonzero(dominated).tolist())
        return int(dominated.sum())

    def on_test(self, kernels: Mapping[str, Array]) -> float:
        """The test metric with these kernels; BatchNorm statistics are re-estimated where that helps."""
        test = self.data.test
        return replace(self.validation, images=test).of(kernels)

    def original(self) -> Score:
        """The metrics of the original."""
        return Score(self.validation.of({}), self.on_test({}) if self.test else None)

    def notes(self, calibration: int) -> tuple[str, ...]:
        """Facts about the measurements that a fair reader should know; `calibration`: the number of images."""
        count, small = len(self.validation.images), self.data.validation_is_small
        on_test = (
            f"The {len(self.data.test):,} test images are only reported: nothing is chosen by them. Measured are our "
            "point, filter pruning, and the baselines that are best on validation images."
        )
        return (
            f"The {self.refits.name} is of {count:,} {'validation and training' if small else 'validation'} images, "
            f"before any training: with kernels fitted to {calibration:,} calibration images as ours are, and with "
            "plain kernels as published; BatchNorm statistics are re-estimated wherever that helps. As built, the "
            "chains are also refitted in layer order where that is better: those of ours and of the baseline that is "
            "best with fitted kernels.",
            *self.data.notes,
            "Our point is the best as built of a dozen or more that these very validation images are shown "
            "to, so its figure is a little flattered; every baseline is one plan, for which greedy looks at "
            f"{min(count, GREEDY_IMAGES):,} of the images.",
            *([on_test] if self.test else []),
        )
