"""Our front against other rules for ranks and filter pruning: the same images, the same budgets, nothing tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np
from cachetools import LRUCache

from lrf_optuna.baselines.budget import Costs, RuleContext
from lrf_optuna.baselines.filter_pruning import prune_filters
from lrf_optuna.baselines.rules import Baseline, baselines_of
from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import Data
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.errors import LrfError
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.plans.comparison import BUILT, FILTERS, KINDS, OURS, BudgetRows, Comparison, Row, Score
from lrf_optuna.plans.front import cost_matrix, pareto_front
from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_store import put_if_fits
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.accuracy import Accuracy, Kernels
from lrf_optuna.selection.sequential_refit import PlanRefits, composed

GREEDY_IMAGES = 500
"""Validation images at most for the greedy rule, which measures several plans a layer."""
COST_ROUNDING = 1e-6
"""Least difference of a cost by which a row dominates a point: the same plan measured twice differs by less."""
MEMORY = 2**28
"""Bytes of data-free kernels in memory at most."""
SOURCE = "L1-norm filter pruning (Li et al., ICLR 2017)"
TESTED = "Measured are our point, filter pruning, and the baselines that are best on validation images."


@dataclass(frozen=True)
class SearchedStudy:
    """A study after its search, as far as a comparison reads it.

    `points`: its front; `trials`, `calibration`: numbers of trials and calibration images; `refits`: the kernels
    of plans as they would be built; `choose`: (points, budget) -> the point that a run would choose, and why.
    """

    name: str
    points: Sequence[Candidate]
    trials: int
    calibration: int
    proxy: Proxy
    table: OptionTable
    data: Data
    accuracy: Accuracy
    refits: PlanRefits
    choose: Callable[[Sequence[Candidate], Costs], tuple[Candidate, str]]
    progress: Progress = SILENT


def front_to_compare(candidates: Sequence[Candidate], cost: str) -> list[Candidate]:
    """The front of some candidates. Raises LrfError where there is none, and where it has no such cost."""
    points = pareto_front(candidates)
    if not points:
        raise LrfError("the study has no finished trial to compare: run it first")
    if cost not in points[0].costs:
        raise LrfError(f"the study's costs are {', '.join(points[0].costs)}: compare at budgets of one of them")
    return points


def compare_at(study: SearchedStudy, budgets: Sequence[float], cost: str, test: bool) -> Comparison:
    """The front of a study against every baseline, at each budget: the most of `cost` that may be left.

    With `test` the test images are measured as well, for what a reader looks at: ours, filter pruning, and of each kind
    of kernels the baseline that is best on validation images.
    """
    comparison = BaselineComparison(study, test)
    with study.proxy.single_blas_thread():
        blocks = tuple(comparison.block(cost, budget) for budget in budgets)
    return Comparison(
        study.name,
        study.trials,
        cost,
        tuple(study.points[0].costs),
        len(study.points),
        len(comparison.dominated_points),
        comparison.original(),
        blocks,
        notes(study, test),
    )


@dataclass
class BaselineComparison:
    """Computes the rows of a comparison; `dominated_points`: numbers of the front's points that some row dominates."""

    study: SearchedStudy
    test: bool = False
    dominated_points: set[int] = field(default_factory=set)
    scores: dict[tuple[Plan, str], Score] = field(default_factory=dict)
    """Scores by plan and kind of kernels: rules often agree on a plan."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """Name of a row of the current block -> its plan."""
    kernels: dict[tuple[str, str], Callable[[], Kernels]] = field(default_factory=dict)
    """Name of a row of the current block and kind of kernels -> a function that gives the kernels."""

    @cached_property
    def context(self) -> RuleContext:
        """The context of the rules."""
        return RuleContext(self.study.proxy, self.study.table, accuracy_on_few(self.study))

    @cached_property
    def rules(self) -> list[Baseline]:
        """The baselines."""
        return list(baselines_of(self.study.proxy).values())

    @cached_property
    def data_free(self) -> DataFreeKernels:
        """Kernels as published."""
        return DataFreeKernels(self.study.proxy)

    def block(self, cost: str, share: float) -> BudgetRows:
        """The rows for a budget, with test accuracies for the rows that a reader looks at where they are wanted."""
        self.kernels.clear()
        self.plans.clear()
        block = BudgetRows(share, tuple(self.rows({cost: share})))
        finalists = {OURS} | ({best.name} if (best := block.best("fitted")) else set())
        block = BudgetRows(share, tuple(self.built(row) if row.name in finalists else row for row in block.rows))
        if not self.test:
            return block
        tested = {(OURS, "fitted"), (OURS, "plain"), (FILTERS, "plain"), *((name, BUILT) for name in finalists)}
        tested |= {(row.name, kind) for kind in KINDS if (row := block.best(kind))}
        kinds = {row.name: [kind for kind in (*KINDS, BUILT) if (row.name, kind) in tested] for row in block.rows}
        return BudgetRows(share, tuple(self.tested(row, kinds[row.name]) for row in block.rows))

    def built(self, row: Row) -> Row:
        """A row with the accuracy of the network that `run` would build for its plan."""
        if row.name not in self.plans:
            return row
        plan, refits = self.plans[row.name], self.study.refits
        self.kernels[row.name, BUILT] = lambda: composed(self.study.proxy, plan, refits.of(plan).stages)
        return replace(row, built=Score(refits(plan)))

    def tested(self, row: Row, kinds: Sequence[str]) -> Row:
        """A row with the test accuracies of some kinds of kernels."""
        scores = {kind: score for kind in kinds if (score := getattr(row, kind))}
        kernels = self.kernels
        return replace(row, **{k: replace(s, test=self.on_test(kernels[row.name, k]())) for k, s in scores.items()})

    def rows(self, budget: Costs) -> Iterator[Row]:
        """The rows for a budget: ours, every baseline, filter pruning."""
        yield row_or_reason(OURS, "the front", partial(self.row_of_ours, budget))
        others = [(rule.name, rule.source, partial(self.row_of_rule, rule, budget)) for rule in self.rules]
        others.append((FILTERS, SOURCE, partial(self.row_of_filters, budget)))
        (share,) = budget.values()
        with self.study.progress.task(f"baselines at {share:g}", len(others)) as step:
            for name, source, compute in others:
                step(0, note=name)
                yield row_or_reason(name, source, compute)
                step(1)

    def row_of_ours(self, budget: Costs) -> Row:
        """The point that is chosen off the front."""
        chosen, why = self.study.choose(self.study.points, budget)
        return replace(self.row(OURS, why, chosen.plan), trial=chosen.trial)

    def row_of_rule(self, rule: Baseline, budget: Costs) -> Row:
        """The plan of a rule."""
        row = self.row(rule.name, rule.source, plan := rule.plan(self.context, budget))
        return replace(row, dominated=self.count_dominated(self.study.proxy.measure(plan)))

    def row_of_filters(self, budget: Costs) -> Row:
        """Filter pruning: nothing is fitted."""
        pruned, proxy = prune_filters(self.study.proxy, budget), self.study.proxy
        shares = pruned.costs["params"], pruned.costs["macs"]
        measured = Measured(proxy.similarities(pruned.kernels), pruned.params, pruned.macs, *shares)
        self.kernels[FILTERS, "plain"] = lambda: pruned.kernels
        score, dominated = self.score(pruned.kernels), self.count_dominated(measured)
        return with_costs(Row(FILTERS, SOURCE, plain=score, dominated=dominated), measured)

    def row(self, name: str, source: str, plan: Plan) -> Row:
        """The row of a plan, with fitted and with data-free kernels."""
        self.plans[name] = plan
        fitted = partial(self.study.proxy.dense_kernels, plan)
        functions = {"fitted": fitted, "plain": partial(self.data_free.dense_kernels, plan)}
        for kind, kernels in functions.items():
            self.kernels[name, kind] = kernels
            if (plan, kind) not in self.scores:
                self.scores[plan, kind] = self.score(kernels())
        row = Row(name, source, fitted=self.scores[plan, "fitted"], plain=self.scores[plan, "plain"])
        return with_costs(row, self.study.proxy.measure(plan))

    def count_dominated(self, measured: Measured) -> int:
        """The number of points on the front that a measured network dominates in the study's costs."""
        costs = np.array([cost(measured) for cost in self.study.proxy.objectives.values()])
        front = cost_matrix(self.study.points)
        dominated = np.all(costs <= front, axis=1) & np.any(costs < front - COST_ROUNDING, axis=1)
        self.dominated_points |= set(np.flatnonzero(dominated).tolist())
        return int(dominated.sum())

    def score(self, kernels: Kernels) -> Score:
        """The validation accuracy with these kernels; BatchNorm is re-estimated where that helps."""
        return Score(self.study.accuracy.of(kernels))

    def on_test(self, kernels: Kernels) -> float:
        """The test accuracy with these kernels; BatchNorm is re-estimated in the same way."""
        test = self.study.data.test
        return replace(self.study.accuracy, images=test.pixels, labels=test.labels, known={}).of(kernels)

    def original(self) -> Score:
        """The accuracies of the original."""
        return replace(self.score({}), test=self.on_test({}) if self.test else None)


