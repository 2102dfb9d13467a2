"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here each chain is fitted
so that the *compressed* network's inputs give the *original's* outputs: with P the input patches in the compressed
network, Y the original layer's outputs and W its kernel, the chain V minimises |P V - Y|^2 + pull |P (V - W)|^2. That
is a fit under the moment P'P to the kernel that solves this without a chain. Of layers too wide for P'P only the last
stage B is solved for, with P the inputs of that stage and W the kernel so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, join_groups, split_groups
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.fitting.balance import balanced
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.fitting.patches import patches
from lrf_optuna.fitting.second_moment import SecondMoment
from lrf_optuna.fitting.variable_projection import (
    MOST_ENTRIES,
    VariableProjection,
    columns_of_last,
    compose_before_last,
    refine_stages,
    rows_of_last,
)
from lrf_optuna.plans.plan import Choice

WIDE = 2048
"""Rows of a kernel above which only the last stage is solved for."""


def group_chain(site: Site, choice: Choice) -> Chain:
    """The chain of one group of a site."""
    return DECOMPOSITIONS[choice.method].chain(site.op.part, choice.ranks)


def can_be_solved(site: Site, choice: Choice) -> bool:
    """Whether what goes into the last stage of a chain is small enough to be solved for."""
    op, last = site.op.part, group_chain(site, choice).stages[-1]
    return last.lead * rows_of_last(last) * (op.params // op.cout) <= MOST_ENTRIES


def refit_chain(
    op: Conv,
    chain: Chain,
    dense: Array,
    kernels: Kernels,
    pairs: Iterable[tuple[Array, Array]],
    pull: float,
    effort: float,
) -> Kernels:
    """The stage kernels fitted to input rows and the outputs that they should give, which have groups as first axis.

    `op` and `chain` are of one group, `dense` and `kernels` of all groups. `effort`: times the steps that a fit in a
    search may take.
    """
    groups, last = dense.shape[-1] // op.cout, chain.stages[-1]
    parts: list[Kernels] = list(zip(*(split_groups(kernel, groups) for kernel in kernels), strict=True))
    wide, narrow = op.params // op.cout, op.params // op.cout <= WIDE
    size = (wide, op.cout) if narrow else (rows_of_last(last), columns_of_last(last))
    ways = [None if narrow else compose_before_last(chain, part) for part in parts]
    sums = [NormalEquations.empty(*size) for _ in parts]
    for rows, goals in pairs:
        for total, r, way, goal in zip(sums, rows, ways, goals, strict=True):
            total.add(r if way is None else r @ way, goal)
    owns = split_groups(dense, groups)
    fitted = [
        refit_all_stages(op, chain, own, part, total, pull, effort)
        if narrow
        else (*part[:-1], total.solution(part[-1], 0.0, pull))
        for own, part, total in zip(owns, parts, sums, strict=True)
    ]
    return tuple(map(join_groups, zip(*fitted, strict=True)))


def refit_all_stages(
    op: Conv, chain: Chain, dense: Array, kernels: Kernels, sums: NormalEquations, pull: float, effort: float
) -> Kernels:
    """The stages of one group, fitted to the kernel that would serve best in the layer's place."""
    moment = SecondMoment.of(op.window, sums.gram / sums.count)
    goal = moment.root(as_matrix(sums.solution(dense, moment.ridge * sums.count, pull)))
    task = VariableProjection(chain, moment, goal, effort)
    return balanced(chain, refine_stages(task, balanced(chain, (*kernels[:-1], task.solved(kernels)))))


@dataclass(slots=True)
class NormalEquations:
    """P'P and P'Y over batches, and of how many rows."""

    gram: Array
    right: Array
    count: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> NormalEquations:
        """Nothing added yet."""
        return cls(np.zeros((inputs, inputs)), np.zeros((inputs, outputs)))

    def add(self, inputs: Array, goal: Array) -> None:
        """Take in rows of P and of Y; of a contraction one row a slice."""
        inputs, goal = inputs.reshape(-1, len(self.gram)), goal.reshape(-1, self.right.shape[1])
        self.gram += inputs.T @ inputs
        self.right += inputs.T @ goal
        self.count += len(inputs)

    def solution(self, kernel: Array, ridge: float, pull: float) -> Array:
        """The kernel that is best for what was added, pulled towards `kernel`, in its shape."""
        before = as_matrix(kernel)
        gram = (1 + pull) * self.gram
        gram[np.diag_indices(len(gram))] += ridge + 1e-7 * np.trace(gram) / len(gram) + 1e-30
        found: Array = np.linalg.solve(gram, self.right + pull * self.gram @ before + ridge * before)
        return found.astype(kernel.dtype).reshape(kernel.shape)


def call_patches(calls: list[Array], site: Site, positions: int, seed: int) -> Array:
    """Input patches of all calls of a site."""
    each = max(1, positions // len(calls))
    return np.concatenate([patches(maps, site.op, each, seed) for maps in calls])
