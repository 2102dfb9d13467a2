"""Refitting chosen chains once more, in layer order, against what the compressed network itself feeds them.

A fit against the original's inputs leaves every layer blind to the errors of those before it. Here each chain is fitted
so that the *compressed* network's inputs give the *original's* outputs: with P the input patches in the compressed
network, Y the original layer's outputs and W its kernel, the chain V minimises |P V - Y|^2 + pull |P (V - W)|^2. That
is a fit under the moment P'P to the kernel that solves this without a chain. Of layers too wide for P'P only the last
stage B is solved for, with P the inputs of that stage and W the kernel so far.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lrf_optuna.chains.chain import Chain
from lrf_optuna.chains.conv import Array, Conv, Kernels, join_groups, split_groups
from lrf_optuna.chains.site import Site
from lrf_optuna.decompositions.registry import DECOMPOSITIONS
from lrf_optuna.fitting.layer_fit import as_matrix
from lrf_optuna.fitting.patches import patches
from lrf_optuna.fitting.second_moment import SecondMoment
from lrf_optuna.fitting.variable_projection import (
    MOST_ENTRIES,
    VariableProjection,
    compose_before_last,
    fit_stages,
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
    groups = dense.shape[-1] // op.cout
    parts = zip(*(split_groups(kernel, groups) for kernel in kernels), strict=True)
    refits = [GroupRefit(op, chain, *own) for own in zip(split_groups(dense, groups), parts, strict=True)]
    for rows, goals in pairs:
        for refit, inputs, goal in zip(refits, rows, goals, strict=True):
            refit.add(inputs, goal)
    return tuple(map(join_groups, zip(*(refit.fitted(pull, effort) for refit in refits), strict=True)))


class GroupRefit:
    """The refit of one group's chain: P'P and P'Y over batches, and their number of rows."""

    def __init__(self, op: Conv, chain: Chain, dense: Array, kernels: Kernels) -> None:
        self.op, self.chain, self.dense, self.kernels = op, chain, dense, kernels
        wide = op.params // op.cout > WIDE
        self.before_last = compose_before_last(chain, kernels) if wide else None
        inputs, outputs = as_matrix(kernels[-1] if wide else dense).shape
        self.gram, self.right, self.count = np.zeros((inputs, inputs)), np.zeros((inputs, outputs)), 0

    def add(self, rows: Array, goal: Array) -> None:
        """Add rows of the layer's inputs and of Y; the last stage of a contraction has one row a slice."""
        inputs = rows if self.before_last is None else rows @ self.before_last
        inputs, goal = inputs.reshape(-1, len(self.gram)), goal.reshape(-1, self.right.shape[1])
        self.gram += inputs.T @ inputs
        self.right += inputs.T @ goal
        self.count += len(inputs)

    def fitted(self, pull: float, effort: float) -> Kernels:
        """The stage kernels, fitted to the kernel that would serve best in the layer's place."""
        if self.before_last is not None:
            return *self.kernels[:-1], self.solution(self.kernels[-1], 0.0, pull)
        moment = SecondMoment.of(self.op.window, self.gram / self.count)
        goal = moment.root(as_matrix(self.solution(self.dense, moment.ridge * self.count, pull)))
        return fit_stages(VariableProjection(self.chain, moment, goal, effort), self.kernels)

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