class DataFreeKernels:
    """Kernels of plans as published: factorized in the norm of the weights, without data."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.composed: LRUCache[tuple[str, Choice], Array] = LRUCache(MEMORY, getsizeof=lambda kernel: kernel.nbytes)

    def dense_kernels(self, plan: Plan) -> dict[str, Array]:
        """Site -> composed kernel as Keras lays it out, for the sites that the plan changes."""
        chosen = [(site, choice) for site, choice in plan if choice != INTACT]
        return {site: self.proxy.to_keras_layout(site, self.dense(site, choice)) for site, choice in chosen}

    def dense(self, site: str, choice: Choice) -> Array:
        """The kernel that a choice composes to, in the layer's own shape."""
        key = site, choice
        if key in self.composed:
            return self.composed[key]
        op, original = self.proxy.sites[site].op, self.proxy.kernels.originals[site]
        kernel = np.ascontiguousarray(compose(op, choice, LayerFitter(op, original).fit(choice)))
        put_if_fits(self.composed, key, kernel)
        return kernel


def row_or_reason(name: str, source: str, compute: Callable[[], Row]) -> Row:
    """A row, or the reason why there is none."""
    try:
        return compute()
    except LrfError as reason:
        return Row(name, source, str(reason))


def with_costs(row: Row, measured: Measured) -> Row:
    """A row with its costs."""
    return replace(row, params=measured.params_share, macs=measured.macs_share, loss=OBJECTIVES["loss"](measured))


