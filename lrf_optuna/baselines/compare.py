"""Our front against other rules for ranks and filter pruning: the same images, the same budgets, nothing tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from cachetools import LRUCache

from lrf_optuna.baselines.budget import Costs, RuleContext
from lrf_optuna.baselines.filter_pruning import pruned
from lrf_optuna.baselines.rules import Baseline, baselines_of
from lrf_optuna.chains.conv import Array
from lrf_optuna.data.dataset import Data
from lrf_optuna.decompositions.registry import compose
from lrf_optuna.errors import LrfError
from lrf_optuna.fitting.layer_fit import LayerFitter
from lrf_optuna.plans.comparison import (
    BUILT,
    FILTERS,
    KINDS,
    OURS,
    BudgetRows,
    Comparison,
    Row,
    Score,
)
from lrf_optuna.plans.front import cost_matrix, pareto_front
from lrf_optuna.plans.plan import INTACT, Candidate, Choice, Plan
from lrf_optuna.progress import SILENT, Progress
from lrf_optuna.scoring.kernel_store import put_if_fits
from lrf_optuna.scoring.objectives import OBJECTIVES, Measured
from lrf_optuna.scoring.option_table import OptionTable
from lrf_optuna.scoring.proxy import Proxy
from lrf_optuna.selection.accuracy import Accuracy
from lrf_optuna.selection.sequential_refit import PlanRefits, composed

QUICK = 500
"""Validation images at most that the greedy rule looks at, several times a layer; BatchNorm stays as it is for it."""
ROUNDING = 1e-6
"""What one cost differs by at least where a row dominates a point: the same plan measured twice may differ by less."""
MEMORY = 2**28
"""Bytes of plain kernels that are kept."""
SOURCE = "L1-norm filter pruning (Li et al., ICLR 2017)"
TESTED = "They are measured of ours, of filter pruning, and of the baselines that are best on validation images."
Kernels = Mapping[str, Array]


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
    contest = BaselineComparison(study, test)
    with study.proxy.single_blas_thread():
        blocks = tuple(contest.block(cost, budget) for budget in budgets)
    return Comparison(
        study.name,
        study.trials,
        cost,
        tuple(study.points[0].costs),
        len(study.points),
        len(contest.beaten),
        contest.original(),
        blocks,
        notes(study, test),
    )


@dataclass
class BaselineComparison:
    """Makes the rows of a comparison: `points` are the front; `beaten` gathers those of them that a row dominates.

    `known`: the scores of plans by the kind of their kernels; `plans`: of a block's rows; `made`: how kernels of the
    rows are made.
    """

    study: SearchedStudy
    test: bool = False
    beaten: set[int] = field(default_factory=set)
    known: dict[tuple[Plan, str], Score] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    made: dict[tuple[str, str], Callable[[], Kernels]] = field(default_factory=dict)

    @cached_property
    def context(self) -> RuleContext:
        """What the rules look at."""
        return RuleContext(self.study.proxy, self.study.table, quick(self.study))

    @cached_property
    def rules(self) -> list[Baseline]:
        """The baselines."""
        return list(baselines_of(self.study.proxy).values())

    @cached_property
    def plain(self) -> DataFreeKernels:
        """Kernels as published."""
        return DataFreeKernels(self.study.proxy)

    def block(self, cost: str, share: float) -> BudgetRows:
        """The rows for a budget, with test accuracies where they were asked for and matter."""
        self.made.clear()
        self.plans.clear()
        block = BudgetRows(share, tuple(self.rows({cost: share})))
        finals = {OURS} | ({best.name} if (best := block.best("fitted")) else set())
        block = BudgetRows(share, tuple(self.built(row) if row.name in finals else row for row in block.rows))
        if not self.test:
            return block
        ends = {(OURS, "fitted"), (OURS, "plain"), (FILTERS, "plain"), *((name, BUILT) for name in finals)}
        ends |= {(row.name, kind) for kind in KINDS if (row := block.best(kind))}
        kinds = (*KINDS, BUILT)
        return BudgetRows(
            share, tuple(self.tested(row, [kind for kind in kinds if (row.name, kind) in ends]) for row in block.rows)
        )

    def built(self, row: Row) -> Row:
        """A row with the accuracy of what `run` would build of its plan."""
        if row.name not in self.plans:
            return row
        plan, corrections = self.plans[row.name], self.study.refits
        self.made[row.name, BUILT] = lambda: composed(self.study.proxy, plan, corrections.of(plan).stages)
        return replace(row, built=Score(corrections(plan)))

    def tested(self, row: Row, kinds: Sequence[str]) -> Row:
        """A row with the test accuracies of some kinds."""
        there = {kind: score for kind in kinds if (score := getattr(row, kind))}
        return replace(row, **{k: replace(s, test=self.on_test(self.made[row.name, k]())) for k, s in there.items()})

    def rows(self, budget: Costs) -> Iterator[Row]:
        """The rows for a budget: ours, every baseline, filter pruning."""
        yield attempt(OURS, "the front", partial(self.ours, budget))
        ways = [(rule.name, rule.source, partial(self.planned, rule, budget)) for rule in self.rules]
        ways.append((FILTERS, SOURCE, partial(self.filters, budget)))
        (share,) = budget.values()
        with self.study.progress.task(f"baselines at {share:g}", len(ways)) as step:
            for name, source, make in ways:
                step(0, note=name)
                yield attempt(name, source, make)
                step(1)

    def ours(self, budget: Costs) -> Row:
        """The point that is chosen off the front."""
        chosen, why = self.study.choose(self.study.points, budget)
        return replace(self.row(OURS, why, chosen.plan), trial=chosen.trial)

    def planned(self, rule: Baseline, budget: Costs) -> Row:
        """What a rule makes of a budget."""
        found = self.row(rule.name, rule.source, plan := rule.plan(self.context, budget))
        return replace(found, dominated=self.dominated(self.study.proxy.measure(plan)))

    def row(self, name: str, source: str, plan: Plan) -> Row:
        """The row of a plan, with fitted and with plain kernels."""
        self.plans[name] = plan
        fitted_kernels = partial(self.study.proxy.dense_kernels, plan)
        ways = {"fitted": fitted_kernels, "plain": partial(self.plain.dense_kernels, plan)}
        self.made |= {(name, kind): make for kind, make in ways.items()}
        fitted, plain = (self.scored(plan, kind, make) for kind, make in ways.items())
        return filled(Row(name, source, fitted=fitted, plain=plain), self.study.proxy.measure(plan))

    def filters(self, budget: Costs) -> Row:
        """Filter pruning: nothing is fitted."""
        cut, proxy = pruned(self.study.proxy, budget), self.study.proxy
        measured = Measured(proxy.similarities(cut.kernels), cut.params, cut.macs, cut.params_share, cut.macs_share)
        self.made[FILTERS, "plain"] = lambda: cut.kernels
        plain, lost = self.score(cut.kernels), self.dominated(measured)
        return filled(Row(FILTERS, SOURCE, plain=plain, dominated=lost), measured)

    def dominated(self, measured: Measured) -> int:
        """How many points of the front something dominates in the study's costs."""
        theirs = np.array([cost(measured) for cost in self.study.proxy.objectives.values()])
        ours = cost_matrix(self.study.points)
        lost = np.all(theirs <= ours, axis=1) & np.any(theirs < ours - ROUNDING, axis=1)
        self.beaten |= set(np.flatnonzero(lost).tolist())
        return int(lost.sum())

    def scored(self, plan: Plan, kind: str, make: Callable[[], Kernels]) -> Score:
        """The accuracies of a plan with kernels of a kind; remembered."""
        if (plan, kind) not in self.known:
            self.known[plan, kind] = self.score(make())
        return self.known[plan, kind]

    def score(self, kernels: Kernels) -> Score:
        """The validation accuracy with these kernels, and BatchNorm re-estimated where that helps."""
        return Score(self.study.accuracy.of(kernels))

    def on_test(self, kernels: Kernels) -> float:
        """The test accuracy with these kernels, and BatchNorm re-estimated in the same way."""
        judge = self.study.accuracy
        return judge.right(self.study.data.test, kernels, judge.statistics(kernels))

    def original(self) -> Score:
        """The accuracies of the original."""
        return replace(self.score({}), test=self.on_test({}) if self.test else None)


class DataFreeKernels:
    """Kernels of plans as published: factorized in the norm of the weights, fitted to no data."""

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


def attempt(name: str, source: str, make: Callable[[], Row]) -> Row:
    """A row, or the reason why there is none."""
    try:
        return make()
    except LrfError as reason:
        return Row(name, source, str(reason))


def filled(row: Row, measured: Measured) -> Row:
    """A row with its costs."""
    return replace(row, params=measured.params_share, macs=measured.macs_share, loss=OBJECTIVES["loss"](measured))


def quick(study: SearchedStudy) -> Callable[[Plan], float]:
    """The accuracy of plans on few validation images, spread over all of those that points are compared on."""
    judge, known = study.accuracy, dict[Plan, float]()
    there = len(judge.labels)
    some = np.unique(np.linspace(0, there - 1, min(there, QUICK)).round().astype(int))
    images, labels = judge.preprocess(judge.images[some]), judge.labels[some]

    def right(plan: Plan) -> float:
        if plan not in known:
            known[plan] = float(np.mean(study.proxy.logits(plan, images).argmax(axis=1) == labels))
        return known[plan]

    return right


def notes(study: SearchedStudy, test: bool) -> tuple[str, ...]:
    """What a fair reader should know of how the rows were measured."""
    there, kind = (
        len(study.accuracy.labels),
        "validation and training" if study.data.validation_is_small else "validation",
    )
    return (
        f"Accuracies are of {there:,} {kind} images, before any training: with kernels fitted to "
        f"{study.calibration:,} calibration images as ours are, and with plain kernels as published; BatchNorm "
        "statistics are re-estimated wherever that helps. As built: the chains are also refitted in layer order where "
        "that is more accurate, ours and those of the baseline that is best with fitted kernels.",
        *study.data.notes,
        "Our point is the most accurate as built of a dozen or more that these very validation images are shown to, so "
        "its accuracy is a little flattered; every baseline is one plan, of which greedy looks at "
        f"{min(there, QUICK):,} of the images.",
        *([f"The {len(study.data.test):,} test images are only reported: nothing is chosen by them. {TESTED}"] * test),
    )