def accuracy_on_few(study: SearchedStudy) -> Callable[[Plan], float]:
    """The accuracy of plans on few validation images, without new BatchNorm statistics."""
    accuracy = study.accuracy
    count = len(accuracy.labels)
    few = np.unique(np.linspace(0, count - 1, min(count, GREEDY_IMAGES)).round().astype(int))
    images, labels = accuracy.preprocess(accuracy.images[few]), accuracy.labels[few]
    return cache(lambda plan: float(np.mean(study.proxy.logits(plan, images).argmax(axis=1) == labels)))


def notes(study: SearchedStudy, test: bool) -> tuple[str, ...]:
    """Facts about the measurements that a fair reader should know."""
    count, small = len(study.accuracy.labels), study.data.validation_is_small
    return (
        f"Accuracies are of {count:,} {'validation and training' if small else 'validation'} images, before any "
        f"training: with kernels fitted to {study.calibration:,} calibration images as ours are, and with plain "
        "kernels as published; BatchNorm statistics are re-estimated wherever that helps. As built, the chains are "
        "also refitted in layer order where that is more accurate: those of ours and of the baseline that is best "
        "with fitted kernels.",
        *study.data.notes,
        "Our point is the most accurate as built of a dozen or more that these very validation images are shown to, so "
        "its accuracy is a little flattered; every baseline is one plan, for which greedy looks at "
        f"{min(count, GREEDY_IMAGES):,} of the images.",
        *([f"The {len(study.data.test):,} test images are only reported: nothing is chosen by them. {TESTED}"] * test),
    )
